"""The arithmetic: spreads over rounds, ratios within rounds, verdicts on medians."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure, once per round."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a spread needs a value")

    @property
    def least(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def most(self) -> float:
        """The largest."""
        return max(self.values)


class Better(Enum):
    """Which of two figures is the better one."""

    MORE = "more"
    LESS = "less"

    def best(self, medians: Mapping[str, float]) -> str:
        """The name with the best of the figures."""
        return (max if self is Better.MORE else min)(medians, key=medians.__getitem__)

    def reached(self, figure: float, target: float) -> bool:
        """Whether the figure is as good as the target, or better."""
        return figure >= target if self is Better.MORE else figure <= target


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of ours, what it is held against, and the verdict."""

    what: str
    unit: str
    ours: Spread
    other: str
    """Whom it is compared with; empty where it stands for itself."""
    theirs: Spread | None
    compared: Spread | None
    """Per round: ours divided by theirs, or where `difference` ours less theirs."""
    difference: bool
    target: str
    """Empty where nothing is asked."""
    met: bool | None
    """None where nothing is asked."""
    pooled: float | None = None
    """The figure of all rounds' samples together, where the verdict is on that."""
    short: tuple[str, ...] = ()
    """Who is not, or not in every round, among those that the best was chosen from."""

    @property
    def verdict(self) -> str:
        """The word for it; empty where nothing is asked."""
        return "" if self.met is None else "met" if self.met else "MISSED"


def ratio_row(
    what: str,
    unit: str,
    ours: Sequence[float],
    peers: Mapping[str, Sequence[float]],
    *,
    better: Better,
    target: float | None,
) -> Row:
    """Ours against the peer with the best median: one ratio per round, the verdict on their median.

    A peer that has fewer rounds than ours, or more, is compared in the first ones, which both have.
    ValueError without peers.
    """
    best, theirs = _best(peers, better)
    ratios = Spread(tuple(_ratio(mine, other) for mine, other in zip(ours, theirs, strict=False)))
    return Row(
        what=what,
        unit=unit,
        ours=Spread(tuple(ours)),
        other=best,
        theirs=Spread(tuple(theirs)),
        compared=ratios,
        difference=False,
        target="" if target is None else f"{'≥' if better is Better.MORE else '≤'} {target:g} ×",
        met=None if target is None else better.reached(ratios.median, target),
    )


def not_behind_row(what: str, unit: str, ours: Sequence[float], peers: Mapping[str, Sequence[float]]) -> Row:
    """Ours less the best peer, of figures that may be negative and where less is better; met at 0 or below.

    Rounds pair up, and ValueError is raised, as for `ratio_row`.
    """
    best, theirs = _best(peers, Better.LESS)
    differences = Spread(tuple(mine - other for mine, other in zip(ours, theirs, strict=False)))
    return Row(
        what=what,
        unit=unit,
        ours=Spread(tuple(ours)),
        other=best,
        theirs=Spread(tuple(theirs)),
        compared=differences,
        difference=True,
        target="not behind",
        met=differences.median <= 0,
    )


def bound_row(
    what: str, unit: str, ours: Sequence[float], *, most: float | None = None, pooled: float | None = None
) -> Row:
    """Ours against a bound, or only told; the verdict on what is `pooled` of all rounds, or on the median."""
    spread = Spread(tuple(ours))
    judged = spread.median if pooled is None else pooled
    return Row(
        what=what,
        unit=unit,
        ours=spread,
        other="",
        theirs=None,
        compared=None,
        difference=False,
        target="" if most is None else f"≤ {most:g} {unit}",
        met=None if most is None else judged <= most,
        pooled=pooled,
    )


def _ratio(mine: float, other: float) -> float:
    """CPU time comes in ticks: that of a short round may be none at all."""
    return mine / other if other else math.inf


def _best(peers: Mapping[str, Sequence[float]], better: Better) -> tuple[str, Sequence[float]]:
    if not peers:
        raise ValueError("nobody to compare with")
    best = better.best({name: statistics.median(values) for name, values in peers.items()})
    return best, peers[best]

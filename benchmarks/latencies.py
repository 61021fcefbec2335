"""Latencies of one round, and what is told of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FEWEST_FOR_P99 = 300
"""With fewer samples a p99 is little else than the slowest of them."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """In milliseconds, in any order. ValueError when there are none."""

    values_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values_ms:
            raise ValueError("there is no latency to tell of")

    @property
    def p50_ms(self) -> float:
        """The median."""
        return quantile(sorted(self.values_ms), 0.50)

    @property
    def p99_ms(self) -> float:
        """What at most one of a hundred exceeds."""
        return quantile(sorted(self.values_ms), 0.99)


def from_ns(values: Iterable[int]) -> Latencies:
    """Of nanoseconds."""
    return Latencies(tuple(value / 1e6 for value in values))


def pooled(rounds: Iterable[Latencies]) -> Latencies:
    """Those of all rounds as one: only these are enough for a p99."""
    return Latencies(tuple(value for one in rounds for value in one.values_ms))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the ordered values that is not exceeded by at least this share of them."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]

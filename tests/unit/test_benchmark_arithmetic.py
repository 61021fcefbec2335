"""Spreads, ratios and verdicts of the benchmark."""

from __future__ import annotations

import math

import pytest

from benchmarks.comparison import Better, Spread, bound_row, not_behind_row, ratio_row
from benchmarks.effort import Effort
from benchmarks.latencies import Latencies, from_ns, pooled, quantile
from benchmarks.load import framed, unframed

SLOW, FAST = (100.0, 120.0, 110.0), (200.0, 150.0, 400.0)


def test_a_spread_is_told_by_its_ends_and_its_median() -> None:
    spread = Spread((3.0, 1.0, 2.0))
    assert (spread.least, spread.median, spread.most) == (1.0, 2.0, 3.0)


def test_a_spread_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a value"):
        Spread(())


def test_ratios_are_taken_within_rounds_against_the_best_median() -> None:
    row = ratio_row(
        "throughput",
        "tasks/s",
        (400.0, 330.0, 700.0),
        {"slow": SLOW, "fast": FAST},
        better=Better.MORE,
        target=2.0,
    )
    assert row.other == "fast"
    assert row.theirs == Spread(FAST)
    assert row.compared == Spread((2.0, 2.2, 1.75))
    assert row.target == "≥ 2 ×"
    assert row.verdict == "met", "the median ratio is exactly the target"


def test_a_cost_too_small_to_be_seen_is_still_compared() -> None:
    row = ratio_row("cost", "ms", (0.5, 0.5), {"short": (0.0, 1.0)}, better=Better.LESS, target=1.0)
    assert row.compared == Spread((math.inf, 0.5))
    assert row.verdict == "MISSED"


def test_one_good_round_makes_no_target_met() -> None:
    row = ratio_row(
        "throughput", "tasks/s", (399.0, 299.0, 4000.0), {"fast": FAST}, better=Better.MORE, target=2.0
    )
    assert row.verdict == "MISSED"


@pytest.mark.parametrize(("ours", "verdict"), [(100.0, "met"), (111.0, "MISSED")])
def test_of_costs_the_least_is_the_best(ours: float, verdict: str) -> None:
    row = ratio_row(
        "cost", "ms", (ours, ours, ours), {"slow": SLOW, "fast": FAST}, better=Better.LESS, target=1.0
    )
    assert (row.other, row.target, row.verdict) == ("slow", "≤ 1 ×", verdict)


@pytest.mark.parametrize(("ours", "ratios"), [((2.0,), (1.0,)), ((2.0, 3.0, 9.0), (1.0, 0.5))])
def test_only_rounds_of_both_are_compared(ours: tuple[float, ...], ratios: tuple[float, ...]) -> None:
    row = ratio_row("rate", "1/s", ours, {"failed": (2.0, 6.0)}, better=Better.MORE, target=1.0)
    assert row.ours == Spread(ours)
    assert row.compared == Spread(ratios)


def test_without_a_peer_there_is_no_ratio() -> None:
    with pytest.raises(ValueError, match="nobody"):
        ratio_row("cost", "ms", (1.0,), {}, better=Better.LESS, target=1.0)


@pytest.mark.parametrize(("ours", "verdict"), [(-0.5, "met"), (-0.4, "met"), (-0.3, "MISSED")])
def test_figures_below_zero_are_compared_by_difference(ours: float, verdict: str) -> None:
    row = not_behind_row("pick-up", "ms", (ours,), {"eager": (-0.4,), "late": (2.0,)})
    assert row.other == "eager"
    assert row.difference
    assert row.compared is not None
    assert row.compared.median == pytest.approx(ours + 0.4)
    assert row.verdict == verdict


@pytest.mark.parametrize(("median", "verdict"), [(5.0, "met"), (5.01, "MISSED")])
def test_a_bound_holds_for_the_median(median: float, verdict: str) -> None:
    row = bound_row("pick-up", "ms", (0.1, median, 90.0), most=5.0)
    assert (row.compared, row.target, row.verdict) == (None, "≤ 5 ms", verdict)


@pytest.mark.parametrize(("pooled", "verdict"), [(5.0, "met"), (5.01, "MISSED")])
def test_a_bound_of_what_is_pooled_leaves_the_median_alone(pooled: float, verdict: str) -> None:
    row = bound_row("pick-up", "ms", (0.1, 7.0, 90.0), most=5.0, pooled=pooled)
    assert (row.ours.median, row.verdict) == (7.0, verdict)


def test_where_nothing_is_asked_there_is_no_verdict() -> None:
    told = bound_row("GetTask", "ms", (1.0, 2.0, 3.0))
    beside = ratio_row("throughput", "tasks/s", (50.0,), {"fast": (200.0,)}, better=Better.MORE, target=None)
    assert (told.target, told.verdict, told.met) == ("", "", None)
    assert (beside.target, beside.verdict, beside.compared) == ("", "", Spread((0.25,)))


def test_latencies_of_rounds_are_pooled_for_their_p99() -> None:
    rounds = [from_ns(range(first, 300_000_000, 3_000_000)) for first in (1_000_000, 2_000_000, 3_000_000)]
    assert [len(one.values_ms) for one in rounds] == [100, 100, 99]
    assert rounds[0].p50_ms == 148.0
    assert pooled(rounds).p99_ms == 297.0


def test_without_a_sample_there_are_no_latencies() -> None:
    with pytest.raises(ValueError, match="no latency"):
        Latencies(())


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7], 0.99, 7),
        ([1, 2, 3, 4], 0.5, 2),
        ([1, 2, 3], 0.5, 2),
        (list(range(1, 101)), 0.99, 99),
        (list(range(1, 101)), 1.0, 100),
        (list(range(1, 201)), 0.99, 198),
        ([1, 2], 0.0, 1),
    ],
)
def test_a_quantile_is_the_least_value_that_enough_do_not_exceed(
    values: list[int], share: float, expected: int
) -> None:
    assert quantile(values, share) == expected


def test_a_round_is_as_long_as_asked_but_never_a_handful_of_tasks() -> None:
    effort = Effort(work_s=2.5)
    assert effort.tasks(1000.0, 10) == 2500
    assert effort.tasks(0.0, 10) == effort.warm_up_tasks
    assert effort.tasks(50.0, 100) == 1000
    assert effort.tasks(1e6, 10) == effort.most_tasks


def test_what_is_sent_comes_to_the_client_as_it_was() -> None:
    messages = [b"one", b"", b"x" * 300]
    assert unframed(b"".join(map(framed, messages))) == messages

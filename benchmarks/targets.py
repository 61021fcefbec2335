"""What is asked of the figures: each target as a row of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from benchmarks.comparison import Better, Row, bound_row, not_behind_row, ratio_row
from benchmarks.echo_ratio import GET_TASK, SUBMIT, Ratio
from benchmarks.latencies import FEWEST_FOR_P99, Latencies, pooled
from benchmarks.rounds import Results
from benchmarks.service import OURS, OURS_WITH_PICTURE
from benchmarks.worker_round import Work

T = TypeVar("T")
ECHO = "bare gRPC echo"
ECHO_TARGETS = {GET_TASK: 0.6, SUBMIT: 0.5}
THROUGHPUT, CPU = 2.0, 1.0
P50_MS, P99_MS = 5.0, 20.0


def echo_rows(ratios: Sequence[Ratio]) -> list[Row]:
    """The gRPC methods against an echo of the same messages."""
    return [
        ratio_row(
            f"{ratio.method.rsplit('/', 1)[-1]}, SQLite store",
            "requests/s",
            ratio.service_rates,
            {ECHO: ratio.echo_rates},
            better=Better.MORE,
            target=ECHO_TARGETS[ratio.method],
        )
        for ratio in ratios
    ]


def work_rows(concurrency: int, work: Mapping[str, Sequence[Work]]) -> list[Row]:
    """One worker's throughput and cost against the best peer's; none without a peer."""
    ours, peers = _split(work)
    if not ours or not peers:
        return []
    return [
        ratio_row(
            f"worker throughput, {concurrency} at once",
            "tasks/s",
            [one.tasks_per_s for one in ours],
            {name: [one.tasks_per_s for one in rounds] for name, rounds in peers.items()},
            better=Better.MORE,
            target=THROUGHPUT,
        ),
        ratio_row(
            f"worker CPU per task, {concurrency} at once",
            "ms",
            [one.cpu_ms_per_task for one in ours],
            {name: [one.cpu_ms_per_task for one in rounds] for name, rounds in peers.items()},
            better=Better.LESS,
            target=CPU,
        ),
    ]


def pick_up_rows(pick_ups: Mapping[str, Sequence[Latencies]]) -> list[Row]:
    """Pick-up against its bounds, and against the best peer where there is one.

    The p99 is that of all rounds' samples together; who has too few of them for one is not compared by it.
    """
    ours, peers = _split(pick_ups)
    if not ours:
        return []
    p50, every = [one.p50_ms for one in ours], pooled(ours)
    rows = [
        bound_row("pick-up, p50", "ms", p50, most=P50_MS),
        bound_row(f"pick-up, p99 of {len(every.values_ms)}", "ms", [every.p99_ms], most=P99_MS),
    ]
    their_p50 = {name: [one.p50_ms for one in rounds] for name, rounds in peers.items()}
    their_all = {name: pooled(rounds) for name, rounds in peers.items()}
    their_p99 = {
        name: [one.p99_ms] for name, one in their_all.items() if len(one.values_ms) >= FEWEST_FOR_P99
    }
    if their_p50:
        rows.append(not_behind_row("pick-up, p50 beside peers", "ms", p50, their_p50))
    if their_p99:
        rows.append(not_behind_row("pick-up, p99 beside peers", "ms", [every.p99_ms], their_p99))
    return rows


def rows_of(results: Results) -> list[Row]:
    """Every target that something was measured for."""
    rows = echo_rows(results.ratios)
    for concurrency, work in results.work.items():
        rows += work_rows(concurrency, work)
    return rows + pick_up_rows(results.pick_ups)


def _split(by_name: Mapping[str, Sequence[T]]) -> tuple[Sequence[T], dict[str, Sequence[T]]]:
    """Ours, and the peers that have as many rounds: the i-th of each were measured in turn."""
    ours = by_name.get(OURS, ())
    peers = {
        name: rounds[: len(ours)]
        for name, rounds in by_name.items()
        if name not in (OURS, OURS_WITH_PICTURE) and len(rounds) >= len(ours)
    }
    return ours, peers

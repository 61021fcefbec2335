"""What is asked of the figures: each target as a row of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from benchmarks import both_cores
from benchmarks.asynq import ASYNQ
from benchmarks.comparison import Better, Row, bound_row, not_behind_row, ratio_row
from benchmarks.echo_ratio import GET_TASK, SUBMIT, Ratio
from benchmarks.growth import Growth
from benchmarks.latencies import FEWEST_FOR_P99, Latencies, pooled
from benchmarks.open_waits import OpenWaits
from benchmarks.rounds import Results
from benchmarks.service import OURS, OURS_WITH_PICTURE
from benchmarks.soak import Soak
from benchmarks.start_up import StartUp
from benchmarks.sync_calls import SyncCalls
from benchmarks.worker_round import Work

T = TypeVar("T")
ECHO = "bare gRPC echo"
ECHO_TARGETS = {GET_TASK: 0.6, SUBMIT: 0.5}
THROUGHPUT, CPU = 2.0, 1.0
P50_MS, P99_MS = 5.0, 20.0
SYNC_P50_MS, SYNC_P99_MS = 1_010.0, 1_050.0
START_S, IDLE_MIB = 1.0, 90.0
WAITS_MIB, LAG_P99_MS = 400.0, 50.0
GROWTH, QUEUED_BYTES = 0.8, 200.0
SOAK_GROWTH = 1.05
"""Flat: between these two, allocators and caches breathe by a few per cent."""


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
    """One worker's throughput and cost against the best peer's; none without a peer.

    asynq is no peer in this: ours beside it is only told.
    """
    ours, peers = _split(work)
    scale = peers.pop(ASYNQ, None)
    if not ours:
        return []
    beside = []
    if scale is not None:
        beside = [
            ratio_row(
                f"worker throughput, {concurrency} at once, for scale",
                "tasks/s",
                [one.tasks_per_s for one in ours],
                {ASYNQ: [one.tasks_per_s for one in scale]},
                better=Better.MORE,
                target=None,
            )
        ]
    if not peers:
        return beside
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
        *beside,
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


def sync_rows(found: SyncCalls) -> list[Row]:
    """What callers wait for beyond the provider's second; the burst of all in one moment is only told."""
    what = f"GenerateImage, provider takes 1 s, {found.callers} callers"
    p50, p99 = [one.p50_ms for one in found.spread], [one.p99_ms for one in found.spread]
    burst = f"the same, all {found.callers} calls in one moment"
    return [
        bound_row(f"{what}, p50", "ms", p50, most=SYNC_P50_MS),
        bound_row(f"{what}, p99", "ms", p99, most=SYNC_P99_MS),
        bound_row(f"{burst}, p50", "ms", [one.p50_ms for one in found.at_once]),
        bound_row(f"{burst}, slowest", "ms", [max(one.values_ms) for one in found.at_once]),
    ]


def start_rows(starts: Sequence[StartUp]) -> list[Row]:
    """The api process alone."""
    return [
        bound_row("api, start to first answer", "s", [one.first_answer_s for one in starts], most=START_S),
        bound_row("api, idle", "MiB resident", [one.idle_mib for one in starts], most=IDLE_MIB),
    ]


def wait_rows(found: OpenWaits) -> list[Row]:
    """The api process with every call open; memory by the window that held most."""
    what, windows = f"{found.waits:,} sync calls open", found.windows
    most_mib = max(window.resident_mib for window in windows)
    return [
        bound_row(f"{what}, memory", "MiB resident", [most_mib], most=WAITS_MIB),
        bound_row(f"{what}, loop lag p99", "ms", [one.lag.p99_ms for one in windows], most=LAG_P99_MS),
        bound_row(f"{what}, other calls not answered", "calls", [sum(one.failed for one in windows)], most=0),
        bound_row(f"{what}, GetTask p50", "ms", [one.read.p50_ms for one in windows]),
        bound_row(f"{what}, GetTask p99", "ms", [one.read.p99_ms for one in windows]),
        bound_row(f"{what}, GenerateImageAsync p50", "ms", [one.submit.p50_ms for one in windows]),
    ]


def growth_rows(found: Growth) -> list[Row]:
    """Large against small, in turn; the memory of a queued task once."""
    small, large = found.small, found.large
    what, other = f"{found.tasks:,} tasks stored and queued", f"itself at {found.few:,}"
    figures = {
        "GetTask of any of": (
            "requests/s",
            [one.gets_per_s for one in large],
            [one.gets_per_s for one in small],
        ),
        "GenerateImageAsync over": (
            "requests/s",
            [one.submits_per_s for one in large],
            [one.submits_per_s for one in small],
        ),
        "worker over": ("tasks/s", [one.tasks_per_s for one in large], [one.tasks_per_s for one in small]),
    }
    return [
        ratio_row(f"{name} {what}", unit, ours, {other: theirs}, better=Better.MORE, target=GROWTH)
        for name, (unit, ours, theirs) in figures.items()
    ] + [
        ratio_row(
            "API CPU per GetTask of any of them",
            "ms",
            [one.cpu_ms_per_get for one in large],
            {other: [one.cpu_ms_per_get for one in small]},
            better=Better.LESS,
            target=None,
        ),
        ratio_row(
            "worker during its sweep's first walk over them",
            "tasks/s",
            [one.walking_tasks_per_s for one in large],
            {f"{other}, after its walk": [one.tasks_per_s for one in small]},
            better=Better.MORE,
            target=None,
        ),
        bound_row("the sweep's first walk over them", "s", [one.walk_s for one in large]),
        bound_row("the least that waited, at a round's end", "tasks", [min(one.left for one in large)]),
        bound_row(
            f"Redis per queued task, {found.tasks:,} of {found.callers:,} callers",
            "bytes",
            [found.bytes_per_task],
            most=QUEUED_BYTES,
        ),
    ]


def soak_rows(found: Soak) -> list[Row]:
    """Half load for long: what grew, and what failed."""
    what = f"{found.minutes:.0f} minutes at {found.calls_per_s:.0f} calls/s"
    rows = [
        bound_row(f"{what}, memory of {name}, end over beginning", "×", [growth], most=SOAK_GROWTH)
        for name, growth in found.growth().items()
    ]
    return [*rows, bound_row(f"{what}, errors", "calls", [found.errors], most=0)]


def rows_of(results: Results) -> list[Row]:
    """Every target that something was measured for."""
    rows = echo_rows(results.ratios) + both_cores.rows(results.scalings)
    for concurrency, work in results.work.items():
        rows += work_rows(concurrency, work)
    rows += pick_up_rows(results.pick_ups)
    if results.sync is not None:
        rows += sync_rows(results.sync)
    if results.starts:
        rows += start_rows(results.starts)
    if results.waits is not None:
        rows += wait_rows(results.waits)
    if results.growth is not None:
        rows += growth_rows(results.growth)
    if results.soak is not None:
        rows += soak_rows(results.soak)
    return rows


def _split(by_name: Mapping[str, Sequence[T]]) -> tuple[Sequence[T], dict[str, Sequence[T]]]:
    """Ours, and the peers that have as many rounds: the i-th of each were measured in turn."""
    ours = by_name.get(OURS, ())
    peers = {
        name: rounds[: len(ours)]
        for name, rounds in by_name.items()
        if name not in (OURS, OURS_WITH_PICTURE) and len(rounds) >= len(ours)
    }
    return ours, peers

"""The figures as rows of the report, each with what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import targets
from benchmarks.both_cores import Scaling
from benchmarks.comparison import Better, Row, bound_row, ratio_row
from benchmarks.echo_ratio import Ratio
from benchmarks.growth import Growth
from benchmarks.latencies import pooled
from benchmarks.load import H2LOAD
from benchmarks.open_waits import OpenWaits
from benchmarks.peer_rows import pick_up_rows, work_rows
from benchmarks.rounds import Results
from benchmarks.soak import Soak
from benchmarks.start_up import StartUp
from benchmarks.sync_calls import SyncCalls
from tests.distributed.several import PROCESSES

ECHO = "bare gRPC echo"


def echo_rows(ratios: Sequence[Ratio]) -> list[Row]:
    """The gRPC methods against an echo of the same messages; no verdict with the Python client, whose own
    cost pulls the ratio towards 1."""
    return [
        ratio_row(
            f"{ratio.method.rsplit('/', 1)[-1]}, SQLite store",
            "requests/s",
            ratio.service_rates,
            {ECHO: ratio.echo_rates},
            better=Better.MORE,
            target=targets.ECHO_TARGETS[ratio.method] if ratio.load_generator == H2LOAD else None,
        )
        for ratio in ratios
    ]


def cores_rows(scalings: Sequence[Scaling]) -> list[Row]:
    """Several api processes against one; no verdict with the Python client, which has one connection, and all
    calls of one connection go to one process."""
    return [
        ratio_row(
            f"{scaling.name}, `--processes {PROCESSES}`, SQLite store",
            "requests/s",
            [turn.requests_per_s for turn in scaling.several],
            {"one process": [turn.requests_per_s for turn in scaling.one]},
            better=Better.MORE,
            target=targets.BOTH_CORES if scaling.load_generator == H2LOAD else None,
        )
        for scaling in scalings
    ]


def sync_rows(found: SyncCalls) -> list[Row]:
    """What callers wait for beyond the provider's second, when they come evenly and when all come at once."""
    what = f"GenerateImage, provider takes 1 s, {found.callers} callers"
    rows = []
    for how, rounds in (("spread evenly", found.spread), ("all in one moment", found.at_once)):
        every = pooled(rounds)
        rows += [
            bound_row(
                f"{what}, calls {how}, p50", "ms", [one.p50_ms for one in rounds], most=targets.SYNC_P50_MS
            ),
            bound_row(
                f"{what}, calls {how}, p99 of {len(every.values_ms):,}",
                "ms",
                [one.p99_ms for one in rounds],
                most=targets.SYNC_P99_MS,
                pooled=every.p99_ms,
            ),
        ]
    return rows


def start_rows(starts: Sequence[StartUp]) -> list[Row]:
    """The api process alone, and what every part needs before it has anything to do."""
    rows = [
        bound_row(
            "api, SQLite store, start to first answer",
            "s",
            [one.first_answer_s for one in starts],
            most=targets.START_S,
        ),
        bound_row(
            "api, SQLite store, idle", "MiB resident", [one.idle_mib for one in starts], most=targets.IDLE_MIB
        ),
    ]
    return rows + [
        bound_row(f"{name}, idle", "MiB resident", [one.others_mib[name] for one in starts])
        for name in starts[0].others_mib
    ]


def wait_rows(found: OpenWaits) -> list[Row]:
    """The api process with every call open."""
    what, windows = f"{found.waits:,} sync calls open", found.windows
    peak_mib = max(window.peak_mib for window in windows)
    return [
        bound_row(f"{what}, most memory since the start", "MiB resident", [peak_mib], most=targets.WAITS_MIB),
        bound_row(f"{what}, memory", "MiB resident", [one.resident_mib for one in windows]),
        bound_row(
            f"{what}, loop lag p99",
            "ms",
            [one.lag.p99_ms for one in windows],
            most=targets.LAG_P99_MS,
            pooled=pooled(one.lag for one in windows).p99_ms,
        ),
        bound_row(f"{what}, loop lag, slowest", "ms", [max(one.lag.values_ms) for one in windows]),
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
        ratio_row(f"{name} {what}", unit, ours, {other: theirs}, better=Better.MORE, target=targets.GROWTH)
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
        bound_row("the least that waited, at a round's end", "tasks", [min(one.left for one in large)]),
        bound_row(
            f"Redis per queued task, {found.tasks:,} of {found.callers:,} callers",
            "bytes",
            [found.bytes_per_task],
            most=targets.QUEUED_BYTES,
        ),
    ]


def soak_rows(found: Soak) -> list[Row]:
    """Half load for long: what grew, and what failed; no verdict on growth before the time is over."""
    what = f"{found.minutes:.3g} minutes at {found.calls_per_s:.0f} calls/s"
    flat = targets.SOAK_GROWTH if found.minutes >= targets.SOAK_MINUTES else None
    rows = []
    for name, trend in found.trends().items():
        memory = f"{what}, resident memory of {name}"
        rows += [
            bound_row(f"{memory}, last fifth over second", "×", [trend.grown], most=flat),
            bound_row(f"{memory}, second fifth", "MiB", [trend.second_fifth_mib]),
            bound_row(f"{memory}, last fifth", "MiB", [trend.last_fifth_mib]),
            bound_row(f"{memory}, growth", "KiB per 1,000 calls", [trend.kib_per_1000_calls]),
        ]
    return [*rows, bound_row(f"{what}, errors", "calls", [found.errors], most=0)]


def rows_of(results: Results) -> list[Row]:
    """Every target that something was measured for."""
    rows = echo_rows(results.ratios) + cores_rows(results.scalings)
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

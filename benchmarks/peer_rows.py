"""Rows of the report that hold ours against other queue libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from benchmarks import targets
from benchmarks.asynq import ASYNQ
from benchmarks.comparison import Better, Row, bound_row, not_behind_row, ratio_row
from benchmarks.latencies import FEWEST_FOR_P99, pooled
from benchmarks.peer import PEERS
from benchmarks.service import OURS, OURS_WITH_PICTURE
from benchmarks.worker_round import PickUps, Work

T = TypeVar("T")


def work_rows(concurrency: int, work: Mapping[str, Sequence[Work]]) -> list[Row]:
    """One worker's throughput and cost against the best peer's; none without a peer.

    A peer that failed after some rounds is compared in those: it must not lower the bar by that. asynq is no
    peer in this: ours beside it is only told.
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
    rows = [
        ratio_row(
            f"worker throughput, {concurrency} at once",
            "tasks/s",
            [one.tasks_per_s for one in ours],
            {name: [one.tasks_per_s for one in rounds] for name, rounds in peers.items()},
            better=Better.MORE,
            target=targets.THROUGHPUT,
        ),
        ratio_row(
            f"worker CPU per task, {concurrency} at once",
            "ms",
            [one.cpu_ms_per_task for one in ours],
            {name: [one.cpu_ms_per_task for one in rounds] for name, rounds in peers.items()},
            better=Better.LESS,
            target=targets.CPU,
        ),
    ]
    return [*(replace(row, short=_short(work)) for row in rows), *beside]


def pick_up_rows(pick_ups: Mapping[str, Sequence[PickUps]]) -> list[Row]:
    """Pick-up against its bounds, and against the best peer where there is one.

    Bounds and comparison are on the time from the submit's return: the submit is another one with each. What
    a caller sees in all, from before it, stands beside. The p99 is that of all rounds' samples together; who
    has too few of them for one is not judged or compared by it.
    """
    ours, peers = _split(pick_ups)
    if not ours:
        return []
    every, returned = pooled(one.since_call for one in ours), pooled(one.since_return for one in ours)
    enough_of_ours = len(returned.values_ms) >= FEWEST_FOR_P99
    rows = [
        bound_row(
            "pick-up from the submit's return, p50",
            "ms",
            [one.since_return.p50_ms for one in ours],
            most=targets.P50_MS,
        ),
        bound_row(
            f"pick-up from the submit's return, p99 of {len(returned.values_ms)}",
            "ms",
            [returned.p99_ms],
            most=targets.P99_MS if enough_of_ours else None,
        ),
        bound_row("pick-up from before the submit, p50", "ms", [one.since_call.p50_ms for one in ours]),
        bound_row(f"pick-up from before the submit, p99 of {len(every.values_ms)}", "ms", [every.p99_ms]),
    ]
    if not peers:
        return rows
    short = _short(pick_ups)
    p50 = not_behind_row(
        "pick-up from the submit's return, p50 beside peers",
        "ms",
        [one.since_return.p50_ms for one in ours],
        {name: [one.since_return.p50_ms for one in rounds] for name, rounds in peers.items()},
    )
    rows.append(replace(p50, short=short))
    theirs = {name: pooled(one.since_return for one in rounds) for name, rounds in peers.items()}
    enough = {name: one for name, one in theirs.items() if len(one.values_ms) >= FEWEST_FOR_P99}
    if enough:
        p99 = not_behind_row(
            "pick-up from the submit's return, p99 beside peers",
            "ms",
            [returned.p99_ms],
            {name: [one.p99_ms] for name, one in enough.items()},
        )
        few = tuple(f"{name}: too few samples" for name in theirs if name not in enough)
        rows.append(replace(p99, short=(*short, *few)))
    return rows


def _split(by_name: Mapping[str, Sequence[T]]) -> tuple[Sequence[T], dict[str, Sequence[T]]]:
    """Ours, and every peer that has a round: the i-th of each were measured in turn."""
    peers = {
        name: rounds for name, rounds in by_name.items() if rounds and name not in (OURS, OURS_WITH_PICTURE)
    }
    return by_name.get(OURS, ()), peers


def _short(by_name: Mapping[str, Sequence[T]]) -> tuple[str, ...]:
    """Peers that are missing, or failed after some rounds."""
    planned = max(len(rounds) for rounds in by_name.values())
    measured = {peer.name: len(by_name.get(peer.name, ())) for peer in PEERS}
    return tuple(
        f"{name}: {rounds} of {planned} rounds" if rounds else f"{name}: missing"
        for name, rounds in measured.items()
        if rounds < planned
    )

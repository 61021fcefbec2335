"""Waiting tasks past their ttl in a pool that no worker serves: the sweep finds them, and they end."""

from __future__ import annotations

import pytest

from server.domain import life
from server.domain.errors import Reason, StoreUnavailable
from server.domain.task import TaskState
from server.domain.writes import Write
from server.ports import QueueUnavailable
from server.queue.sweep import COMPARE_INTERVAL_MS
from server.worker.expiry import AT_ONCE, end_overdue
from tests.integration.worker.bench import ME, Bench


async def overdue(bench: Bench) -> tuple[str, ...]:
    """What a sweep finds in one walk over everything."""
    sweep, found = bench.sweep(), list[str]()
    while (report := await sweep.step()).more or not found:
        found += report.overdue
    return tuple(found)


async def end(bench: Bench, task_ids: tuple[str, ...]) -> None:
    await end_overdue(
        task_ids, store=bench.store, queue=bench.queue, metrics=bench.metrics, clock=bench.now_ms
    )


async def test_what_nobody_claims_ends_when_its_time_is_over(bench: Bench) -> None:
    late = [await bench.accept(ttl_ms=-1, pool="no") for _ in range(AT_ONCE + 1)]
    held = await bench.accept(ttl_ms=-1)
    await bench.claim()
    await bench.store.write(
        Write(
            task_id=held.id,
            state=held.state,
            attempt=0,
            token_slot=1,
            set={"state": TaskState.PROCESSING.value},
        )
    )
    young = await bench.accept(pool="no")

    found = await overdue(bench)
    assert set(found) == {task.id for task in late}
    await end(bench, found)

    for task in late:
        ended = await bench.task(task.id)
        assert ended.state is TaskState.FAILED
        assert ended.error is not None
        assert ended.error.reason is Reason.TASK_EXPIRED
        assert await bench.place(task.id) == "gone"
    assert bench.finished(TaskState.FAILED) == len(late)
    assert (await bench.task(young.id)).state is TaskState.PENDING
    assert await bench.place(young.id) == "ready"


async def test_what_has_ended_meanwhile_is_not_ended_again_and_leaves_the_queue(bench: Bench) -> None:
    """A reader found it first, or Redis did not hear of its end; and nobody claims it."""
    late = [await bench.accept(ttl_ms=-1, pool="no") for _ in range(3)]
    held = await bench.accept(ttl_ms=-1)
    await bench.claim()
    assert await bench.store.write(life.expire(late[0], bench.now_ms()))
    assert await bench.store.write(life.expire(held, bench.now_ms()))
    bench.queue_faults.away = True
    with pytest.raises(QueueUnavailable):
        await end(bench, (late[1].id,))
    bench.queue_faults.wake()
    bench.store_faults.losing.add("write")
    with pytest.raises(StoreUnavailable):
        await end(bench, (late[2].id,))
    bench.store_faults.wake()

    await end(bench, tuple(task.id for task in late))
    assert bench.finished(TaskState.FAILED) == 1
    assert [await bench.place(task.id) for task in late] == ["ready"] * 3

    sweep = bench.sweep()
    while (await sweep.step()).more:
        pass
    bench.time_shift_ms += COMPARE_INTERVAL_MS
    removed = [(await sweep.step()).removed for _ in range(2)]
    assert sum(removed) == len(late)
    assert [await bench.place(task.id) for task in late] == ["gone"] * 3
    assert await bench.place(held.id) == f"leased to {ME}", "its holder takes it out, or its lease ends"
    await bench.flush()


async def test_one_that_cannot_be_read_keeps_no_other_from_its_end(bench: Bench) -> None:
    newer, late = [await bench.accept(ttl_ms=-1) for _ in range(2)]
    assert await bench.store.write(
        Write(task_id=newer.id, state=newer.state, attempt=0, token_slot=1, set={"type": "VIDEO"})
    )
    bench.accepted.remove(newer.id)
    await end(bench, (newer.id, late.id))
    assert (await bench.task(late.id)).state is TaskState.FAILED
    assert await bench.place(newer.id) == "ready", "for who can read it"
    await bench.flush()

"""Reading and waiting: woken by events, with a slow poll under them, and never later than promised."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.domain import life
from server.domain.errors import Draining, InvalidRequest, Reason, StoreUnavailable, TaskNotFound
from server.domain.task import Task, TaskState
from server.ports import Lane, Pool, now_ms
from server.service import waits as waits_module
from tests.integration.service.desk import Desk, SilentEvents, open_desk
from tests.unit.domain.tasks import image
from tests.waiting import until

LONG_S = 8.0
SOON_S = 2.0
POOL = Pool(code="lo", lanes=(Lane(name="local", limit=100),))


@pytest.fixture
async def silent_desk(tmp_path: Path, redis_url: str, redis_prefix: str) -> AsyncIterator[Desk]:
    """A desk whose events never come, although they claim to be connected."""
    events = SilentEvents(connected=True)
    async with open_desk(tmp_path, redis_url, redis_prefix, events=events) as opened:
        yield opened


async def listening(desk: Desk) -> None:
    """The events are connected."""
    await until(lambda: desk.events.connected, within_s=5, what="the event connection")


async def end(desk: Desk, task: Task) -> Task:
    """Cancel the task in the store; nobody is told."""
    assert await desk.store.write(life.cancel_pending(task, now_ms()))
    ended = await desk.store.get(task.id)
    assert ended is not None
    return ended


def waiting(desk: Desk) -> float:
    return desk.metrics.registry.get_sample_value("imagegen_waiting_calls") or 0.0


async def begun(desk: Desk, calls: int = 1) -> None:
    """So many calls wait, and have looked at their task."""
    await until(lambda: waiting(desk) == calls, within_s=5, what=f"{calls} waiting calls")
    await until(lambda: desk.store_faults.calls["get"] >= calls, within_s=5)


# --- reading -----------------------------------------------------------------------------------------


async def test_a_task_is_read_by_its_id(desk: Desk) -> None:
    task = await desk.submit()
    assert await desk.tasks.get(task.id) == task


@pytest.mark.parametrize(
    "task_id", ["task_1234567890", "x", "0" * 26, "x" * 128, "猫" * 26, "../../etc/passwd" + "x" * 10]
)
async def test_an_id_that_is_not_ours_is_not_found(desk: Desk, task_id: str) -> None:
    with pytest.raises(TaskNotFound) as caught:
        await desk.tasks.get(task_id)
    assert caught.value.metadata == {"task_id": task_id}


@pytest.mark.parametrize("task_id", ["", "x" * 129])
async def test_an_id_that_can_be_nobodys_is_invalid(desk: Desk, task_id: str) -> None:
    with pytest.raises(InvalidRequest):
        await desk.tasks.get(task_id)


async def test_without_the_store_nothing_is_read(desk: Desk) -> None:
    task = await desk.submit()
    desk.store_faults.away = True
    with pytest.raises(StoreUnavailable):
        await desk.tasks.get(task.id)


async def test_a_reader_sees_the_end_of_the_ttl(desk: Desk) -> None:
    """Without any worker: who reads it first writes it down."""
    task = await desk.submit(ttl_ms=1_000)
    assert (await desk.tasks.get(task.id)).state is TaskState.PENDING
    desk.time_shift_ms = 1_000
    seen = await asyncio.gather(*(desk.tasks.get(task.id) for _ in range(5)))
    assert {t.state for t in seen} == {TaskState.FAILED}
    assert len({t.revision for t in seen}) == 1
    assert seen[0].error is not None
    assert seen[0].error.reason is Reason.TASK_EXPIRED
    finished = desk.metrics.registry.get_sample_value("imagegen_tasks_finished_total", {"outcome": "FAILED"})
    assert finished == 1


# --- waking ------------------------------------------------------------------------------------------


async def test_a_wait_ends_with_the_task(desk: Desk) -> None:
    """Told by the worker's finish, through Redis."""
    async with desk.running():
        await listening(desk)
        task = await desk.submit()
        call = asyncio.create_task(desk.tasks.wait(task, timeout_s=LONG_S))
        await begun(desk)
        ended = await end(desk, task)
        start = time.monotonic()
        await desk.real_queue.finish(worker="worker-1", task_ids=[task.id])
        assert await call == ended
        assert time.monotonic() - start < SOON_S
        assert waiting(desk) == 0


async def test_every_waiter_is_woken(desk: Desk) -> None:
    async with desk.running():
        await listening(desk)
        one, other = await desk.submit(), await desk.submit()
        calls = [asyncio.create_task(desk.tasks.wait(one, timeout_s=LONG_S)) for _ in range(50)]
        quiet = asyncio.create_task(desk.tasks.wait(other, timeout_s=LONG_S))
        await begun(desk, 51)
        await end(desk, one)
        await desk.real_queue.announce([one.id])
        async with asyncio.timeout(SOON_S):
            answers = await asyncio.gather(*calls)
        assert {answer.state for answer in answers} == {TaskState.CANCELLED}
        assert not quiet.done()
        quiet.cancel()


async def test_a_change_before_the_subscription_is_seen(silent_desk: Desk) -> None:
    """The caller's reading is old; no event will tell."""
    task = await silent_desk.submit()
    ended = await end(silent_desk, task)
    async with asyncio.timeout(SOON_S):
        assert await silent_desk.tasks.wait(task, timeout_s=LONG_S) == ended


async def test_a_change_between_reading_and_waiting_is_seen(silent_desk: Desk) -> None:
    """Subscribed first: what is announced while the reader is busy with its reading wakes it."""
    task = await silent_desk.submit()
    seen: list[TaskState] = []
    async with asyncio.timeout(SOON_S):
        async for reading in silent_desk.tasks.changes(task, timeout_s=LONG_S):
            seen.append(reading.state)
            if len(seen) == 1:
                await end(silent_desk, task)
                silent_desk.waits.wake([task.id])
    assert seen == [TaskState.PENDING, TaskState.CANCELLED]


async def test_a_change_while_the_store_is_being_read_is_seen(silent_desk: Desk) -> None:
    task = await silent_desk.submit()
    gate = silent_desk.store_faults.gates["get"] = asyncio.Event()
    call = asyncio.create_task(silent_desk.tasks.wait(task, timeout_s=LONG_S))
    await until(lambda: silent_desk.store_faults.calls["get"], within_s=5)
    assert await silent_desk.store.write(life.cancel_pending(task, now_ms()))
    silent_desk.waits.wake([task.id])
    gate.set()
    async with asyncio.timeout(SOON_S):
        assert (await call).state is TaskState.CANCELLED


async def test_every_change_is_yielded_once(desk: Desk) -> None:
    async with desk.running():
        await listening(desk)
        task = await desk.submit(sequence=True, max_images=2)
        _, marked = write = life.mark(task, worker="worker-1", provider="local", paid=False, now_ms=now_ms())
        steps = [
            write[0],
            life.add_image(marked, image(0), now_ms()),
            life.add_image(marked, image(1), now_ms()),
            life.complete(marked, now_ms()),
        ]
        seen: list[tuple[TaskState, int]] = []
        async with asyncio.timeout(LONG_S):
            async for reading in desk.tasks.changes(task, timeout_s=LONG_S):
                seen.append((reading.state, len(reading.images)))
                if steps:
                    assert await desk.store.write(steps.pop(0))
                    await desk.real_queue.announce([task.id])
                    await desk.real_queue.announce([task.id])  # an event more is no change
    assert seen == [
        (TaskState.PENDING, 0),
        (TaskState.PROCESSING, 0),
        (TaskState.PROCESSING, 1),
        (TaskState.PROCESSING, 2),
        (TaskState.COMPLETED, 2),
    ]


# --- the net -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("connected", [True, False])
async def test_the_poll_catches_lost_events(
    tmp_path: Path, redis_url: str, redis_prefix: str, monkeypatch: pytest.MonkeyPatch, connected: bool
) -> None:
    """Slowly while events arrive, quicker while they do not."""
    quick = "POLL_S" if connected else "POLL_WITHOUT_EVENTS_S"
    slow = "POLL_WITHOUT_EVENTS_S" if connected else "POLL_S"
    monkeypatch.setattr(waits_module, quick, 0.05)
    monkeypatch.setattr(waits_module, slow, 3_600.0)
    monkeypatch.setattr(waits_module, "POLL_BATCH", 2)
    events = SilentEvents(connected=connected)
    async with open_desk(tmp_path, redis_url, redis_prefix, events=events) as desk, desk.running():
        tasks = [await desk.submit() for _ in range(5)]
        calls = [asyncio.create_task(desk.tasks.wait(task, timeout_s=LONG_S)) for task in tasks]
        await begun(desk, 5)
        for task in tasks:
            await end(desk, task)
        async with asyncio.timeout(LONG_S / 2):
            answers = await asyncio.gather(*calls)
        assert {answer.state for answer in answers} == {TaskState.CANCELLED}


async def test_the_poll_is_one_for_all(silent_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls wait for a task, it asks for revisions only, and reads nothing that is unchanged."""
    monkeypatch.setattr(waits_module, "POLL_S", 0.02)
    async with silent_desk.running():
        task = await silent_desk.submit()
        calls = [asyncio.create_task(silent_desk.tasks.wait(task, timeout_s=LONG_S)) for _ in range(20)]
        await begun(silent_desk, 20)
        await until(lambda: silent_desk.store_faults.calls["revisions"] >= 3, within_s=5)
        read, asked = silent_desk.store_faults.calls["get"], silent_desk.store_faults.calls["revisions"]
        await until(lambda: silent_desk.store_faults.calls["revisions"] >= asked + 5, within_s=5)
        assert silent_desk.store_faults.calls["get"] == read
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        asked = silent_desk.store_faults.calls["revisions"]
        await asyncio.sleep(0.1)
        assert silent_desk.store_faults.calls["revisions"] <= asked + 1, "nobody waits: nothing is asked"


async def test_the_poll_survives_the_store(silent_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits_module, "POLL_S", 0.02)
    async with silent_desk.running():
        task = await silent_desk.submit()
        call = asyncio.create_task(silent_desk.tasks.wait(task, timeout_s=LONG_S))
        await begun(silent_desk)
        silent_desk.store_faults.away = True
        asked = silent_desk.store_faults.calls["revisions"]
        await until(lambda: silent_desk.store_faults.calls["revisions"] >= asked + 2, within_s=5)
        silent_desk.store_faults.wake()
        await end(silent_desk, task)
        async with asyncio.timeout(LONG_S / 2):
            assert (await call).state is TaskState.CANCELLED


# --- the time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout_s", [0.0, 0.1])
async def test_a_wait_that_is_over_gives_the_task_as_it_stands(silent_desk: Desk, timeout_s: float) -> None:
    task = await silent_desk.submit()
    start = time.monotonic()
    assert await silent_desk.tasks.wait(task, timeout_s=timeout_s) == task
    assert timeout_s <= time.monotonic() - start < timeout_s + SOON_S
    assert waiting(silent_desk) == 0


async def test_a_waiter_sees_the_end_of_the_ttl(silent_desk: Desk) -> None:
    task = await silent_desk.submit(ttl_ms=1_000)
    start = time.monotonic()
    seen = await silent_desk.tasks.wait(task, timeout_s=LONG_S)
    assert seen.state is TaskState.FAILED
    assert seen.error is not None
    assert seen.error.reason is Reason.TASK_EXPIRED
    assert time.monotonic() - start < 1.0 + SOON_S


async def test_a_heartbeat_comes_although_nothing_happens(silent_desk: Desk) -> None:
    task = await silent_desk.submit()
    beats = 0
    async for seen in silent_desk.tasks.changes(task, timeout_s=LONG_S, heartbeat_s=0.03):
        assert seen == task
        beats += 1
        if beats == 5:
            break
    assert beats == 5


async def test_a_heartbeat_comes_without_the_store_too(silent_desk: Desk) -> None:
    task = await silent_desk.submit()
    silent_desk.store_faults.away = True
    beats = 0
    async with asyncio.timeout(LONG_S / 2):
        async for seen in silent_desk.tasks.changes(task, timeout_s=LONG_S, heartbeat_s=0.03):
            assert seen == task
            beats += 1
            if beats == 4:
                break


async def test_a_wait_outlasts_the_store(silent_desk: Desk) -> None:
    task = await silent_desk.submit()
    silent_desk.store_faults.failing.add("get")
    call = asyncio.create_task(silent_desk.tasks.wait(task, timeout_s=LONG_S))
    await until(lambda: silent_desk.store_faults.calls["get"] >= 3, within_s=5)
    assert await silent_desk.store.write(life.cancel_pending(task, now_ms()))
    silent_desk.store_faults.wake()
    async with asyncio.timeout(SOON_S):
        assert (await call).state is TaskState.CANCELLED


async def test_a_wait_without_the_store_ends_in_time(silent_desk: Desk) -> None:
    task = await silent_desk.submit()
    silent_desk.store_faults.away = True
    start = time.monotonic()
    assert await silent_desk.tasks.wait(task, timeout_s=0.5) == task
    assert time.monotonic() - start < 0.5 + SOON_S


async def test_a_caller_that_vanishes_is_forgotten(silent_desk: Desk) -> None:
    task = await silent_desk.submit()
    call = asyncio.create_task(silent_desk.tasks.wait(task, timeout_s=LONG_S))
    await begun(silent_desk)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert waiting(silent_desk) == 0


# --- the end of the process --------------------------------------------------------------------------


async def test_the_end_of_the_grace_ends_every_wait(silent_desk: Desk) -> None:
    tasks = [await silent_desk.submit() for _ in range(3)]
    calls = [asyncio.create_task(silent_desk.tasks.wait(task, timeout_s=LONG_S)) for task in tasks]
    await begun(silent_desk, 3)
    silent_desk.waits.end()
    async with asyncio.timeout(SOON_S):
        ends = await asyncio.gather(*calls, return_exceptions=True)
    for task, error in zip(tasks, ends, strict=True):
        assert isinstance(error, Draining)
        assert error.task_id == task.id
        assert error.retry_after_s is not None
    assert waiting(silent_desk) == 0


async def test_a_wait_after_the_end_does_not_begin(silent_desk: Desk) -> None:
    """A submit that was under way when the grace ended."""
    task = await silent_desk.submit()
    silent_desk.waits.end()
    async with asyncio.timeout(SOON_S):
        with pytest.raises(Draining):
            await silent_desk.tasks.wait(task, timeout_s=LONG_S)


async def test_a_task_that_is_over_needs_no_wait(silent_desk: Desk) -> None:
    ended = await end(silent_desk, await silent_desk.submit())
    silent_desk.waits.end()
    assert await silent_desk.tasks.wait(ended, timeout_s=LONG_S) == ended


async def test_a_task_that_ended_with_the_grace_is_answered(silent_desk: Desk) -> None:
    task = await silent_desk.submit()
    call = asyncio.create_task(silent_desk.tasks.wait(task, timeout_s=LONG_S))
    await begun(silent_desk)
    ended = await end(silent_desk, task)
    silent_desk.waits.end()
    assert await call == ended

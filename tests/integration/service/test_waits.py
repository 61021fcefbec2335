"""Reading and waiting: woken by events, with a slow poll under them, and never later than promised."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from server.domain import attempt_writes, life
from server.domain.task import TaskState
from server.ports import now_ms
from server.service import waits as waits_module
from tests.integration.service.desk import Desk, SilentEvents, open_desk
from tests.integration.service.waiting_calls import begun, end, listening, waiting
from tests.unit.domain.tasks import image
from tests.waiting import until

LONG_S = 8.0
SOON_S = 2.0


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
            attempt_writes.add_image(marked, image(0), now_ms()),
            attempt_writes.add_image(marked, image(1), now_ms()),
            attempt_writes.complete(marked, now_ms()),
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


async def test_the_poll_is_quick_once_when_events_come_back(
    tmp_path: Path, redis_url: str, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was announced while they were away is never heard of."""
    monkeypatch.setattr(waits_module, "POLL_S", 3_600.0)
    monkeypatch.setattr(waits_module, "POLL_WITHOUT_EVENTS_S", 0.05)
    events = SilentEvents(connected=True)
    async with open_desk(tmp_path, redis_url, redis_prefix, events=events) as desk, desk.running():
        task = await desk.submit()
        call = asyncio.create_task(desk.tasks.wait(task, timeout_s=LONG_S))
        await begun(desk)
        await end(desk, task)
        events.times_connected += 1  # away and back between two looks
        async with asyncio.timeout(LONG_S / 2):
            assert (await call).state is TaskState.CANCELLED


async def test_the_poll_is_one_for_all(
    tmp_path: Path, redis_url: str, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many calls wait for a task, it asks for revisions only, and reads nothing that is unchanged."""
    monkeypatch.setattr(waits_module, "POLL_S", 0.02)
    events = SilentEvents(connected=True)
    async with open_desk(tmp_path, redis_url, redis_prefix, events=events) as desk, desk.running():
        task = await desk.submit()
        calls = [asyncio.create_task(desk.tasks.wait(task, timeout_s=LONG_S)) for _ in range(20)]
        await begun(desk, 20)
        await until(lambda: desk.store_faults.calls["revisions"] >= 3, within_s=5)
        read, asked = desk.store_faults.calls["get"], desk.store_faults.calls["revisions"]
        await until(lambda: desk.store_faults.calls["revisions"] >= asked + 5, within_s=5)
        assert desk.store_faults.calls["get"] == read
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        asked, looks = desk.store_faults.calls["revisions"], events.looks
        await until(lambda: events.looks >= looks + 10, within_s=5, what="turns of the poll")
        assert desk.store_faults.calls["revisions"] == asked, "nobody waits: nothing is asked"


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

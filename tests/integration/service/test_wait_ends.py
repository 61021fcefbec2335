"""How long a wait lasts: its time, the ttl, the store away, and the end of the process."""

from __future__ import annotations

import asyncio
import time

import pytest
from ulid import ULID

from server.domain import life
from server.domain.errors import Draining, Reason
from server.domain.task import Attempt, AttemptOutcome, Call, CallState, TaskState
from server.ports import now_ms
from tests.fakes_store import make_task
from tests.integration.service.desk import Desk
from tests.integration.service.waiting_calls import begun, end, waiting
from tests.waiting import until

LONG_S = 8.0
SOON_S = 2.0


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


async def test_a_wait_for_a_purchase_that_outlasts_the_ttl_is_no_busy_loop(silent_desk: Desk) -> None:
    """What is bought is fetched after the ttl too: the task does not expire, and nothing is there to see."""
    now = now_ms()
    bought = Attempt(
        number=1,
        provider="local",
        worker="worker-1",
        start_time_ms=now - 5_000,
        end_time_ms=now - 1_000,
        outcome=AttemptOutcome.IN_DOUBT,
        calls={0: Call(state=CallState.DONE, paid=True, sent_time_ms=now - 5_000, receipt="r")},
    )
    task = make_task(str(ULID()), attempt=1, attempts={1: bought}, ttl_time_ms=now - 1)
    assert await silent_desk.store.insert(task)
    assert await silent_desk.tasks.wait(task, timeout_s=0.3) == task
    assert silent_desk.store_faults.calls["get"] <= 2, "after the subscription, and before the end"


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


@pytest.mark.parametrize("readings", [0, 1])
async def test_a_store_that_falls_silent_does_not_hold_up_the_answer(
    silent_desk: Desk, readings: int
) -> None:
    """From the first reading on, or later: the task is given as it was last seen."""
    task = await silent_desk.submit()
    start = time.monotonic()
    seen = 0
    async with asyncio.timeout(SOON_S):
        async for reading in silent_desk.tasks.changes(task, timeout_s=0.5, heartbeat_s=0.1):
            assert reading == task
            seen += 1
            if seen > readings:
                silent_desk.store_faults.gates["get"] = asyncio.Event()  # never set
    assert time.monotonic() - start >= 0.5
    assert waiting(silent_desk) == 0


async def test_when_the_time_is_up_the_store_is_not_asked_again(silent_desk: Desk) -> None:
    """The answer has to reach the caller before its deadline: no reading may stand in between."""
    task = await silent_desk.submit()
    assert await silent_desk.tasks.wait(task, timeout_s=0.1) == task
    assert silent_desk.store_faults.calls["get"] <= 2, "after the subscription, and before the end"


async def test_a_wait_ends_with_the_task_as_it_stands_although_nobody_told_of_the_change(
    silent_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.service.tasks.LAST_LOOK_S", 1.0)  # in time on a busy machine too
    task = await silent_desk.submit()
    call = asyncio.create_task(silent_desk.tasks.wait(task, timeout_s=2.0))
    await begun(silent_desk)
    ended = await end(silent_desk, task)
    assert await call == ended


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

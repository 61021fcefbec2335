"""Cancelling: at once what waits, through its worker what runs, never what is over."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from server.domain import attempt_writes, life, verdicts
from server.domain.errors import Reason, StoreUnavailable, TaskEnded, TaskError
from server.domain.task import AttemptOutcome, CallState, Counts, Task, TaskState
from server.domain.writes import Write
from server.ports import now_ms
from server.service.cancels import CANCEL_WAIT_S
from tests.integration.service.desk import Desk
from tests.waiting import until, until_async


async def write(desk: Desk, step: Write) -> None:
    assert await desk.store.write(step)


async def running(desk: Desk) -> Task:
    """A task that a worker has marked."""
    task = await desk.submit()
    step, marked = life.mark(task, worker="worker-1", provider="local", paid=True, now_ms=now_ms())
    await write(desk, step)
    return marked


async def queued(desk: Desk) -> bool:
    return await desk.real_queue.depth() > 0


async def test_a_waiting_task_ends_at_once_and_leaves_the_queue(desk: Desk) -> None:
    async with desk.running():
        task = await desk.submit()
        await until_async(lambda: queued(desk), within_s=5)
        cancelled = await desk.cancels.cancel(task.id)
        assert (cancelled.task.state, cancelled.sent) == (TaskState.CANCELLED, False)
        assert cancelled.task.error is not None
        assert cancelled.task.error.reason is Reason.TASK_CANCELLED
        assert await desk.real_queue.depth() == 0


async def test_a_cancelled_task_is_cancelled_again(desk: Desk) -> None:
    task = await desk.submit()
    first = await desk.cancels.cancel(task.id)
    assert await desk.cancels.cancel(task.id) == first


@pytest.mark.parametrize("state", [TaskState.COMPLETED, TaskState.FAILED])
async def test_what_is_over_cannot_be_cancelled(desk: Desk, state: TaskState) -> None:
    task = await running(desk)
    error = TaskError(reason=Reason.PROVIDER_REJECTED, message="No.")
    end = (
        attempt_writes.complete(task, now_ms())
        if state is TaskState.COMPLETED
        else attempt_writes.fail(task, error, now_ms(), outcome=AttemptOutcome.REJECTED)
    )
    await write(desk, end)
    before = await desk.tasks.get(task.id)
    with pytest.raises(TaskEnded) as refused:
        await desk.cancels.cancel(task.id)
    assert refused.value.metadata["state"] == state.value
    assert refused.value.task_id == task.id
    assert await desk.tasks.get(task.id) == before


async def test_a_running_task_is_ended_by_its_worker(desk: Desk) -> None:
    async with desk.running():
        task = await running(desk)
        asking = asyncio.create_task(desk.cancels.cancel(task.id))
        await until(lambda: desk.queue_faults.done["ask_to_cancel"], within_s=5)
        assert (await desk.tasks.get(task.id)).cancel_requested
        await write(desk, attempt_writes.cancel_running(task, now_ms()))
        await desk.real_queue.announce((task.id,))
        cancelled = await asking
    assert (cancelled.task.state, cancelled.sent) == (TaskState.CANCELLED, True)
    [call] = cancelled.task.attempts[1].calls.values()
    assert call.state is CallState.IN_DOUBT, "what was sent may be charged"


async def test_a_worker_that_had_sent_nothing_says_so(desk: Desk) -> None:
    async with desk.running():
        task = await running(desk)
        asking = asyncio.create_task(desk.cancels.cancel(task.id))
        await until(lambda: desk.queue_faults.done["ask_to_cancel"], within_s=5)
        await write(desk, attempt_writes.without_call(attempt_writes.cancel_running(task, now_ms()), task))
        await desk.real_queue.announce((task.id,))
        assert not (await asking).sent


async def test_a_worker_that_is_silent_has_a_second(desk: Desk) -> None:
    async with desk.running():
        task = await running(desk)
        began = time.monotonic()
        cancelled = await desk.cancels.cancel(task.id)
        assert CANCEL_WAIT_S <= time.monotonic() - began < CANCEL_WAIT_S + 2
    assert (cancelled.task.state, cancelled.sent) == (TaskState.PROCESSING, True)
    assert cancelled.task.cancel_requested


@pytest.mark.parametrize("redis", ["there", "hanging"])
async def test_a_caller_with_less_time_is_answered_within_it(desk: Desk, redis: str) -> None:
    hanging = asyncio.Event()
    if redis == "hanging":
        desk.queue_faults.gates |= {"ask_to_cancel": hanging, "discard": hanging}
    waiting, run = await desk.submit(), await running(desk)
    began = time.monotonic()
    ended = await desk.cancels.cancel(waiting.id, within_s=0.1)
    asked = await desk.cancels.cancel(run.id, within_s=0.1)
    assert time.monotonic() - began < CANCEL_WAIT_S
    assert ended.task.state is TaskState.CANCELLED
    assert (asked.task.state, asked.task.cancel_requested) == (TaskState.PROCESSING, True)
    assert desk.queue_faults.calls["ask_to_cancel"] == 1
    hanging.set()
    await desk.cancels.drain()


@pytest.mark.parametrize("silent", [False, True])
async def test_a_caller_whose_time_the_store_took_still_has_the_queue_told(desk: Desk, silent: bool) -> None:
    async with desk.running():
        task = await desk.submit()
        await until_async(lambda: queued(desk), within_s=5)
        gate = asyncio.Event()
        if silent:
            desk.queue_faults.gates["discard"] = gate
        with capture_logs() as logs:
            cancelled = await desk.cancels.cancel(task.id, within_s=0.0)
            assert cancelled.task.state is TaskState.CANCELLED
            await desk.cancels.drain()
        assert await queued(desk) == silent
    told = ["Redis did not answer in time; the cancel is in the store"] if silent else []
    assert [entry["event"] for entry in logs] == told


async def test_a_stop_waits_until_the_queue_is_told_of_a_cancel(desk: Desk) -> None:
    async with desk.running():
        task = await desk.submit()
        await until_async(lambda: queued(desk), within_s=5)
        gate = desk.queue_faults.gates["discard"] = asyncio.Event()
        await desk.cancels.cancel(task.id, within_s=0.0)
        draining = asyncio.create_task(desk.cancels.drain())
        await until(lambda: desk.queue_faults.calls["discard"], within_s=5)
        assert not draining.done()
        gate.set()
        await draining
        assert not await queued(desk)


async def test_a_task_that_its_worker_gives_back_meanwhile_ends(desk: Desk) -> None:
    """The worker had not heard of the cancel when it put the task back to waiting."""
    async with desk.running():
        task = await running(desk)
        asking = asyncio.create_task(desk.cancels.cancel(task.id))
        await until(lambda: desk.queue_faults.done["ask_to_cancel"], within_s=5)
        await write(desk, verdicts.after_drain(task, now_ms()))
        cancelled = await asking
    assert (cancelled.task.state, cancelled.sent) == (TaskState.CANCELLED, False)


async def test_a_waiting_task_with_a_call_in_doubt_may_have_been_sent(desk: Desk) -> None:
    task = await running(desk)
    error = TaskError(reason=Reason.PROVIDER_TIMEOUT, message="No answer.", retryable=True)
    back = attempt_writes.retry(
        task, error, now_ms(), outcome=AttemptOutcome.IN_DOUBT, delay_ms=60_000, counts=Counts()
    )
    await write(desk, back)
    cancelled = await desk.cancels.cancel(task.id)
    assert (cancelled.task.state, cancelled.sent) == (TaskState.CANCELLED, True)


async def test_a_task_that_is_claimed_in_between_is_asked_for_again(desk: Desk) -> None:
    task = await desk.submit()
    gate = desk.store_faults.gates["write"] = asyncio.Event()
    asking = asyncio.create_task(desk.cancels.cancel(task.id))
    await until(lambda: desk.store_faults.calls["write"], within_s=5)  # about to end a waiting task
    step, marked = life.mark(task, worker="worker-1", provider="local", paid=False, now_ms=now_ms())
    del desk.store_faults.gates["write"]
    await write(desk, step)
    gate.set()
    cancelled = await asking
    assert cancelled.task.attempt == marked.attempt
    assert cancelled.task.cancel_requested


async def test_without_redis_the_store_holds_the_cancel(desk: Desk) -> None:
    waiting, run = await desk.submit(), await running(desk)
    desk.queue_faults.away = True
    assert (await desk.cancels.cancel(waiting.id)).task.state is TaskState.CANCELLED
    cancelled = await desk.cancels.cancel(run.id)
    assert cancelled.task.cancel_requested
    assert list(await desk.store.cancel_requested([waiting.id, run.id])) == [run.id]


async def test_without_the_store_nothing_is_known(desk: Desk) -> None:
    task = await desk.submit()
    desk.store_faults.away = True
    with pytest.raises(StoreUnavailable):
        await desk.cancels.cancel(task.id)
    desk.store_faults.wake()
    assert replace(await desk.tasks.get(task.id), revision=1) == replace(task, revision=1)

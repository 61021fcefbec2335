"""The life of a task over a real store: what each write leaves behind, and what a late one cannot touch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from server.domain import attempt_writes, life, purchases, verdicts
from server.domain.errors import Reason
from server.domain.task import AttemptOutcome, CallState, Counts, Task, TaskState
from server.domain.writes import Write, with_images
from server.ports import TaskStore
from tests.contract.samples import NOW_MS, new_error, new_image, new_task
from tests.contract.steps import either_way, found, kept, running

pytestmark = either_way

Step = Callable[[Task], Write]


def mark(task: Task, worker: str = "w-9") -> Write:
    """The write by which a worker takes the task."""
    return life.mark(task, worker=worker, provider="ark", paid=True, now_ms=NOW_MS + 50)[0]


def retry(task: Task) -> Write:
    """The write by which a worker hands a failed task back."""
    return attempt_writes.retry(
        task,
        new_error(),
        NOW_MS + 60,
        outcome=AttemptOutcome.REJECTED,
        delay_ms=500,
        counts=Counts(errors=1),
    )


def fail(task: Task) -> Write:
    """The write by which a worker gives a task up."""
    return attempt_writes.fail(task, new_error(), NOW_MS + 60, outcome=AttemptOutcome.REJECTED)


async def do(store: TaskStore, write: Write) -> Task:
    """The task after the write, which must win."""
    before = await found(store, write.task_id)
    assert await store.write(write)
    after = await found(store, write.task_id)
    assert after.revision == before.revision + 1
    return after


async def test_marked_completed(store: TaskStore) -> None:
    pending = await kept(store, new_task())
    write, foreseen = life.mark(pending, worker="w-1", provider="ark", paid=True, now_ms=NOW_MS + 5)
    task = await do(store, write)
    assert (task.state, task.attempt, task.owner, task.provider) == (TaskState.PROCESSING, 1, "w-1", "ark")
    assert task.start_time_ms == task.attempts[1].start_time_ms == task.attempts[1].sent_time_ms == NOW_MS + 5
    assert task.attempts[1].calls[0].state is CallState.OPEN
    assert foreseen.attempts == task.attempts, "the worker goes by what it was told the store would hold"

    task = await do(store, with_images(attempt_writes.complete(task, NOW_MS + 9), [new_image(0)]))
    assert (task.state, task.end_time_ms, task.error) == (TaskState.COMPLETED, NOW_MS + 9, None)
    assert task.images == {0: new_image(0)}
    assert task.attempts[1].outcome is AttemptOutcome.SUCCEEDED
    assert task.attempts[1].calls[0].state is CallState.DONE
    assert task.attempts[1].paid


async def test_failed_tried_again_completed(store: TaskStore) -> None:
    task = await do(store, retry(await running(store)))
    assert (task.state, task.attempt, task.not_before_ms) == (TaskState.PENDING, 1, NOW_MS + 560)
    assert task.counts == Counts(errors=1)
    assert task.attempts[1].outcome is AttemptOutcome.REJECTED
    assert task.attempts[1].error == new_error()

    task = await do(store, mark(task))
    assert (task.attempt, task.owner, task.not_before_ms) == (2, "w-9", 0)
    assert task.start_time_ms == NOW_MS + 1, "the first start stands"
    assert list(task.attempts) == [1, 2]
    task = await do(store, attempt_writes.complete(task, NOW_MS + 70))
    assert task.attempts[2].outcome is AttemptOutcome.SUCCEEDED


async def test_a_drained_task_shows_no_purchase(store: TaskStore) -> None:
    task = await do(store, verdicts.after_drain(await running(store), NOW_MS + 2))
    assert task.state is TaskState.PENDING
    assert task.attempts[1].calls == {}
    assert task.attempts[1].outcome is AttemptOutcome.NOT_SENT
    assert purchases.paid_or_open_calls(task) == 0
    assert task.counts == Counts()


async def test_taken_over_from_a_lost_worker_in_one_write(store: TaskStore) -> None:
    lost = await running(store, worker="lost")
    task = await do(store, mark(lost))
    assert (task.attempt, task.owner, task.state) == (2, "w-9", TaskState.PROCESSING)
    assert task.attempts[1].outcome is AttemptOutcome.IN_DOUBT
    assert task.attempts[1].calls[0].state is CallState.IN_DOUBT
    assert task.attempts[1].error is not None
    assert task.attempts[1].error.reason is Reason.WORKER_LOST
    assert task.attempts[2].outcome is None

    for late in (
        attempt_writes.complete(lost, NOW_MS),
        attempt_writes.add_image(lost, new_image(), NOW_MS),
        retry(lost),
        fail(lost),
    ):
        assert not await store.write(late), "the lost worker comes back too late"
    assert await store.get(task.id) == task


async def test_of_two_who_take_over_one_wins(store: TaskStore) -> None:
    lost = await running(store, worker="lost")
    won = await asyncio.gather(*(store.write(mark(lost, f"w-{n}")) for n in range(5)))
    assert sum(won) == 1
    assert (await found(store, lost.id)).owner == f"w-{won.index(True)}"


async def test_a_takeover_and_the_late_finish_of_the_lost_worker_exclude_each_other(store: TaskStore) -> None:
    for _ in range(10):
        lost = await running(store, worker="lost")
        taken, finished = await asyncio.gather(
            store.write(mark(lost)),
            store.write(with_images(attempt_writes.complete(lost, NOW_MS), [new_image()])),
        )
        assert taken is not finished
        task = await found(store, lost.id)
        assert (task.state, task.attempt) == (
            (TaskState.PROCESSING, 2) if taken else (TaskState.COMPLETED, 1)
        )
        assert (0 in task.images) is finished


@pytest.mark.parametrize(
    ("state", "end"),
    [
        (TaskState.COMPLETED, lambda task: with_images(attempt_writes.complete(task, NOW_MS), [new_image()])),
        (TaskState.FAILED, fail),
        (TaskState.FAILED, lambda task: life.end_lost(task, new_error(), NOW_MS)),
        (TaskState.CANCELLED, lambda task: attempt_writes.cancel_running(task, NOW_MS)),
        (TaskState.CANCELLED, lambda task: life.cancel_lost(task, NOW_MS)),
    ],
)
async def test_a_terminal_state_never_changes(store: TaskStore, state: TaskState, end: Step) -> None:
    first = await running(store)
    pending = await do(store, retry(first))
    second = await do(store, mark(pending))
    ended = await do(store, end(second))
    assert ended.state is state

    late: list[Write] = [life.expire(pending, NOW_MS), life.cancel_pending(pending, NOW_MS), mark(pending)]
    for seen in (first, second, ended):
        late += [
            attempt_writes.add_image(seen, new_image(1), NOW_MS),
            attempt_writes.add_failure(seen, 1, new_error(), NOW_MS),
            attempt_writes.complete(seen, NOW_MS),
            attempt_writes.cancel_running(seen, NOW_MS),
            life.cancel_lost(seen, NOW_MS),
            life.end_lost(seen, new_error(), NOW_MS),
            retry(seen),
            fail(seen),
        ]
    late += [mark(first), mark(second), verdicts.after_drain(second, NOW_MS)]
    assert await asyncio.gather(*map(store.write, late)) == [False] * len(late)
    assert await store.get(ended.id) == ended
    assert await store.live_page(after="", limit=10) == []


async def test_a_waiting_task_ends_by_cancel_or_expiry(store: TaskStore) -> None:
    cancelled = await do(store, life.cancel_pending(await kept(store, new_task()), NOW_MS + 1))
    assert cancelled.state is TaskState.CANCELLED
    expired = await do(store, life.expire(await kept(store, new_task()), NOW_MS + 1))
    assert expired.state is TaskState.FAILED
    assert expired.error is not None
    assert expired.error.reason is Reason.TASK_EXPIRED


async def test_a_receipt_grows_while_its_call_is_open(store: TaskStore) -> None:
    task = await kept(store, new_task(request=replace(new_task().request, sequence=True, max_images=4)))
    task = await do(store, mark(task))
    for text, so_far in (("one", (0,)), ("two", (0, 2))):
        early = await do(store, attempt_writes.add_receipt(task, 0, text, NOW_MS, so_far=so_far))
        task = attempt_writes.with_receipt(task, 0, text, so_far=so_far)
        assert task.attempts == early.attempts, "the worker goes by what the store holds"
        assert task.attempts[1].calls[0].state is CallState.OPEN
        assert [step.indexes for step in purchases.to_fetch(early)] == [so_far]
    whole = await do(store, attempt_writes.add_receipt(task, 0, "all", NOW_MS))
    assert attempt_writes.with_receipt(task, 0, "all").attempts == whole.attempts
    assert whole.attempts[1].calls[0].state is CallState.DONE
    assert [step.indexes for step in purchases.to_fetch(whole)] == [(0, 1, 2, 3)]


async def test_a_sequence_that_fails_half_way_keeps_what_it_has(store: TaskStore) -> None:
    task = await kept(store, new_task(request=replace(new_task().request, sequence=True, max_images=4)))
    task = await do(store, mark(task))
    task = await do(store, attempt_writes.add_image(task, new_image(0), NOW_MS))
    task = await do(store, attempt_writes.add_failure(task, 1, new_error("Second."), NOW_MS))
    task = await do(store, fail(task))
    assert task.state is TaskState.COMPLETED
    assert task.images == {0: new_image(0)}
    assert task.failures == {1: new_error("Second."), 2: new_error(), 3: new_error()}

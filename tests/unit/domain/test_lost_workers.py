"""Verdicts on a task whose worker was lost: taken over, or ended within its budgets."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from server.domain.errors import Reason, TaskError
from server.domain.task import Counts, Task, TaskState
from server.domain.verdicts import MAX_LOST_WORKERS, lost_worker
from tests.unit.domain.record import Record
from tests.unit.domain.tasks import (
    NOW_MS,
    TTL_MS,
    error,
    image,
    in_attempt,
    pending,
    running,
    sequence,
    without_calls,
)

FAILED = TaskState.FAILED


def verdict_on(task: Task, *, now_ms: int = NOW_MS) -> Task | None:
    """The task after the verdict on its lost worker; None when it is taken over."""
    write = lost_worker(task, now_ms)
    return None if write is None else Record(task).after(write)


def failed_with(task: Task | None) -> Reason | None:
    assert task is not None, "the task was to end"
    assert task.state is FAILED
    assert task.error is not None
    return task.error.reason


@pytest.mark.parametrize(
    ("max_paid", "doubts", "taken_over"), [(1, 0, False), (2, 0, True), (2, 1, False), (3, 1, True)]
)
def test_a_worker_lost_after_a_paid_call_costs_a_paid_attempt(
    max_paid: int, doubts: int, taken_over: bool
) -> None:
    task = in_attempt(max_paid=max_paid, doubts=doubts)
    after = verdict_on(task)
    if taken_over:
        assert after is None
    else:
        assert failed_with(after) is Reason.OUTCOME_UNKNOWN


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(without_calls(running(pending(max_paid_attempts=1))), id="before a call"),
        pytest.param(running(pending(max_paid_attempts=1), paid=False), id="in an unpaid call"),
    ],
)
@pytest.mark.parametrize(("before", "taken_over"), [(0, True), (3, True), (4, False)])
def test_five_workers_may_be_lost_without_a_paid_call(lost: Task, before: int, taken_over: bool) -> None:
    after = verdict_on(replace(lost, counts=Counts(lost=before)))
    if taken_over:
        assert after is None
    else:
        assert failed_with(after) is Reason.WORKER_LOST
        assert after is not None
        assert after.counts.lost == MAX_LOST_WORKERS


def test_the_workers_lost_after_paid_calls_do_not_count_as_lost() -> None:
    assert verdict_on(in_attempt(counts=Counts(lost=4), max_paid=2)) is None


@pytest.mark.parametrize("task", [running(), without_calls(running())], ids=["called", "not called"])
def test_an_expired_task_is_not_taken_over(task: Task) -> None:
    assert failed_with(verdict_on(task, now_ms=NOW_MS + TTL_MS)) is Reason.TASK_EXPIRED


@pytest.mark.parametrize("max_paid", [1, 2])
def test_a_cancelled_task_ends_cancelled_with_its_lost_worker(max_paid: int) -> None:
    task = replace(in_attempt(max_paid=max_paid), cancel_requested=True)
    after = verdict_on(task, now_ms=NOW_MS + TTL_MS)
    assert after is not None
    assert after.state is TaskState.CANCELLED


def test_a_lost_sequence_keeps_its_images() -> None:
    task = replace(running(sequence(2, max_paid_attempts=1)), images={0: image(0)})
    after = verdict_on(task)
    assert after is not None
    assert (after.state, list(after.images)) == (TaskState.COMPLETED, [0])
    assert after.failures[1].reason is Reason.OUTCOME_UNKNOWN


@pytest.mark.parametrize("max_paid", [1, 2])
def test_a_worker_lost_after_the_last_image_leaves_nothing_to_buy(max_paid: int) -> None:
    task = replace(
        running(sequence(2, max_paid_attempts=max_paid)), images={0: image(0)}, failures={1: error()}
    )
    after = verdict_on(task)
    assert after is not None
    assert after.state is TaskState.COMPLETED
    assert (list(after.images), after.failures) == ([0], {1: error()})


def test_a_worker_lost_after_the_last_failure_leaves_that_failure() -> None:
    failure: TaskError = error(Reason.CONTENT_POLICY_OUTPUT, retryable=False)
    after = verdict_on(replace(running(sequence(2)), failures={0: failure, 1: failure}))
    assert failed_with(after) is Reason.CONTENT_POLICY_OUTPUT

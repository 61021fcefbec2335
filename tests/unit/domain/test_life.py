"""Every transition of a task, and what it changes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from server.domain import attempt_writes, life, purchases, verdicts, writes
from server.domain.errors import Reason
from server.domain.task import AttemptOutcome, CallState, Counts, Task, TaskState
from server.domain.writes import Write, with_images
from tests.unit.domain.record import Record
from tests.unit.domain.tasks import NOW_MS, error, image, pending, running, sequence, with_call, without_calls
from tests.unit.domain.writes import LATER_MS, fail, mark, retry

# --- marks ----------------------------------------------------------------------------------------


def test_a_mark_opens_the_next_attempt_with_its_first_call() -> None:
    task = pending(not_before_ms=NOW_MS)
    write, marked = life.mark(task, worker="worker-1", provider="ark", paid=True, now_ms=LATER_MS)
    after = Record(task).after(write)
    assert (after.state, after.attempt, after.owner) == (TaskState.PROCESSING, 1, "worker-1")
    assert (after.not_before_ms, after.start_time_ms) == (0, LATER_MS)
    attempt = after.attempts[1]
    assert (attempt.provider, attempt.worker, attempt.start_time_ms) == ("ark", "worker-1", LATER_MS)
    assert (attempt.outcome, attempt.end_time_ms, attempt.error) == (None, 0, None)
    assert [(c.state, c.paid, c.sent_time_ms) for c in attempt.calls.values()] == [
        (CallState.OPEN, True, LATER_MS)
    ]
    assert replace(marked, revision=after.revision, update_time_ms=LATER_MS) == after


def test_a_second_attempt_keeps_the_time_of_the_first_start() -> None:
    record = Record(pending())
    record.after(life.mark(record.task, worker="w", provider="ark", paid=True, now_ms=NOW_MS)[0])
    record.after(retry(record.task))
    write, marked = life.mark(record.task, worker="w", provider="ark", paid=True, now_ms=LATER_MS)
    after = record.after(write)
    assert after.start_time_ms == marked.start_time_ms == NOW_MS
    assert sorted(after.attempts) == [1, 2]


def test_taking_over_closes_the_lost_attempt_in_the_same_write() -> None:
    lost = with_call(running(pending(max_paid_attempts=3), worker="lost"), 1, CallState.DONE)
    write, marked = life.mark(lost, worker="next", provider="ark", paid=True, now_ms=LATER_MS)
    after = Record(lost).after(write)
    first, second = after.attempts[1], after.attempts[2]
    assert (first.outcome, first.end_time_ms) == (AttemptOutcome.IN_DOUBT, LATER_MS)
    assert first.error is not None
    assert first.error.reason is Reason.WORKER_LOST
    assert [c.state for c in first.calls.values()] == [CallState.IN_DOUBT, CallState.DONE]
    assert (second.worker, second.outcome) == ("next", None)
    assert after.counts == Counts(), "the money bounds a worker lost after a paid call"
    assert (marked.attempt, marked.owner, marked.counts) == (after.attempt, after.owner, after.counts)
    assert purchases.paid_or_open_calls(marked) == purchases.paid_or_open_calls(after) == 3
    assert {n: a.calls for n, a in marked.attempts.items()} == {n: a.calls for n, a in after.attempts.items()}


@pytest.mark.parametrize(
    ("lost", "outcome"),
    [
        pytest.param(without_calls(running()), AttemptOutcome.NOT_SENT, id="before a call"),
        pytest.param(running(paid=False), AttemptOutcome.IN_DOUBT, id="in an unpaid call"),
    ],
)
def test_a_worker_lost_without_a_paid_call_is_counted(lost: Task, outcome: AttemptOutcome) -> None:
    lost = replace(lost, counts=Counts(waits=3, errors=1, lost=2))
    write, marked = life.mark(lost, worker="next", provider="ark", paid=True, now_ms=LATER_MS)
    after = Record(lost).after(write)
    assert after.attempts[1].outcome is outcome
    assert after.counts == marked.counts == Counts(waits=3, errors=1, lost=3)


# --- ends -----------------------------------------------------------------------------------------


def test_images_of_a_sequence_are_seen_one_by_one() -> None:
    record = Record(sequence(3))
    record.after(life.mark(record.task, worker="w", provider="ark", paid=True, now_ms=NOW_MS)[0])
    after = record.after(attempt_writes.add_image(record.task, image(2), LATER_MS))
    assert (after.state, list(after.images)) == (TaskState.PROCESSING, [2])
    after = record.after(attempt_writes.add_failure(after, 0, error(), LATER_MS))
    assert (after.state, list(after.failures)) == (TaskState.PROCESSING, [0])
    after = record.after(with_images(attempt_writes.complete(after, LATER_MS), [image(1)]))
    assert (after.state, list(after.images), list(after.failures)) == (TaskState.COMPLETED, [1, 2], [0])
    assert after.attempts[1].outcome is AttemptOutcome.SUCCEEDED
    assert after.attempts[1].paid
    assert after.error is None


@pytest.mark.parametrize("step", ["fail", "end lost"])
def test_a_failure_with_an_image_completes_and_marks_the_missing_ones(step: str) -> None:
    task = running(sequence(4))
    record = Record(task)
    record.after(attempt_writes.add_image(task, image(1), NOW_MS))
    record.after(attempt_writes.add_failure(task, 0, error(Reason.CONTENT_POLICY_OUTPUT), NOW_MS))
    cause = error(Reason.OUTCOME_UNKNOWN)
    write = fail(record.task, cause) if step == "fail" else life.end_lost(record.task, cause, LATER_MS)
    after = record.after(write)
    assert (after.state, after.error) == (TaskState.COMPLETED, None)
    assert {i: f.reason for i, f in after.failures.items()} == {
        0: Reason.CONTENT_POLICY_OUTPUT,
        2: Reason.OUTCOME_UNKNOWN,
        3: Reason.OUTCOME_UNKNOWN,
    }


@pytest.mark.parametrize("step", ["fail", "end lost"])
def test_a_failure_without_any_image_fails(step: str) -> None:
    task = running(sequence(2))
    write = fail(task) if step == "fail" else life.end_lost(task, error(), LATER_MS)
    after = Record(task).after(write)
    assert (after.state, after.error, after.failures) == (TaskState.FAILED, error(), {})


@pytest.mark.parametrize(
    ("outcome", "call"),
    [
        (AttemptOutcome.REJECTED, CallState.DONE),
        (AttemptOutcome.IN_DOUBT, CallState.IN_DOUBT),
    ],
)
def test_the_end_of_an_attempt_closes_its_open_calls(outcome: AttemptOutcome, call: CallState) -> None:
    task = with_call(running(), 1, CallState.DONE)
    after = Record(task).after(attempt_writes.fail(task, error(), LATER_MS, outcome=outcome))
    assert [c.state for c in after.attempts[1].calls.values()] == [call, CallState.DONE]
    assert (after.attempts[1].outcome, after.attempts[1].error) == (outcome, error())


@pytest.mark.parametrize(
    "ended",
    [
        pytest.param(life.cancel_pending(pending(), LATER_MS), id="waiting"),
        pytest.param(attempt_writes.cancel_running(running(), LATER_MS), id="running"),
        pytest.param(life.cancel_lost(running(), LATER_MS), id="lost"),
    ],
)
def test_a_cancel_says_so(ended: Write) -> None:
    after = Record(pending() if ended.state is TaskState.PENDING else running()).after(ended)
    assert after.state is TaskState.CANCELLED
    assert after.error is not None
    assert after.error.reason is Reason.TASK_CANCELLED


def test_expiry_is_an_end_that_may_be_tried_again() -> None:
    task = pending()
    after = Record(task).after(life.expire(task, LATER_MS))
    assert after.state is TaskState.FAILED
    assert after.error is not None
    assert (after.error.reason, after.error.retryable) == (Reason.TASK_EXPIRED, True)


@pytest.mark.parametrize(("ms_left", "over"), [(1, False), (0, True), (-1, True)])
def test_the_ttl_ends_at_its_millisecond(ms_left: int, over: bool) -> None:
    task = pending()
    assert life.expired(task, task.ttl_time_ms - ms_left) is over


# --- back to waiting ------------------------------------------------------------------------------


@pytest.mark.parametrize(("delay_ms", "not_before_ms"), [(0, 0), (1, LATER_MS + 1), (900, LATER_MS + 900)])
def test_a_retry_waits_its_delay(delay_ms: int, not_before_ms: int) -> None:
    task = running()
    after = Record(task).after(retry(task, delay_ms=delay_ms))
    assert (after.state, after.not_before_ms) == (TaskState.PENDING, not_before_ms)
    assert after.counts == Counts(errors=1)
    assert (after.attempts[1].outcome, after.attempts[1].error) == (AttemptOutcome.NOT_SENT, error())


def test_a_give_back_removes_the_call_rows_and_keeps_the_attempt() -> None:
    task = with_call(running(), 1, CallState.OPEN)
    after = Record(task).after(attempt_writes.without_call(retry(task), task))
    assert after.attempts[1].calls == {}
    assert after.attempts[1].outcome is AttemptOutcome.NOT_SENT
    assert purchases.paid_or_open_calls(after) == 0
    assert after.attempts[1].sent_time_ms == 0


def test_a_give_back_leaves_the_calls_of_other_attempts() -> None:
    first = running()
    record = Record(first)
    record.after(
        attempt_writes.retry(
            first, error(), NOW_MS, outcome=AttemptOutcome.IN_DOUBT, delay_ms=0, counts=Counts()
        )
    )
    second = record.after(mark(record.task))
    after = record.after(attempt_writes.without_call(retry(second), second))
    assert [c.state for c in after.attempts[1].calls.values()] == [CallState.IN_DOUBT]
    assert after.attempts[2].calls == {}
    assert purchases.paid_or_open_calls(after) == 1


def test_a_wait_leaves_no_attempt_and_keeps_the_fence() -> None:
    """The number stays used: a worker that is still at it under that number changes nothing."""
    task = running()
    record = Record(task)
    after = record.after(
        attempt_writes.without_attempt(attempt_writes.without_call(retry(task, delay_ms=7), task), task)
    )
    assert (after.state, after.attempt, after.attempts) == (TaskState.PENDING, 1, {})
    assert after.not_before_ms == LATER_MS + 7
    assert not record.write(attempt_writes.complete(task, LATER_MS))
    again = record.after(mark(record.task))
    assert (again.attempt, list(again.attempts)) == (2, [2])


@pytest.mark.parametrize("images", [0, 1, 2])
def test_a_waiting_task_that_cannot_be_tried_keeps_its_images(images: int) -> None:
    task = replace(sequence(2), images={i: image(i) for i in range(images)})
    after = Record(task).after(life.end_waiting(task, error(), LATER_MS))
    assert after.state is (TaskState.COMPLETED if images else TaskState.FAILED)
    assert after.error == (None if images else error())
    assert after.failures == ({1: error()} if images == 1 else {})


def test_whatever_ends_an_attempt_keeps_its_images() -> None:
    task = running(sequence(2))
    after = Record(task).after(writes.with_images(retry(task), [image(1)]))
    assert (after.state, list(after.images)) == (TaskState.PENDING, [1])


def test_a_drained_attempt_counts_against_no_budget() -> None:
    task = replace(running(), counts=Counts(waits=1, errors=2, lost=3))
    after = Record(task).after(verdicts.after_drain(task, LATER_MS))
    assert (after.state, after.not_before_ms, after.counts) == (TaskState.PENDING, 0, task.counts)
    assert after.attempts[1].calls == {}
    assert after.attempts[1].error is not None
    assert after.attempts[1].error.reason is Reason.DRAINING


# --- what was bought ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "count", "is_open"),
    [
        (pending(), 0, False),
        (without_calls(running()), 0, False),
        (running(), 1, True),
        (running(paid=False), 0, False),
        (with_call(running(paid=False), 1, CallState.DONE), 1, False),
        (with_call(running(), 1, CallState.IN_DOUBT), 2, True),
    ],
)
def test_paid_calls_are_counted_in_every_state(task: Task, count: int, is_open: bool) -> None:
    assert purchases.paid_or_open_calls(task) == count
    assert purchases.open_paid_call(task) is is_open

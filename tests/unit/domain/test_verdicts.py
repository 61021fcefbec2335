"""The budgets: what becomes of a task after each kind of failure, at and on both sides of every bound."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from server.domain import life, verdicts
from server.domain.errors import Reason, TaskError
from server.domain.task import AttemptOutcome, Counts, Task, TaskState
from server.domain.verdicts import BACKOFF_CAP_MS, MAX_LOST_WORKERS, Failure, after_failure, lost_worker
from tests.unit.domain.record import Record
from tests.unit.domain.tasks import (
    NOW_MS,
    TTL_MS,
    error,
    image,
    pending,
    running,
    sequence,
    without_calls,
)

MAX_RETRIES = 3
JUST_UNDER_ONE = 1.0 - 2**-53

NOT_SENT = Failure(outcome=AttemptOutcome.NOT_SENT, error=error(), paid=True)
REFUSED = Failure(outcome=AttemptOutcome.REJECTED, error=error(), paid=True)
REFUSED_FOR_GOOD = replace(REFUSED, error=error(Reason.CONTENT_POLICY_INPUT, retryable=False))
BUSY = Failure(outcome=AttemptOutcome.REJECTED, error=error(Reason.RATE_LIMITED), paid=True, no_capacity=True)
IN_DOUBT = Failure(outcome=AttemptOutcome.IN_DOUBT, error=error(Reason.PROVIDER_TIMEOUT), paid=True)
FREE_IN_DOUBT = replace(IN_DOUBT, paid=False)

WAITS = TaskState.PENDING
FAILED = TaskState.FAILED


def in_attempt(
    *, counts: Counts | None = None, max_paid: int = 2, doubts: int = 0, paid: bool = True
) -> Task:
    """A running task that already has so many calls in doubt."""
    task = pending(counts=counts or Counts(), max_paid_attempts=max_paid)
    record = Record(task)
    for _ in range(doubts):
        doubtful = running(record.task)
        record = Record(doubtful)
        record.after(
            life.retry(
                doubtful,
                error(),
                NOW_MS,
                outcome=AttemptOutcome.IN_DOUBT,
                delay_ms=0,
                counts=doubtful.counts,
            )
        )
    return running(record.task, paid=paid)


def judge(
    task: Task,
    failure: Failure,
    *,
    now_ms: int = NOW_MS,
    jitter: float = 0.5,
    max_retries: int = MAX_RETRIES,
) -> tuple[Task, int | None]:
    """The task after its verdict, and the delay."""
    write, delay_ms = after_failure(task, failure, now_ms=now_ms, max_retries=max_retries, jitter=jitter)
    after = Record(task).after(write)
    assert (delay_ms is None) == after.state.terminal
    return after, delay_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the budget table."""

    task: Task
    failure: Failure
    state: TaskState
    reason: Reason | None = None
    counts: Counts = Counts()  # noqa: RUF009 - frozen
    paid_calls: int = 0


ROWS = {
    "refused, first time": Row(task=in_attempt(), failure=REFUSED, state=WAITS, counts=Counts(errors=1)),
    "refused, last retry": Row(
        task=in_attempt(counts=Counts(errors=2)), failure=REFUSED, state=WAITS, counts=Counts(errors=3)
    ),
    "refused, no retry left": Row(
        task=in_attempt(counts=Counts(errors=3)),
        failure=REFUSED,
        state=FAILED,
        reason=REFUSED.error.reason,
        counts=Counts(errors=3),
    ),
    "refused for good": Row(
        task=in_attempt(), failure=REFUSED_FOR_GOOD, state=FAILED, reason=Reason.CONTENT_POLICY_INPUT
    ),
    "not sent": Row(task=in_attempt(), failure=NOT_SENT, state=WAITS, counts=Counts(errors=1)),
    "no capacity": Row(task=in_attempt(), failure=BUSY, state=WAITS, counts=Counts(waits=1)),
    "no capacity, budgets used up": Row(
        task=in_attempt(counts=Counts(waits=500, errors=3, lost=4), doubts=1),
        failure=BUSY,
        state=WAITS,
        counts=Counts(waits=501, errors=3, lost=4),
        paid_calls=1,
    ),
    "in doubt, one call left": Row(task=in_attempt(), failure=IN_DOUBT, state=WAITS, paid_calls=1),
    "in doubt, none left": Row(
        task=in_attempt(doubts=1),
        failure=IN_DOUBT,
        state=FAILED,
        reason=Reason.OUTCOME_UNKNOWN,
        paid_calls=2,
    ),
    "in doubt, only one allowed": Row(
        task=in_attempt(max_paid=1),
        failure=IN_DOUBT,
        state=FAILED,
        reason=Reason.OUTCOME_UNKNOWN,
        paid_calls=1,
    ),
    "in doubt, three allowed": Row(
        task=in_attempt(max_paid=3, doubts=1), failure=IN_DOUBT, state=WAITS, paid_calls=2
    ),
    "in doubt after the retries are used up": Row(
        task=in_attempt(counts=Counts(errors=3)),
        failure=IN_DOUBT,
        state=WAITS,
        counts=Counts(errors=3),
        paid_calls=1,
    ),
    "refused after a doubt": Row(
        task=in_attempt(doubts=1), failure=REFUSED, state=WAITS, counts=Counts(errors=1), paid_calls=1
    ),
    "in doubt for free": Row(
        task=in_attempt(max_paid=1, paid=False),
        failure=FREE_IN_DOUBT,
        state=WAITS,
        counts=Counts(errors=1),
    ),
    "in doubt for free, no retry left": Row(
        task=in_attempt(counts=Counts(errors=3), paid=False),
        failure=FREE_IN_DOUBT,
        state=FAILED,
        reason=Reason.PROVIDER_TIMEOUT,
        counts=Counts(errors=3),
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_budget_table(row: Row) -> None:
    after, _ = judge(row.task, row.failure)
    assert after.state is row.state
    assert (after.error.reason if after.error else None) is row.reason
    assert after.counts == row.counts
    assert life.paid_or_open_calls(after) == row.paid_calls
    assert after.attempt == row.task.attempt, "the fence stays where it is"
    if row.failure.no_capacity:
        assert after.attempt not in after.attempts, "a wait is no attempt"
    else:
        attempt = after.attempts[after.attempt]
        assert attempt.outcome is row.failure.outcome
        assert attempt.error is not None
        assert (attempt.calls != {}) == (row.failure.outcome is AttemptOutcome.IN_DOUBT)


def test_without_retries_the_first_refusal_is_the_last() -> None:
    after, _ = judge(in_attempt(), REFUSED, max_retries=0)
    assert after.state is FAILED


def test_outcome_unknown_says_what_it_may_have_cost() -> None:
    after, _ = judge(in_attempt(max_paid=1), IN_DOUBT)
    assert after.error is not None
    assert not after.error.retryable
    assert "charged" in after.error.message


# --- the ttl --------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [REFUSED, NOT_SENT, BUSY, IN_DOUBT], ids=lambda f: f.outcome.value)
def test_after_the_ttl_nothing_is_tried_again(failure: Failure) -> None:
    after, _ = judge(in_attempt(), failure, now_ms=NOW_MS + TTL_MS)
    assert after.error is not None
    assert (after.state, after.error.reason) == (FAILED, Reason.TASK_EXPIRED)


def test_after_the_ttl_a_final_refusal_is_still_told() -> None:
    after, _ = judge(in_attempt(), REFUSED_FOR_GOOD, now_ms=NOW_MS + TTL_MS)
    assert after.error == REFUSED_FOR_GOOD.error


@pytest.mark.parametrize("left_ms", [1, 20_000])
def test_a_wait_never_passes_the_ttl(left_ms: int) -> None:
    failure = replace(BUSY, retry_after_ms=60_000)
    after, delay_ms = judge(in_attempt(), failure, now_ms=NOW_MS + TTL_MS - left_ms)
    assert delay_ms == left_ms
    assert after.not_before_ms == after.ttl_time_ms


# --- the delay ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "ceiling_ms"),
    [(0, 500), (1, 500), (2, 1_000), (3, 2_000), (6, 16_000), (7, 30_000), (8, 30_000), (10**9, 30_000)],
)
def test_the_ceiling_doubles_up_to_its_cap(failures: int, ceiling_ms: int) -> None:
    assert verdicts.backoff_ceiling_ms(failures) == ceiling_ms <= BACKOFF_CAP_MS


@pytest.mark.parametrize(
    ("jitter", "delay_ms"), [(0.0, 0), (0.5, 1_000), (JUST_UNDER_ONE, 1_999)], ids=["0", "half", "nearly 1"]
)
def test_jitter_is_a_share_of_the_whole_backoff(jitter: float, delay_ms: int) -> None:
    after, waited_ms = judge(in_attempt(counts=Counts(errors=2)), REFUSED, jitter=jitter)
    assert waited_ms == delay_ms
    assert after.not_before_ms == (NOW_MS + delay_ms if delay_ms else 0)


def test_waits_back_off_by_their_own_number() -> None:
    _, delay_ms = judge(in_attempt(counts=Counts(waits=4, errors=1)), BUSY, jitter=JUST_UNDER_ONE)
    assert delay_ms == 7_999


@pytest.mark.parametrize("failure", [BUSY, REFUSED, IN_DOUBT], ids=["busy", "refused", "in doubt"])
@pytest.mark.parametrize("retry_after_ms", [0, 1, 45_000])
def test_the_providers_word_on_when_to_come_back_is_taken(failure: Failure, retry_after_ms: int) -> None:
    _, delay_ms = judge(in_attempt(), replace(failure, retry_after_ms=retry_after_ms), jitter=0.9)
    assert delay_ms == retry_after_ms


# --- sequences ------------------------------------------------------------------------------------


def test_the_images_of_a_failed_sequence_are_kept() -> None:
    task = replace(running(sequence(3, counts=Counts(errors=3))), images={1: image(1)})
    after, _ = judge(task, REFUSED)
    assert after.state is TaskState.COMPLETED
    assert list(after.images) == [1]
    assert {i: f.reason for i, f in after.failures.items()} == {
        0: REFUSED.error.reason,
        2: REFUSED.error.reason,
    }


# --- lost workers ---------------------------------------------------------------------------------


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

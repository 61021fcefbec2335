"""The budgets: what becomes of a task after each kind of failure, at and on both sides of every bound."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from server.domain import purchases, verdicts
from server.domain.errors import Reason
from server.domain.task import AttemptOutcome, Counts, Task, TaskState
from server.domain.verdicts import BACKOFF_CAP_MS, LEAST_WAIT_MS, Failure, after_failure
from tests.unit.domain.record import Record
from tests.unit.domain.tasks import (
    NOW_MS,
    TTL_MS,
    error,
    image,
    in_attempt,
    running,
    sequence,
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
    assert purchases.paid_or_open_calls(after) == row.paid_calls
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
    assert delay_ms == (max(retry_after_ms, LEAST_WAIT_MS) if failure.no_capacity else retry_after_ms)


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

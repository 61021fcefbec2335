"""What becomes of a task after something went wrong: pure decisions within the task's budgets.

| what happened                                | counts against                                |
|----------------------------------------------|-----------------------------------------------|
| refused or surely not sent, retryable         | IMAGE_MAX_RETRIES                             |
| no capacity (429, concurrency)                | nothing but the ttl                           |
| in doubt, or its worker lost, after a paid call | the task's max_paid_attempts                |
| bought, but not fetched yet                  | time: an hour, or the ttl; never another call  |
| bought, and its link refused, or what came is no picture | time: ten minutes; never another call |
| worker lost before a paid call                | MAX_LOST_WORKERS                              |
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from server.domain import attempt_writes, life, purchases, writes
from server.domain.errors import Reason, TaskError
from server.domain.task import AttemptOutcome, Counts, Task
from server.domain.writes import Write

MAX_LOST_WORKERS = 5
"""So many workers may die over a task before a paid call was sent; then it ends FAILED / WORKER_LOST."""

BACKOFF_BASE_MS = 500
BACKOFF_CAP_MS = 30_000
UNLIKELY_CAP_MS = 120_000
LEAST_WAIT_MS = 100
"""A busy provider is not asked again sooner, whatever it says: nothing but the ttl bounds the waits."""


class Failure(Struct, frozen=True, kw_only=True, gc=False):
    """How an attempt failed."""

    outcome: AttemptOutcome
    """NOT_SENT, REJECTED or IN_DOUBT."""
    error: TaskError
    paid: bool
    """Whether the provider charges for its calls."""
    retry_after_ms: int | None = None
    """The provider's own word on when to come back."""
    no_capacity: bool = False
    bought: bool = False
    """The provider had said what it made, and fetching that failed."""
    unlikely: bool = False
    """A fetch that will hardly succeed: it is repeated less often, and not for an hour."""


def backoff_ceiling_ms(failures: int, *, cap_ms: int = BACKOFF_CAP_MS) -> int:
    """The most to wait after so many failures: exponential, bounded. Full jitter: wait any part of it."""
    return min(cap_ms, BACKOFF_BASE_MS << min(max(failures - 1, 0), 16))


def after_failure(
    task: Task, failure: Failure, *, now_ms: int, max_retries: int, jitter: float
) -> tuple[Write, int | None]:
    """The write that ends the attempt, and the delay until the next one in ms; None: the task is over.

    `jitter` is a uniform random number in [0, 1): the share of the back-off that is waited.
    """
    error, outcome = failure.error, failure.outcome
    delay_ms = failure.retry_after_ms
    unlikely = failure.bought and failure.unlikely

    def freed(write: Write) -> Write:
        return write if outcome is AttemptOutcome.IN_DOUBT else attempt_writes.without_call(write, task)

    def again(counts: Counts, failures: int) -> tuple[Write, int]:
        ceiling_ms = backoff_ceiling_ms(failures, cap_ms=UNLIKELY_CAP_MS if unlikely else BACKOFF_CAP_MS)
        wait = delay_ms if delay_ms is not None else int(ceiling_ms * jitter)
        if failure.no_capacity:
            wait = max(wait, LEAST_WAIT_MS)
        if not failure.bought:  # the ttl bounds purchases; what is bought may be fetched after it
            wait = min(wait, max(0, task.ttl_time_ms - now_ms))
        write = attempt_writes.retry(task, error, now_ms, outcome=outcome, delay_ms=wait, counts=counts)
        return freed(write), wait

    def fetch_again() -> tuple[Write, int]:
        counts = task.counts
        fetches = counts.fetches + 1
        return again(replace(counts, fetches=fetches, unlikely=counts.unlikely + unlikely), fetches)

    def over(final: TaskError) -> tuple[Write, int | None]:
        bought = {index for step in purchases.to_fetch(task) for index in step.indexes}
        if failure.bought or not bought:
            return freed(attempt_writes.fail(task, final, now_ms, outcome=outcome)), None
        # What can still be fetched is not given up with what cannot be bought.
        write, wait = fetch_again()
        lost = {f"failures.{index}": final for index in task.missing_images if index not in bought}
        return replace(write, set={**write.set, **lost}), wait

    doubtful = outcome is AttemptOutcome.IN_DOUBT and failure.paid and not failure.bought
    if not (error.retryable or failure.no_capacity or doubtful):
        return over(error)  # whatever may yet be bought: it would fail again
    if life.expired(task, now_ms):
        return over(writes.expiry() if error.retryable else error)
    if not purchases.plan(attempt_writes.as_ended(task, outcome), groups=True):
        return over(writes.outcome_unknown(writes.NO_ANSWER) if error.retryable else error)
    if failure.no_capacity:
        waits = task.counts.waits + 1
        write, wait = again(replace(task.counts, waits=waits), waits)
        return attempt_writes.without_attempt(write, task), wait
    if doubtful:
        return again(task.counts, 1)
    if failure.bought:
        return fetch_again() if purchases.may_fetch_again(task, now_ms, unlikely=unlikely) else over(error)
    if task.counts.errors < max_retries:
        errors = task.counts.errors + 1
        return again(replace(task.counts, errors=errors), errors)
    return over(error)


def after_drain(task: Task, now_ms: int, *, error: TaskError | None = None) -> Write:
    """A worker that must let go returns a task of which no call is under way; it counts against no budget.

    `error`: why, where it is not the worker that stops.
    """
    calls = task.attempts[task.attempt].calls.values()
    bought = any(purchases.delivered(task, call) for call in calls)
    error = error or TaskError(
        reason=Reason.DRAINING, message="The worker had to let go before the end.", retryable=True
    )
    back = attempt_writes.retry(
        task,
        error,
        now_ms,
        outcome=AttemptOutcome.IN_DOUBT if bought else AttemptOutcome.NOT_SENT,
        delay_ms=0,
        counts=task.counts,
    )
    return attempt_writes.without_call(back, task)


def lost_worker(task: Task, now_ms: int) -> Write | None:
    """The end of a task that may not be tried again after its worker was lost; None: take it over."""
    if task.cancel_requested:
        return life.cancel_lost(task, now_ms)
    if not task.missing_images:  # lost between the last image and the end: there is nothing to buy
        return life.end_lost(task, next(iter(task.failures.values()), writes.expiry()), now_ms)
    if not purchases.plan(task, groups=True):
        return life.end_lost(
            task, writes.outcome_unknown("The worker was lost after a paid call was sent"), now_ms
        )
    if not purchases.open_paid_call(task) and task.counts.lost + 1 >= MAX_LOST_WORKERS:
        error = TaskError(
            reason=Reason.WORKER_LOST,
            message=f"{MAX_LOST_WORKERS} workers were lost while they held this task. It may be what ends "
            "them: check the workers' memory limits before submitting it again.",
        )
        return life.end_lost(task, error, now_ms)
    return life.end_lost(task, writes.expiry(), now_ms) if life.expired(task, now_ms) else None

"""How a waiting or orphaned task may change: pure functions from (task, now) to one conditional write.

What the attempt's own worker may write is in `server.domain.attempt_writes`.
"""

from __future__ import annotations

from msgspec.structs import replace

from server.domain import purchases
from server.domain.errors import Reason, TaskError
from server.domain.money import Price
from server.domain.task import (
    Attempt,
    AttemptOutcome,
    Call,
    CallState,
    Task,
    TaskState,
)
from server.domain.writes import (
    NO_ANSWER,
    Value,
    Write,
    cancelled,
    closed,
    end,
    end_in_failure,
    expiry,
    outcome_unknown,
)

CANCEL_SLOT = "cancel"
"""The token slot of those who ask for a cancel: the worker's own writes are told apart from theirs."""


def expired(task: Task, now_ms: int) -> bool:
    """Whether no new attempt may start any more. What is bought already is fetched, however late."""
    return now_ms >= task.ttl_time_ms and not purchases.to_fetch(task)


def expire(task: Task, now_ms: int) -> Write:
    """A waiting task whose ttl is over ends: TASK_EXPIRED."""
    return end_waiting(task, expiry(), now_ms)


def end_waiting(task: Task, error: TaskError, now_ms: int) -> Write:
    """A waiting task that cannot be tried ends: FAILED, or COMPLETED when it has at least one image."""
    return end_in_failure(task, error, now_ms, closing={})


def cancel_pending(task: Task, now_ms: int) -> Write:
    """A waiting task that is cancelled ends at once."""
    return end(task, now_ms, state=TaskState.CANCELLED, error=cancelled())


def request_cancel(task: Task, now_ms: int) -> Write:
    """A task that a worker has shall end: its worker, or who takes over from it, sees that it does."""
    changes: dict[str, Value] = {"cancel_requested": True, "update_time_ms": now_ms}
    return Write(
        task_id=task.id,
        state=TaskState.PROCESSING,
        attempt=task.attempt,
        token_slot=CANCEL_SLOT,
        set=changes,
    )


def mark(
    task: Task,
    *,
    worker: str,
    provider: str,
    paid: bool,
    now_ms: int,
    groups: bool = True,
    price: Price | None = None,
) -> tuple[Write, Task]:
    """Start attempt n+1 of a waiting task, or of one whose worker is lost, its first purchase written down.

    There must be something left to do (`purchases.plan`). An attempt that begins with what is bought already
    has no call yet. Images for which no further call is permitted, or is too late, are given up. Taking over
    closes the lost worker's attempt in the same write, so there is no moment in which two attempts are open.
    Returns the write, and the task as it is once the write has won, as far as its worker goes by it.
    """
    number = task.attempt + 1
    ahead, late = purchases.outlook(task), now_ms >= task.ttl_time_ms
    given_up = {i: outcome_unknown(NO_ANSWER) for i in ahead.exhausted}
    if late:
        given_up |= {i: expiry() for i in ahead.for_sale}
    first = ahead.steps(groups=groups, late=late)[0]
    calls = {} if first.receipt else {0: new_call(task, first.indexes, paid=paid, now_ms=now_ms)}
    attempt = Attempt(
        number=number, provider=provider, worker=worker, start_time_ms=now_ms, calls=calls, price=price
    )
    changes: dict[str, Value] = {f"failures.{i}": error for i, error in given_up.items()}
    counts = task.counts
    attempts = dict(task.attempts)
    if task.state is TaskState.PROCESSING:
        changes |= _close_lost(task, now_ms)
        if not purchases.open_paid_call(task):
            counts = replace(counts, lost=counts.lost + 1)
        attempts[task.attempt] = replace(
            attempts[task.attempt],
            calls={k: closed(task, call) for k, call in attempts[task.attempt].calls.items()},
        )
    start_time_ms = task.start_time_ms or now_ms
    changes |= {
        "state": TaskState.PROCESSING.value,
        "attempt": number,
        "owner": worker,
        "provider": provider,
        "not_before_ms": 0,
        "start_time_ms": start_time_ms,
        "update_time_ms": now_ms,
        f"attempts.{number}": attempt,
    }
    write = Write(
        task_id=task.id,
        state=task.state,
        attempt=task.attempt,
        revision=task.revision,
        token_slot=number,
        set=changes,
        # A wait leaves no attempt, and shall leave nothing else: there may be thousands of them.
        forgotten_slot=task.attempt if task.attempt and task.attempt not in task.attempts else None,
    )
    return write, replace(
        task,
        state=TaskState.PROCESSING,
        revision=task.revision + 1,
        attempt=number,
        owner=worker,
        provider=provider,
        not_before_ms=0,
        start_time_ms=start_time_ms,
        counts=counts,
        attempts={**attempts, number: attempt},
        failures={**task.failures, **given_up},
    )


def new_call(task: Task, indexes: tuple[int, ...], *, paid: bool, now_ms: int) -> Call:
    """The row of a purchase that is about to be sent."""
    every = len(indexes) == task.images_wanted
    return Call(state=CallState.OPEN, paid=paid, sent_time_ms=now_ms, indexes=() if every else indexes)


def end_lost(task: Task, error: TaskError, now_ms: int) -> Write:
    """The task ends with its lost worker's attempt: FAILED, or COMPLETED when it has at least one image."""
    ended = end_in_failure(task, error, now_ms, closing=_close_lost(task, now_ms))
    return replace(ended, revision=task.revision)


def cancel_lost(task: Task, now_ms: int) -> Write:
    """A task whose cancel was requested ends with its lost worker's attempt."""
    closing = _close_lost(task, now_ms)
    ended = end(task, now_ms, state=TaskState.CANCELLED, error=cancelled(), closing=closing)
    return replace(ended, revision=task.revision)


def _close_lost(task: Task, now_ms: int) -> dict[str, Value]:
    """The changes that close a lost worker's attempt: in doubt if it had called, not sent otherwise."""
    n = task.attempt
    attempt = task.attempts[n]
    changes: dict[str, Value] = {
        f"attempts.{n}.end_time_ms": now_ms,
        f"attempts.{n}.outcome": (
            AttemptOutcome.IN_DOUBT if attempt.calls else AttemptOutcome.NOT_SENT
        ).value,
        f"attempts.{n}.error": TaskError(
            reason=Reason.WORKER_LOST,
            message="The worker was lost while it held this attempt.",
            retryable=True,
        ),
    }
    for number, call in attempt.calls.items():
        if call.state is CallState.OPEN:
            changes[f"attempts.{n}.calls.{number}.state"] = closed(task, call).state.value
    if not purchases.open_paid_call(task):
        changes["counts"] = replace(task.counts, lost=task.counts.lost + 1)
    return changes

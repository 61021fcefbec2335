"""How a task may change: every transition as a pure function from (task, now) to one conditional write.

A write names the state and the attempt it expects, and changes nothing unless both still hold. So a
worker that was overtaken, however late it comes back, cannot touch its successor's work, and a
terminal state never changes. Paths of `Write.set` follow the stored document (`server.store.documents`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from server.domain import purchases
from server.domain.errors import Reason, TaskError
from server.domain.task import (
    Attempt,
    AttemptOutcome,
    Call,
    CallState,
    Counts,
    StoredImage,
    Task,
    TaskState,
)

CANCEL_SLOT = "cancel"
"""The token slot of those who ask for a cancel: the worker's own writes are told apart from theirs."""

Value = str | int | bool | None | TaskError | Counts | Attempt | Call | StoredImage
"""What a write may put at a path: the store knows how to keep each of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One conditional change of one task; the store raises `revision` with it."""

    task_id: str
    state: TaskState
    """The write happens only while the task is in this state …"""
    attempt: int
    """… and this is its newest attempt."""
    token_slot: int | str
    """The attempt number, or who else writes, under which the store keeps the token that proves who won."""
    set: Mapping[str, Value] = field(default_factory=dict)
    unset: tuple[str, ...] = ()


def expired(task: Task, now_ms: int) -> bool:
    """Whether no new attempt may start any more. What is bought already is fetched, however late."""
    return now_ms >= task.ttl_time_ms and not purchases.to_fetch(task)


# --- writes on a waiting task ------------------------------------------------------------------------


def expiry() -> TaskError:
    """The error of a task that waited longer than its ttl."""
    return TaskError(
        reason=Reason.TASK_EXPIRED,
        message="The task's ttl ran out before an attempt could finish it. Submit it again, with a longer "
        "options.ttl if it may wait longer.",
        retryable=True,
    )


NO_ANSWER = "The provider's answer to a paid call never arrived"


def outcome_unknown(what: str) -> TaskError:
    """The error of what may have been bought and must not be bought again; `what` happened to the call."""
    return TaskError(
        reason=Reason.OUTCOME_UNKNOWN,
        message=f"{what}, and max_paid_attempts allows no further one. The provider may have made and "
        "charged the image. Submit again to accept another charge.",
    )


def expire(task: Task, now_ms: int) -> Write:
    """A waiting task whose ttl is over ends: TASK_EXPIRED."""
    return end_waiting(task, expiry(), now_ms)


def end_waiting(task: Task, error: TaskError, now_ms: int) -> Write:
    """A waiting task that cannot be tried ends: FAILED, or COMPLETED when it has at least one image."""
    return _end_in_failure(task, error, now_ms, closing={})


def cancel_pending(task: Task, now_ms: int) -> Write:
    """A waiting task that is cancelled ends at once."""
    return _end(task, now_ms, state=TaskState.CANCELLED, error=_cancelled())


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
    task: Task, *, worker: str, provider: str, paid: bool, now_ms: int, groups: bool = True
) -> tuple[Write, Task]:
    """Start attempt n+1 of a waiting task, or of one whose worker is lost, its first purchase written down.

    There must be something left to do (`purchases.plan`). An attempt that begins with what is bought already
    has no call yet. Images for which no further call is permitted are given up. Taking over closes the lost
    worker's attempt in the same write, so there is no moment in which two attempts are open. Returns the
    write, and the task as it is once the write has won, as far as its worker goes by it.
    """
    number = task.attempt + 1
    given_up = {i: outcome_unknown(NO_ANSWER) for i in purchases.exhausted(task)}
    first = purchases.plan(task, groups=groups)[0]
    calls = {} if first.receipt else {0: new_call(task, first.indexes, paid=paid, now_ms=now_ms)}
    attempt = Attempt(number=number, provider=provider, worker=worker, start_time_ms=now_ms, calls=calls)
    changes: dict[str, Value] = {f"failures.{i}": error for i, error in given_up.items()}
    counts = task.counts
    attempts = dict(task.attempts)
    if task.state is TaskState.PROCESSING:
        changes |= _close_lost(task, now_ms)
        if not purchases.open_paid_call(task):
            counts = replace(counts, lost=counts.lost + 1)
        attempts[task.attempt] = replace(
            attempts[task.attempt],
            calls={k: _closed(task, call) for k, call in attempts[task.attempt].calls.items()},
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
    write = Write(task_id=task.id, state=task.state, attempt=task.attempt, token_slot=number, set=changes)
    return write, replace(
        task,
        state=TaskState.PROCESSING,
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


# --- taking over from a lost worker --------------------------------------------------------------------


def end_lost(task: Task, error: TaskError, now_ms: int) -> Write:
    """The task ends with its lost worker's attempt: FAILED, or COMPLETED when it has at least one image."""
    return _end_in_failure(task, error, now_ms, closing=_close_lost(task, now_ms))


def cancel_lost(task: Task, now_ms: int) -> Write:
    """A task whose cancel was requested ends with its lost worker's attempt."""
    closing = _close_lost(task, now_ms)
    return _end(task, now_ms, state=TaskState.CANCELLED, error=_cancelled(), closing=closing)


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
            changes[f"attempts.{n}.calls.{number}.state"] = _closed(task, call).state.value
    if not purchases.open_paid_call(task):
        changes["counts"] = replace(task.counts, lost=task.counts.lost + 1)
    return changes


def _closed(task: Task, call: Call) -> Call:
    """The call once nobody waits for its answer any more."""
    if call.state is not CallState.OPEN:
        return call
    known = purchases.delivered(task, call)
    return replace(call, state=CallState.DONE if known else CallState.IN_DOUBT)


# --- writes of the attempt's own worker ------------------------------------------------------------------


def open_call(task: Task, number: int, call: Call, now_ms: int) -> Write:
    """One more purchase of the attempt is about to be sent; the one before it has been answered."""
    changes: dict[str, Value] = {f"attempts.{task.attempt}.calls.{number}": call, "update_time_ms": now_ms}
    for earlier, answered in task.attempts[task.attempt].calls.items():
        if answered.state is CallState.OPEN:
            changes[f"attempts.{task.attempt}.calls.{earlier}.state"] = CallState.DONE.value
    return _own(task, changes)


def add_receipt(task: Task, number: int, receipt: str, now_ms: int) -> Write:
    """The provider has said what the call made: from now on it is fetched, never bought again."""
    call = f"attempts.{task.attempt}.calls.{number}"
    return _own(
        task,
        {f"{call}.receipt": receipt, f"{call}.state": CallState.DONE.value, "update_time_ms": now_ms},
    )


def add_image(task: Task, image: StoredImage, now_ms: int) -> Write:
    """One image is stored: visible at once, whatever becomes of the others."""
    return _own(task, {f"images.{image.index}": image, "update_time_ms": now_ms})


def add_failure(task: Task, index: int, error: TaskError, now_ms: int) -> Write:
    """One image of a sequence failed for good; the others go on."""
    return _own(task, {f"failures.{index}": error, "update_time_ms": now_ms})


def complete(task: Task, now_ms: int) -> Write:
    """The attempt succeeded: COMPLETED. The images are in the task already."""
    return _own(
        task,
        _close_own(task, now_ms, outcome=AttemptOutcome.SUCCEEDED)
        | {"state": TaskState.COMPLETED.value, "end_time_ms": now_ms, "update_time_ms": now_ms},
    )


def complete_with(task: Task, images: Sequence[StoredImage], now_ms: int) -> Write:
    """`add_image` for each image and `complete`, in one write."""
    return with_images(complete(task, now_ms), images)


def with_images(write: Write, images: Sequence[StoredImage]) -> Write:
    """The same write, which also keeps these images: whatever ends an attempt loses none that is stored."""
    return replace(write, set={**{f"images.{image.index}": image for image in images}, **write.set})


def fail(task: Task, error: TaskError, now_ms: int, *, outcome: AttemptOutcome) -> Write:
    """The attempt failed for good: FAILED, or COMPLETED when a sequence has at least one image."""
    closing = _close_own(task, now_ms, outcome=outcome, error=error)
    return _end_in_failure(task, error, now_ms, closing=closing)


def cancel_running(task: Task, now_ms: int) -> Write:
    """The attempt's own worker ends a task whose cancel was requested; an open call stays in doubt."""
    closing = _close_own(task, now_ms, outcome=AttemptOutcome.CANCELLED)
    return _end(task, now_ms, state=TaskState.CANCELLED, error=_cancelled(), closing=closing)


def retry(
    task: Task, error: TaskError, now_ms: int, *, outcome: AttemptOutcome, delay_ms: int, counts: Counts
) -> Write:
    """The attempt failed but may be repeated: back to PENDING, not before `delay_ms` from now."""
    return _own(
        task,
        _close_own(task, now_ms, outcome=outcome, error=error)
        | {
            "state": TaskState.PENDING.value,
            "not_before_ms": now_ms + delay_ms if delay_ms else 0,
            "counts": counts,
            "update_time_ms": now_ms,
        },
    )


def without_attempt(write: Write, task: Task) -> Write:
    """The same write, which also removes an attempt that bought nothing: it was a wait, and no try."""
    if any(call not in _undelivered(task) for call in task.attempts[task.attempt].calls):
        return write
    prefix = f"attempts.{task.attempt}"
    kept = {path: value for path, value in write.set.items() if not path.startswith(f"{prefix}.")}
    unset = tuple(path for path in write.unset if not path.startswith(prefix))
    return replace(write, set=kept, unset=(*unset, prefix))


def without_call(write: Write, task: Task) -> Write:
    """The same write, which also removes the attempt's open call: nothing was bought by it."""
    calls = f"attempts.{task.attempt}.calls"
    undelivered = _undelivered(task)
    if len(undelivered) == len(task.attempts[task.attempt].calls):
        removed = [calls] if undelivered else []
    else:
        removed = [f"{calls}.{number}" for number in undelivered]
    kept = {
        path: value
        for path, value in write.set.items()
        if not any(path == gone or path.startswith(f"{gone}.") for gone in removed)
    }
    return replace(write, set=kept, unset=(*write.unset, *removed))


def as_ended(task: Task, outcome: AttemptOutcome) -> Task:
    """The task as it counts once its attempt has ended so: without the calls that `without_call` removes."""
    if outcome is AttemptOutcome.IN_DOUBT:
        return task
    attempt, gone = task.attempts[task.attempt], _undelivered(task)
    calls = {number: call for number, call in attempt.calls.items() if number not in gone}
    return replace(task, attempts={**task.attempts, task.attempt: replace(attempt, calls=calls)})


def _undelivered(task: Task) -> tuple[int, ...]:
    """The attempt's calls, by number, that are open and that the provider is not known to have taken."""
    return tuple(
        number
        for number, call in task.attempts[task.attempt].calls.items()
        if call.state is CallState.OPEN and not purchases.delivered(task, call)
    )


def _close_own(
    task: Task, now_ms: int, *, outcome: AttemptOutcome, error: TaskError | None = None
) -> dict[str, Value]:
    n = task.attempt
    changes: dict[str, Value] = {f"attempts.{n}.end_time_ms": now_ms, f"attempts.{n}.outcome": outcome.value}
    if error is not None:
        changes[f"attempts.{n}.error"] = error
    doubtful = outcome in (AttemptOutcome.IN_DOUBT, AttemptOutcome.CANCELLED)
    for number, call in task.attempts[n].calls.items():
        if call.state is CallState.OPEN:
            state = _closed(task, call).state if doubtful else CallState.DONE
            changes[f"attempts.{n}.calls.{number}.state"] = state.value
    return changes


def _own(task: Task, changes: Mapping[str, Value]) -> Write:
    return Write(
        task_id=task.id,
        state=TaskState.PROCESSING,
        attempt=task.attempt,
        token_slot=task.attempt,
        set=changes,
    )


def _end(
    task: Task,
    now_ms: int,
    *,
    state: TaskState,
    error: TaskError | None,
    closing: Mapping[str, Value] | None = None,
) -> Write:
    changes: dict[str, Value] = {
        **(closing or {}),
        "state": state.value,
        "end_time_ms": now_ms,
        "update_time_ms": now_ms,
    }
    if error is not None:
        changes["error"] = error
    return Write(
        task_id=task.id, state=task.state, attempt=task.attempt, token_slot=task.attempt, set=changes
    )


def _end_in_failure(task: Task, error: TaskError, now_ms: int, *, closing: Mapping[str, Value]) -> Write:
    """Without any image FAILED; with some COMPLETED, and each missing one carries the error."""
    if not task.images:
        return _end(task, now_ms, state=TaskState.FAILED, error=error, closing=closing)
    ended = _end(task, now_ms, state=TaskState.COMPLETED, error=None, closing=closing)
    return replace(ended, set={**ended.set, **{f"failures.{i}": error for i in task.missing_images}})


def _cancelled() -> TaskError:
    return TaskError(reason=Reason.TASK_CANCELLED, message="The task was cancelled.")

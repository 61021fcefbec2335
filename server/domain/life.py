"""How a task may change: every transition as a pure function from (task, now) to one conditional write.

A write names the state and the attempt it expects, and changes nothing unless both still hold. So a
worker that was overtaken, however late it comes back, cannot touch its successor's work, and a
terminal state never changes. Paths of `Write.set` follow the stored document (`server.store.documents`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

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
    token_slot: int
    """The attempt number under which the store keeps the writer's token, the proof of who won."""
    set: Mapping[str, Value] = field(default_factory=dict)
    unset: tuple[str, ...] = ()


def expired(task: Task, now_ms: int) -> bool:
    """Whether no new attempt may start any more."""
    return now_ms >= task.ttl_time_ms


def paid_or_open_calls(task: Task) -> int:
    """Purchases that were made, are in doubt, or are still open: what max_paid_attempts bounds."""
    return sum(call.paid for attempt in task.attempts.values() for call in attempt.calls.values())


def missing_images(task: Task) -> tuple[int, ...]:
    """The wanted images, by index, that are neither stored nor failed for good."""
    return tuple(i for i in range(task.images_wanted) if i not in task.images and i not in task.failures)


# --- writes on a waiting task ------------------------------------------------------------------------


def expiry() -> TaskError:
    """The error of a task that waited longer than its ttl."""
    return TaskError(
        reason=Reason.TASK_EXPIRED,
        message="The task's ttl ran out before an attempt could finish it. Submit it again, with a longer "
        "options.ttl if it may wait longer.",
        retryable=True,
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


def mark(task: Task, *, worker: str, provider: str, paid: bool, now_ms: int) -> tuple[Write, Task]:
    """Start attempt n+1 of a waiting task, or of one whose worker is lost, with its first call open.

    Taking over closes the lost worker's attempt in the same write, so there is no moment in which
    two attempts are open. Returns the write, and the task as it is once the write has won, as far as
    its worker goes by it.
    """
    number = task.attempt + 1
    attempt = Attempt(
        number=number,
        provider=provider,
        worker=worker,
        start_time_ms=now_ms,
        calls={0: Call(state=CallState.OPEN, paid=paid, sent_time_ms=now_ms)},
    )
    changes: dict[str, Value] = {}
    counts = task.counts
    attempts = dict(task.attempts)
    if task.state is TaskState.PROCESSING:
        changes |= _close_lost(task, now_ms)
        if not open_paid_call(task):
            counts = replace(counts, lost=counts.lost + 1)
        lost = attempts[task.attempt]
        calls = {
            k: replace(call, state=CallState.IN_DOUBT) if call.state is CallState.OPEN else call
            for k, call in lost.calls.items()
        }
        attempts[task.attempt] = replace(lost, calls=calls)
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
    )


def open_paid_call(task: Task) -> bool:
    """Whether the newest attempt has a paid call whose end nobody has recorded."""
    current = task.attempts.get(task.attempt)
    return current is not None and any(c.paid and c.state is CallState.OPEN for c in current.calls.values())


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
            changes[f"attempts.{n}.calls.{number}.state"] = CallState.IN_DOUBT.value
    if not open_paid_call(task):
        changes["counts"] = replace(task.counts, lost=task.counts.lost + 1)
    return changes


# --- writes of the attempt's own worker ------------------------------------------------------------------


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
    """The attempt's own worker ends a task whose cancel was requested."""
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
    """The same write, which also removes the attempt: it was a wait, and no try."""
    prefix = f"attempts.{task.attempt}"
    kept = {path: value for path, value in write.set.items() if not path.startswith(f"{prefix}.")}
    return replace(write, set=kept, unset=(*write.unset, prefix))


def without_call(write: Write, task: Task) -> Write:
    """The same write, which also removes the attempt's call rows: nothing was bought."""
    prefix = f"attempts.{task.attempt}.calls"
    kept = {path: value for path, value in write.set.items() if not path.startswith(prefix)}
    return replace(write, set=kept, unset=(*write.unset, prefix))


def _close_own(
    task: Task, now_ms: int, *, outcome: AttemptOutcome, error: TaskError | None = None
) -> dict[str, Value]:
    n = task.attempt
    changes: dict[str, Value] = {f"attempts.{n}.end_time_ms": now_ms, f"attempts.{n}.outcome": outcome.value}
    if error is not None:
        changes[f"attempts.{n}.error"] = error
    state = CallState.IN_DOUBT if outcome is AttemptOutcome.IN_DOUBT else CallState.DONE
    for number, call in task.attempts[n].calls.items():
        if call.state is CallState.OPEN:
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
    return replace(ended, set={**ended.set, **{f"failures.{i}": error for i in missing_images(task)}})


def _cancelled() -> TaskError:
    return TaskError(reason=Reason.TASK_CANCELLED, message="The task was cancelled.")

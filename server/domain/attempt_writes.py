"""What an attempt's own worker may write: pure functions from (task, now) to one conditional write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from server.domain import purchases
from server.domain.errors import TaskError
from server.domain.task import (
    AttemptOutcome,
    Call,
    CallState,
    Counts,
    StoredImage,
    Task,
    TaskState,
)
from server.domain.writes import Value, Write, cancelled, closed, end, end_in_failure, without


def open_call(task: Task, number: int, call: Call, now_ms: int) -> Write:
    """One more purchase of the attempt is about to be sent; the one before it has been answered."""
    changes: dict[str, Value] = {f"attempts.{task.attempt}.calls.{number}": call, "update_time_ms": now_ms}
    for earlier, answered in task.attempts[task.attempt].calls.items():
        if answered.state is CallState.OPEN:
            changes[f"attempts.{task.attempt}.calls.{earlier}.state"] = CallState.DONE.value
    return _own(task, changes)


def add_receipt(task: Task, number: int, receipt: str, now_ms: int, *, so_far: tuple[int, ...] = ()) -> Write:
    """The provider has said what the call made: from now on it is fetched, never bought again.

    `so_far`: the images it names while it may still make more, which leaves the call open. Empty: that is
    all, and the call is answered.
    """
    call = f"attempts.{task.attempt}.calls.{number}"
    told: dict[str, Value] = {f"{call}.receipt": receipt, "update_time_ms": now_ms}
    if so_far:
        return _own(task, {**told, f"{call}.so_far": so_far})
    answered = _own(task, {**told, f"{call}.state": CallState.DONE.value})
    return replace(answered, unset=(f"{call}.so_far",)) if _call(task, number).so_far else answered


def with_call(task: Task, number: int, call: Call) -> Task:
    """The task as `open_call` leaves it, as far as its worker goes by it."""
    answered = {
        n: replace(earlier, state=CallState.DONE) if earlier.state is CallState.OPEN else earlier
        for n, earlier in task.attempts[task.attempt].calls.items()
    }
    return _with_calls(task, {**answered, number: call})


def with_receipt(task: Task, number: int, receipt: str, *, so_far: tuple[int, ...] = ()) -> Task:
    """The task as `add_receipt` leaves it, as far as its worker goes by it."""
    call = _call(task, number)
    told = replace(call, receipt=receipt, so_far=so_far, state=call.state if so_far else CallState.DONE)
    return _with_calls(task, {**task.attempts[task.attempt].calls, number: told})


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


def fail(task: Task, error: TaskError, now_ms: int, *, outcome: AttemptOutcome) -> Write:
    """The attempt failed for good: FAILED, or COMPLETED when a sequence has at least one image."""
    closing = _close_own(task, now_ms, outcome=outcome, error=error)
    return end_in_failure(task, error, now_ms, closing=closing)


def cancel_running(task: Task, now_ms: int) -> Write:
    """The attempt's own worker ends a task whose cancel was requested; an open call stays in doubt."""
    closing = _close_own(task, now_ms, outcome=AttemptOutcome.CANCELLED)
    return end(task, now_ms, state=TaskState.CANCELLED, error=cancelled(), closing=closing)


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
    if len(_undelivered(task)) < len(task.attempts[task.attempt].calls):
        return write
    return without(write, (f"attempts.{task.attempt}",))


def without_call(write: Write, task: Task) -> Write:
    """The same write, which also removes the attempt's open call: nothing was bought by it."""
    calls, gone = f"attempts.{task.attempt}.calls", _undelivered(task)
    if gone and len(gone) == len(task.attempts[task.attempt].calls):
        return without(write, (calls,))
    return without(write, [f"{calls}.{number}" for number in gone])


def as_ended(task: Task, outcome: AttemptOutcome) -> Task:
    """The task as it counts once its attempt has ended so: without the calls that `without_call` removes."""
    if outcome is AttemptOutcome.IN_DOUBT:
        return task
    gone = _undelivered(task)
    if not gone:
        return task
    calls = task.attempts[task.attempt].calls
    return _with_calls(task, {number: call for number, call in calls.items() if number not in gone})


def _with_calls(task: Task, calls: Mapping[int, Call]) -> Task:
    attempt = replace(task.attempts[task.attempt], calls=calls)
    return replace(task, attempts={**task.attempts, attempt.number: attempt})


def _call(task: Task, number: int) -> Call:
    return task.attempts[task.attempt].calls[number]


def _undelivered(task: Task) -> Sequence[int]:
    """The attempt's calls, by number, that are open and that the provider is not known to have taken."""
    return [
        number
        for number, call in task.attempts[task.attempt].calls.items()
        if call.state is CallState.OPEN and not purchases.delivered(task, call)
    ]


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
            state = closed(task, call).state if doubtful else CallState.DONE
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

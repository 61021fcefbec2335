"""Tasks in each state, as the domain's tests begin with them. NOW_MS is the present of all of them."""

from __future__ import annotations

from msgspec.structs import replace

from server.domain import attempt_writes, life
from server.domain.errors import Reason, TaskError
from server.domain.task import AttemptOutcome, Call, CallState, Counts, StoredImage, Task
from tests.fakes_store import make_task
from tests.unit.domain.record import Record

NOW_MS = 1_000_000
TTL_MS = 3_600_000
ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def pending(**changes: object) -> Task:
    """A task that was accepted just now and waits; `changes` are fields of Task."""
    times = {"create_time_ms": NOW_MS, "update_time_ms": NOW_MS, "ttl_time_ms": NOW_MS + TTL_MS}
    return make_task(ID, **{**times, **changes})


def sequence(images: int, **changes: object) -> Task:
    """A waiting task for several images."""
    task = pending(**changes)
    return replace(task, request=replace(task.request, sequence=True, max_images=images))


def running(task: Task | None = None, *, paid: bool = True, worker: str = "worker-1") -> Task:
    """The task after its first mark, or its next one; a call is open."""
    _, marked = life.mark(
        pending() if task is None else task, worker=worker, provider="ark", paid=paid, now_ms=NOW_MS
    )
    return marked


def without_calls(task: Task) -> Task:
    """The same, marked by a worker that has not written a call."""
    attempt = task.attempts[task.attempt]
    return replace(task, attempts={**task.attempts, task.attempt: replace(attempt, calls={})})


def with_call(task: Task, number: int, state: CallState) -> Task:
    """The same, with one more paid call in its newest attempt."""
    attempt = task.attempts[task.attempt]
    call = Call(state=state, paid=True, sent_time_ms=NOW_MS)
    attempt = replace(attempt, calls={**attempt.calls, number: call})
    return replace(task, attempts={**task.attempts, task.attempt: attempt})


def image(index: int = 0) -> StoredImage:
    """A stored image."""
    return StoredImage(
        index=index,
        key=f"{ID}/1/{index}-aaaaaaaaaaaaaaaaaaaaaa.png",
        width_px=64,
        height_px=64,
        mime_type="image/png",
        size_bytes=100,
        sha256="0" * 64,
        seed=1,
    )


def error(reason: Reason = Reason.PROVIDER_UNAVAILABLE, *, retryable: bool = True) -> TaskError:
    """Some failure."""
    return TaskError(reason=reason, message="It did not work.", retryable=retryable)


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
            attempt_writes.retry(
                doubtful,
                error(),
                NOW_MS,
                outcome=AttemptOutcome.IN_DOUBT,
                delay_ms=0,
                counts=doubtful.counts,
            )
        )
    return running(record.task, paid=paid)

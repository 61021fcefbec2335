"""One of each kind of conditional write, with the task that it is made for."""

from __future__ import annotations

from msgspec.structs import replace

from server.domain import attempt_writes, life, verdicts
from server.domain.task import AttemptOutcome, Counts, Task
from server.domain.writes import Write, merged, with_images
from tests.contract.samples import NOW_MS, full_task, new_error, new_image, new_task


def every_kind_of_write() -> list[tuple[Task, Write]]:
    """Each with the task as it is before."""
    pending, running = new_task(), _running()
    partly = _running(images={0: new_image(0)}, request=full_task().request)
    asked = _running(cancel_requested=True)
    fail, call = attempt_writes.fail, life.new_call(running, (0,), paid=True, now_ms=NOW_MS)
    listened = attempt_writes.with_receipt(running, 0, "the first of it", so_far=(0,))
    bought = attempt_writes.with_call(attempt_writes.with_receipt(running, 0, "what it made"), 1, call)
    waited = new_task(attempt=1)
    complete = attempt_writes.complete(running, NOW_MS)
    writes = [
        (pending, life.expire(pending, NOW_MS)),
        (pending, life.cancel_pending(pending, NOW_MS)),
        (pending, life.mark(pending, worker="w", provider="ark", paid=True, now_ms=NOW_MS)[0]),
        (running, life.mark(running, worker="w", provider="ark", paid=True, now_ms=NOW_MS)[0]),
        (running, life.end_lost(running, new_error(), NOW_MS)),
        (partly, life.end_lost(partly, new_error(), NOW_MS)),
        (asked, life.cancel_lost(asked, NOW_MS)),
        (running, life.request_cancel(running, NOW_MS)),
        (running, attempt_writes.open_call(running, 1, call, NOW_MS)),
        (running, attempt_writes.add_receipt(running, 0, "what it made", NOW_MS)),
        (running, attempt_writes.add_receipt(running, 0, "what it made", NOW_MS, so_far=(0, 2))),
        (running, attempt_writes.add_image(running, new_image(), NOW_MS)),
        (running, attempt_writes.add_failure(running, 0, new_error(), NOW_MS)),
        (running, complete),
        (running, with_images(complete, [new_image(0), new_image(1)])),
        (running, fail(running, new_error(), NOW_MS, outcome=AttemptOutcome.REJECTED)),
        (partly, fail(partly, new_error(), NOW_MS, outcome=AttemptOutcome.IN_DOUBT)),
        (running, attempt_writes.cancel_running(running, NOW_MS)),
        (running, _retried(running)),
        (running, attempt_writes.without_attempt(_retried(running), running)),
        (listened, attempt_writes.add_receipt(listened, 0, "all of it", NOW_MS)),
        (bought, attempt_writes.without_call(_retried(bought), bought)),
        (waited, life.mark(waited, worker="v", provider="ark", paid=True, now_ms=NOW_MS)[0]),
        (running, merged(attempt_writes.add_failure(running, 0, new_error(), NOW_MS), complete)),
        (pending, replace(life.expire(pending, NOW_MS), unset=("attempts.7.calls.0", "labels"))),
        (running, verdicts.after_drain(running, NOW_MS)),
    ]
    for task in (running, partly):
        for outcome in (AttemptOutcome.REJECTED, AttemptOutcome.IN_DOUBT):
            failure = verdicts.Failure(outcome=outcome, error=new_error(), paid=True)
            write, _ = verdicts.after_failure(task, failure, now_ms=NOW_MS, max_retries=3, jitter=0.5)
            writes.append((task, write))
    return writes


def _retried(task: Task) -> Write:
    return attempt_writes.retry(
        task, new_error(), NOW_MS, outcome=AttemptOutcome.NOT_SENT, delay_ms=5, counts=Counts(errors=1)
    )


def _running(**changes: object) -> Task:
    _, task = life.mark(new_task(**changes), worker="w", provider="ark", paid=True, now_ms=NOW_MS)
    return task

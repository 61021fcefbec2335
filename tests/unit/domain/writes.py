"""Some writes, five seconds after NOW_MS."""

from __future__ import annotations

from server.domain import attempt_writes, life
from server.domain.errors import TaskError
from server.domain.task import AttemptOutcome, Counts, Task
from server.domain.writes import Write
from tests.unit.domain.tasks import NOW_MS, error

LATER_MS = NOW_MS + 5_000


def mark(task: Task) -> Write:
    """The next attempt, of another worker, with a paid call."""
    return life.mark(task, worker="worker-2", provider="ark", paid=True, now_ms=LATER_MS)[0]


def retry(task: Task, *, delay_ms: int = 0) -> Write:
    """Back to waiting after a call that was not sent."""
    return attempt_writes.retry(
        task,
        error(),
        LATER_MS,
        outcome=AttemptOutcome.NOT_SENT,
        delay_ms=delay_ms,
        counts=Counts(errors=1),
    )


def fail(task: Task, failure: TaskError | None = None) -> Write:
    """The end of a call that was refused."""
    return attempt_writes.fail(task, failure or error(), LATER_MS, outcome=AttemptOutcome.REJECTED)

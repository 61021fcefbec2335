"""The end of waiting tasks whose ttl is over and that nobody may ever claim: no worker serves their pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from server.domain import life
from server.domain.errors import StoreUnavailable
from server.domain.task import TaskState
from server.metrics import Metrics
from server.ports import SubmitQueue, TaskStore, now_ms

AT_ONCE = 100


async def end_overdue(
    task_ids: Sequence[str],
    *,
    store: TaskStore,
    queue: SubmitQueue,
    metrics: Metrics,
    clock: Callable[[], int] = now_ms,
) -> None:
    """End those of the tasks that are still waiting past their ttl, and take them out of the queue.

    Raises StoreUnavailable and QueueUnavailable. The sweep finds what is left then: what still waits by its
    next walk, what has ended and stands in the queue by its next comparison.
    """
    log = structlog.get_logger(__name__)

    async def ended(task_id: str) -> bool:
        task, now = await store.get(task_id), clock()
        if task is None or task.state is not TaskState.PENDING or not life.expired(task, now):
            return False
        end = life.expire(task, now)
        if not await store.write(end):
            return False
        metrics.tasks_finished.labels(str(end.set["state"])).inc()
        return True

    for begin in range(0, len(task_ids), AT_ONCE):
        some = task_ids[begin : begin + AT_ONCE]
        outcomes = await asyncio.gather(*map(ended, some), return_exceptions=True)
        over = [task_id for task_id, outcome in zip(some, outcomes, strict=True) if outcome is True]
        if over:
            await queue.discard(over)
            log.info("waiting tasks have expired", tasks=len(over))
        for task_id, outcome in zip(some, outcomes, strict=True):
            if isinstance(outcome, StoreUnavailable):
                raise outcome
            if isinstance(outcome, Exception):  # one that cannot be read keeps the others from nothing
                log.error("a waiting task cannot be ended", task_id=task_id, exc_info=outcome)

"""What a worker tells the queue of tasks that are not over; what Redis does not take the sweep repairs."""

from __future__ import annotations

from collections.abc import Awaitable

import structlog

from server.domain.task import Task
from server.ports import Entry, QueueUnavailable, WorkQueue

_log = structlog.get_logger(__name__)


class QueueSteps:
    """The steps by which a task waits again, changes hands or is spoken of; none raises QueueUnavailable."""

    def __init__(self, queue: WorkQueue, *, lease_ms: int) -> None:
        self._queue = queue
        self._lease_ms = lease_ms

    async def give_back(self, task: Task, worker: str, *, delay_ms: int) -> None:
        """The task waits again, for so long at least."""
        entry = Entry.of(task, delay_ms=delay_ms)
        await _told(self._queue.release(worker=worker, entries=(entry,)))

    async def hand_over(self, task: Task, worker: str) -> None:
        """The task's owner lives and has the lease again, for a third of one, and prolongs it."""
        entry, lease_ms = Entry.of(task), self._lease_ms // 3
        await _told(self._queue.hand_over(entry=entry, worker=worker, owner=task.owner, lease_ms=lease_ms))

    async def announce(self, task_id: str) -> None:
        """Who waits for the task hears that it has changed."""
        await _told(self._queue.announce((task_id,)))


async def _told(step: Awaitable[None]) -> None:
    try:
        await step
    except QueueUnavailable as error:
        _log.warning("Redis is away; the sweep will put the queue right", error=str(error))

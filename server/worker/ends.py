"""Tasks that are over, until the queue has heard of it (rule W4: they leave it on the store's word alone)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from server.ports import QueueUnavailable, WorkQueue


class Ends:
    """What one process has seen to its end, by the worker id it was claimed under: a verdict changes that id.

    Telling twice does no harm, so what the queue may not have heard of is told again. Prolonging a lease
    after its task was told of does: the queue would make the task again.
    """

    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue
        self._untold: dict[str, dict[str, None]] = {}
        self.telling = asyncio.Lock()
        """Held while the queue is told, and by who prolongs leases: neither sees the other half done."""
        self._log = structlog.get_logger(__name__)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._untold)

    def add(self, worker: str, task_id: str) -> None:
        """The store calls the task over."""
        self._untold.setdefault(worker, {})[task_id] = None

    def of(self, worker: str) -> Sequence[str]:
        """Those of this worker."""
        return list(self._untold.get(worker, ()))

    def of_others(self, worker: str) -> bool:
        """Whether there are some of former ids of this process."""
        return any(holder != worker for holder in self._untold)

    @asynccontextmanager
    async def told(self, worker: str) -> AsyncIterator[Sequence[str]]:
        """The ids to tell of within the context; told they are unless it is left by an exception."""
        async with self.telling:
            task_ids = self.of(worker)
            yield task_ids
            untold = self._untold.get(worker, {})
            for task_id in task_ids:
                untold.pop(task_id, None)
            if not untold:
                self._untold.pop(worker, None)

    async def tell(self, *, again: bool = True) -> None:
        """Tell of all of them. What Redis does not take is told `again` later, or left to the sweep."""
        try:
            for worker in list(self._untold):
                async with self.told(worker) as task_ids:
                    if task_ids:
                        await self._queue.finish(worker=worker, task_ids=task_ids)
        except QueueUnavailable as error:
            self._log.warning("Redis is away and hears of ended tasks later", error=str(error))
            if not again:
                self._untold.clear()

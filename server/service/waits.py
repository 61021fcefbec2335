"""Waiting for a task to change: woken by events, with a slow poll of the store as the net under them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog

from server.domain.errors import StoreUnavailable
from server.metrics import Metrics
from server.ports import TaskEvents, TaskStore

POLL_S = 15.0
"""How often the store is asked while events arrive …"""
POLL_WITHOUT_EVENTS_S = 2.0
"""… and while they do not; once, too, when they come back."""
POLL_BATCH = 500


class Waits:
    """All waits of this process. One event connection and one poller serve every one of them."""

    def __init__(self, *, store: TaskStore, events: TaskEvents, metrics: Metrics) -> None:
        self._store = store
        self._events = events
        self._metrics = metrics
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.ended = False
        """Set when the process' grace is over: every wait ends now."""
        self._log = structlog.get_logger(__name__)

    @contextmanager
    def subscribe(self, task_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the task may have changed. Subscribe first, then read, then wait."""
        changed = asyncio.Event()
        self._waiting.setdefault(task_id, set()).add(changed)
        self._metrics.waiting_calls.inc()
        try:
            yield changed
        finally:
            self._metrics.waiting_calls.dec()
            waiters = self._waiting[task_id]
            waiters.discard(changed)
            if not waiters:
                del self._waiting[task_id]

    def wake(self, task_ids: Sequence[str]) -> None:
        """Tell those who wait for these tasks to look again."""
        for task_id in task_ids:
            for changed in self._waiting.get(task_id, ()):
                changed.set()

    def end(self) -> None:
        """End every wait: the process' grace is over."""
        self.ended = True
        self.wake(list(self._waiting))

    async def listen(self) -> None:
        """Run the event connection and the poller until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._events.listen(self.wake), name="task-events")
            group.create_task(self._poll(), name="wait-poller")

    async def _poll(self) -> None:
        revisions: dict[str, int] = {}
        heard_since = self._events.connections
        while True:
            await self._until_due(heard_since)
            heard_since = self._events.connections
            ids = list(self._waiting)
            revisions = {i: r for i, r in revisions.items() if i in self._waiting}
            try:
                for start in range(0, len(ids), POLL_BATCH):
                    found = await self._store.revisions(ids[start : start + POLL_BATCH])
                    self.wake([i for i, revision in found.items() if revisions.get(i) != revision])
                    revisions.update(found)
            except StoreUnavailable as error:
                self._log.warning("the store does not answer the poll of waiting calls", error=str(error))

    async def _until_due(self, heard_since: int) -> None:
        """The pause before a poll; cut short by a connection newer than the last poll."""
        loop = asyncio.get_running_loop()
        due = loop.time() + POLL_S
        while (left := due - loop.time()) > 0:
            await asyncio.sleep(min(POLL_WITHOUT_EVENTS_S, left))
            if not self._events.connected or self._events.connections != heard_since:
                return

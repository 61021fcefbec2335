"""Waiting for a task to change: woken by events, with a slow poll of the store as the net under them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog
from msgspec import Struct, field

from server.domain.errors import StoreUnavailable
from server.metrics import Metrics
from server.ports import TaskEvents, TaskStore

POLL_S = 15.0
"""How often the store is asked while events arrive …"""
POLL_WITHOUT_EVENTS_S = 2.0
"""… and while they do not; once, too, when they come back."""
POLL_BATCH = 500


class Wait(Struct, eq=False):
    """One call that waits for a task to change."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever the task may have changed."""
    revision: int = 0
    """The task's as the call has last seen it."""


class Waits:
    """All waits of this process. One event connection and one poller serve every one of them."""

    def __init__(self, *, store: TaskStore, events: TaskEvents, metrics: Metrics) -> None:
        self._store = store
        self._events = events
        self._metrics = metrics
        self._waiting: dict[str, set[Wait]] = {}
        self.ended = False
        """Set when the process' grace is over: every wait ends now."""
        self._log = structlog.get_logger(__name__)

    @contextmanager
    def subscribe(self, task_id: str) -> Iterator[Wait]:
        """A wait for the task. Subscribe first, then read, tell the revision, then wait."""
        wait = Wait()
        self._waiting.setdefault(task_id, set()).add(wait)
        self._metrics.waiting_calls.inc()
        try:
            yield wait
        finally:
            self._metrics.waiting_calls.dec()
            waits = self._waiting[task_id]
            waits.discard(wait)
            if not waits:
                del self._waiting[task_id]

    def wake(self, task_ids: Sequence[str]) -> None:
        """Tell those who wait for these tasks to look again."""
        for task_id in task_ids:
            for wait in self._waiting.get(task_id, ()):
                wait.changed.set()

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
        heard_since = self._events.connections
        while True:
            await self._until_due(heard_since)
            heard_since = self._events.connections
            ids = list(self._waiting)
            try:
                for start in range(0, len(ids), POLL_BATCH):
                    for task_id, revision in (
                        await self._store.revisions(ids[start : start + POLL_BATCH])
                    ).items():
                        self._wake_behind(task_id, revision)
            except StoreUnavailable as error:
                self._log.warning("the store does not answer the poll of waiting calls", error=str(error))

    def _wake_behind(self, task_id: str, revision: int) -> None:
        """Tell those who have not seen this revision: to look again costs a reading each, of thousands."""
        for wait in self._waiting.get(task_id, ()):
            if wait.revision != revision:
                wait.changed.set()

    async def _until_due(self, heard_since: int) -> None:
        """The pause before a poll; cut short by a connection newer than the last poll."""
        loop = asyncio.get_running_loop()
        due = loop.time() + POLL_S
        while (left := due - loop.time()) > 0:
            await asyncio.sleep(min(POLL_WITHOUT_EVENTS_S, left))
            if not self._events.connected or self._events.connections != heard_since:
                return

"""Ends tasks whose caller was told that nothing was accepted, though the store may have taken them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from server.domain import life
from server.domain.errors import StoreUnavailable
from server.domain.task import TaskState
from server.ports import QueueUnavailable, SubmitQueue, TaskStore
from server.stopping import Held

AWAY_RETRY_S = 0.5
LATE_S = 3.0
"""Twice the store's time for an answer: what it was asked for may still happen so long after none came."""


class Withdrawals:
    """All withdrawals of this process, each in a task of its own."""

    def __init__(self, *, store: TaskStore, queue: SubmitQueue, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._queue = queue
        self._now_ms = now_ms
        self._hurry = asyncio.Event()
        self._under_way = Held()

    def begin(self, task_id: str) -> None:
        """Withdraw the task: no request_id leads to it, so nobody would ever fetch what it makes."""
        self._under_way.start(self._withdraw(task_id), name="withdraw")

    async def drain(self) -> None:
        """Wait for those under way; from now on none waits for what comes late."""
        self._hurry.set()
        await self._under_way.drain()

    async def _withdraw(self, task_id: str) -> None:
        if not await self._ended(task_id):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LATE_S):
                    await self._hurry.wait()
            await self._ended(task_id)

    async def _ended(self, task_id: str) -> bool:
        """Whether there is such a task; it has ended then, or its worker will end it."""
        while True:
            try:
                task = await self._store.get(task_id)
                if task is None:
                    return False
                if task.state.terminal or task.cancel_requested:
                    return True
                if task.state is TaskState.PENDING:
                    await self._store.write(life.cancel_pending(task, self._now_ms()))
                elif await self._store.write(life.request_cancel(task, self._now_ms())):
                    with contextlib.suppress(QueueUnavailable):  # the worker finds it in the store
                        await self._queue.ask_to_cancel((task_id,))
            except StoreUnavailable:
                await asyncio.sleep(AWAY_RETRY_S)

"""The use case of ending a task before its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from msgspec import Struct

from server.domain import life, purchases
from server.domain.errors import TaskEnded
from server.domain.task import Task, TaskState
from server.metrics import Metrics
from server.ports import QueueUnavailable, SubmitQueue, TaskStore
from server.service.tasks import Tasks
from server.stopping import Held

CANCEL_WAIT_S = 1.0
"""How long the worker of a running task has to answer, and Redis to be told of a cancel."""


class Cancelled(Struct, frozen=True, kw_only=True):
    """The answer to a cancel."""

    task: Task
    """As it now stands: it may not have ended yet, and may even end COMPLETED."""
    sent: bool
    """Whether a provider may have been asked for something."""


class Cancels:
    """Ends tasks: a waiting one at once, a running one through its worker."""

    def __init__(
        self,
        *,
        tasks: Tasks,
        store: TaskStore,
        queue: SubmitQueue,
        metrics: Metrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._tasks = tasks
        self._store = store
        self._queue = queue
        self._metrics = metrics
        self._now_ms = now_ms
        self._log = structlog.get_logger(__name__)
        self._telling = Held()

    async def cancel(self, task_id: str, *, within_s: float = CANCEL_WAIT_S) -> Cancelled:
        """End the task, or see to it that it ends; how it stands when its worker has not answered `within_s`.

        Raises InvalidRequest, TaskNotFound, StoreUnavailable, and TaskEnded for a COMPLETED or FAILED task.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        task = await self._tasks.get(task_id)
        while task.state is not TaskState.CANCELLED:
            if task.state.terminal:
                raise TaskEnded(
                    f"Task {task.id} is {task.state} and cannot be cancelled any more.",
                    metadata={"state": task.state.value},
                    task_id=task.id,
                )
            if task.state is TaskState.PENDING:
                await self._end_waiting(task, deadline)
            elif not task.cancel_requested:
                await self._store.write(life.request_cancel(task, self._now_ms()))
            elif loop.time() < deadline:
                await self._ask_worker(task, deadline)
            else:
                break
            task = await self._tasks.get(task_id)
        # One that still runs may yet send.
        sent = not task.state.terminal or purchases.may_have_been_sent(task)
        return Cancelled(task=task, sent=sent)

    async def drain(self) -> None:
        """Wait until the queue has been told of every cancel, or has had its time."""
        await self._telling.drain()

    async def _end_waiting(self, task: Task, deadline: float) -> None:
        if await self._store.write(life.cancel_pending(task, self._now_ms())):
            self._metrics.tasks_finished.labels(TaskState.CANCELLED.value).inc()
            await self._tell(self._queue.discard((task.id,)), deadline)

    async def _ask_worker(self, task: Task, deadline: float) -> None:
        """Tell the worker, and wait for the task's end until the deadline."""
        await self._tell(self._queue.ask_to_cancel((task.id,)), deadline)
        left_s = deadline - asyncio.get_running_loop().time()
        await self._tasks.wait(task, timeout_s=max(0.0, left_s))

    async def _tell(self, step: Coroutine[Any, Any, None], deadline: float) -> None:
        """Tell the queue, and wait for it until the deadline; the telling has a time of its own."""
        telling = self._telling.start(self._told(step), name="tell-of-cancel")
        await asyncio.wait({telling}, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))

    async def _told(self, step: Coroutine[Any, Any, None]) -> None:
        """What the queue does not hear, workers find in the store."""
        try:
            async with asyncio.timeout(CANCEL_WAIT_S):
                await step
        except TimeoutError:
            self._log.warning("Redis did not answer in time; the cancel is in the store")
        except QueueUnavailable as error:
            self._log.warning("Redis is away; the cancel is in the store", error=str(error))

"""The use cases of who has a task's id: to read it, and to wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from server.domain import life, purchases
from server.domain.admission import check_task_id
from server.domain.errors import Draining, StoreUnavailable, TaskNotFound
from server.domain.task import Task, TaskState
from server.metrics import Metrics
from server.ports import TaskStore
from server.service.waits import Waits

TASK_ID_CHARS = 26
AWAY_PAUSE_S = 0.2
LAST_LOOK_S = 0.1
"""So long before its end a wait reads the task once more: not every change is told to who waits."""


class Tasks:
    """Tasks as they stand, and as they change."""

    def __init__(
        self, *, store: TaskStore, waits: Waits, metrics: Metrics, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._waits = waits
        self._metrics = metrics
        self._now_ms = now_ms

    async def get(self, task_id: str) -> Task:
        """The task as it stands. Raises InvalidRequest, TaskNotFound, StoreUnavailable."""
        check_task_id(task_id)
        task = await self._store.get(task_id) if _may_be_ours(task_id) else None
        if task is None:
            raise TaskNotFound(
                f"There is no task {task_id!r}. Ids are given by the submitting calls and are exact.",
                metadata={"task_id": task_id},
            )
        if task.state is TaskState.PENDING and life.expired(task, self._now_ms()):
            return await self._expire(task)
        return task

    async def _expire(self, task: Task) -> Task:
        """A reader finds that the ttl is over before any worker did: it writes the end itself."""
        end = life.expire(task, self._now_ms())
        if await self._store.write(end):
            self._metrics.tasks_finished.labels(str(end.set["state"])).inc()
        return await self._store.get(task.id) or task

    async def wait(self, task: Task | str, *, timeout_s: float) -> Task:
        """The task when it is over, or as it stands when the time is up; see `changes`."""
        async for seen in self.changes(task, timeout_s=timeout_s):
            task = seen
        if isinstance(task, str):
            raise AssertionError("a reading comes first")
        return task

    async def changes(
        self, task: Task | str, *, timeout_s: float, heartbeat_s: float | None = None
    ) -> AsyncIterator[Task]:
        """The task as given and at every change seen, until its end or until the time is up.

        Given its id, it is read first, which raises as `get` does.

        With `heartbeat_s` it is also yielded, unchanged, when no image was made or failed for so long. While
        the store is away the wait goes on. Raises Draining when this process cannot wait any longer.
        """
        loop = asyncio.get_running_loop()
        stirred = loop.time()
        deadline = stirred + timeout_s
        last_look = deadline - min(LAST_LOOK_S, timeout_s / 2)
        with self._waits.subscribe(task if isinstance(task, str) else task.id) as wait:
            if isinstance(task, str):
                task = await self.get(task)
                wait.revision = task.revision
            else:
                wait.changed.set()  # it may have changed between its reading and the subscription
            yield task
            while not task.state.terminal and (left := deadline - loop.time()) > 0:
                if self._waits.ended:
                    raise Draining(
                        "This server is shutting down. The task goes on: fetch it by its id elsewhere.",
                        task_id=task.id,
                        retry_after_s=1.0,
                    )
                pause = min(left, stirred + heartbeat_s - loop.time()) if heartbeat_s else left
                if loop.time() < last_look:
                    pause = min(pause, last_look - loop.time())
                if task.state is TaskState.PENDING and not purchases.to_fetch(task):
                    # wake at the end of its ttl, to see it expire; what is bought is fetched, however late
                    pause = min(pause, max(0.0, (task.ttl_time_ms - self._now_ms()) / 1000) + 0.001)
                try:
                    async with asyncio.timeout(pause):
                        await wait.changed.wait()
                except TimeoutError:
                    pass
                if (left := deadline - loop.time()) <= 0:
                    break  # a reading would hold up the answer, which has to reach the caller in time
                wait.changed.clear()
                seen = await self._seen(task, within_s=left)
                if seen is None:
                    await asyncio.sleep(min(AWAY_PAUSE_S, max(0.0, deadline - loop.time())))
                    wait.changed.set()
                before, task = task, seen or task
                wait.revision = task.revision
                if task.revision != before.revision:
                    if _outcomes(task) != _outcomes(before):
                        stirred = loop.time()
                    yield task
                elif heartbeat_s and loop.time() >= stirred + heartbeat_s:
                    stirred = loop.time()
                    yield task

    async def _seen(self, task: Task, *, within_s: float) -> Task | None:
        """The task as it stands now; None when the store does not say so in time."""
        try:
            async with asyncio.timeout(within_s):
                return await self.get(task.id)
        except (StoreUnavailable, TimeoutError):
            return None


def _outcomes(task: Task) -> tuple[int, int, bool]:
    return len(task.images), len(task.failures), task.state.terminal


def _may_be_ours(task_id: str) -> bool:
    return len(task_id) == TASK_ID_CHARS and task_id.isascii() and task_id.isalnum()

"""A task store in memory, as far as the queue's sweep reads one, with hooks to strike before it acts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from server.domain.request import ImageRequest, OutputFormat, Size
from server.domain.task import LiveTask, Priority, Task, TaskState, TaskType
from server.ports import WorkerRow


async def _nothing() -> None:
    """The hook that does nothing."""


def make_task(task_id: str, **changes: object) -> Task:
    """A waiting task with this id; `changes` are fields of Task."""
    task = Task(
        id=task_id,
        caller="ann",
        type=TaskType.IMAGE,
        state=TaskState.PENDING,
        priority=Priority.DEFAULT,
        pool="lo",
        provider="local",
        model="local-canvas",
        user_id="",
        request_id="",
        labels={},
        request=ImageRequest(
            prompt="a cat",
            size=Size(width_px=64, height_px=64),
            seed=1,
            output_format=OutputFormat.PNG,
        ),
        max_paid_attempts=2,
        revision=1,
        create_time_ms=1,
        update_time_ms=1,
        ttl_time_ms=2**52,
    )
    return replace(task, **changes)


@dataclass(slots=True)
class MemoryStore:
    """Tasks and workers in two dictionaries; `before_read` and `after_read` run around every read."""

    tasks: dict[str, Task] = field(default_factory=dict)
    rows: dict[str, WorkerRow] = field(default_factory=dict)
    before_read: Callable[[], Awaitable[None]] = _nothing
    after_read: Callable[[], Awaitable[None]] = _nothing
    afters: list[str] = field(default_factory=list)
    """After which id each page of live tasks was asked for."""

    def add(self, task_id: str, **changes: object) -> Task:
        """Keep a task made by `make_task`."""
        task = self.tasks[task_id] = make_task(task_id, **changes)
        return task

    def change(self, task_id: str, **changes: object) -> None:
        """Set fields of a task."""
        self.tasks[task_id] = replace(self.tasks[task_id], **changes)

    def worker(self, worker_id: str, *, lost: bool = False) -> str:
        """Keep a worker's row; its id."""
        self.rows[worker_id] = WorkerRow(id=worker_id, beat=0, lost=lost)
        return worker_id

    async def live_fields(self, task_ids: Sequence[str]) -> Mapping[str, LiveTask]:
        """See TaskStore."""
        await self.before_read()
        found = {task_id: _live(self.tasks[task_id]) for task_id in task_ids if task_id in self.tasks}
        await self.after_read()
        return found

    async def live_page(self, *, after: str, limit: int) -> Sequence[LiveTask]:
        """See TaskStore."""
        self.afters.append(after)
        await self.before_read()
        ids = sorted(t.id for t in self.tasks.values() if t.id > after and not t.state.terminal)
        page = [_live(self.tasks[task_id]) for task_id in ids[:limit]]
        await self.after_read()
        return page

    async def workers(self) -> Sequence[WorkerRow]:
        """See TaskStore."""
        return list(self.rows.values())


def _live(task: Task) -> LiveTask:
    return LiveTask(
        id=task.id,
        caller=task.caller,
        user_id=task.user_id,
        state=task.state,
        priority=task.priority,
        pool=task.pool,
        owner=task.owner,
        not_before_ms=task.not_before_ms,
        ttl_time_ms=task.ttl_time_ms,
    )

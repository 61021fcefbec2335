"""Where tasks and workers are kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from server.domain.task import LiveTask, Task
from server.domain.writes import Write


class RequestIdRow(Struct, frozen=True, kw_only=True, gc=False):
    """The record that one request_id made one task."""

    task_id: str
    fingerprint: str


class WorkerRow(Struct, frozen=True, kw_only=True):
    """One worker process as the store knows it."""

    id: str
    beat: int
    lost: bool
    slots: int = 0
    """How many tasks it runs at once; 0 = it did not say."""
    lease_ms: int = 0
    """How long it may be silent, by its own settings; 0 = it did not say."""


class TaskStore(Protocol):
    """The truth about tasks and workers. Every method raises StoreUnavailable when the store is away.

    A StoreUnavailable of a writing method means "unknown": the write may have happened.
    """

    async def insert(self, task: Task) -> bool:
        """Keep a new task; durable when it returns. False when a task with this id exists already."""
        ...

    async def get(self, task_id: str) -> Task | None:
        """The task as of now, or None."""
        ...

    async def get_many(self, task_ids: Sequence[str]) -> Mapping[str, Task]:
        """Those of the tasks that exist, by id."""
        ...

    async def live_fields(self, task_ids: Sequence[str]) -> Mapping[str, LiveTask]:
        """What the sweep needs of those of the tasks that exist, by id; of those that are over as well."""
        ...

    async def write(self, write: Write) -> bool:
        """Do the conditional write; whether this very write, and no other, took place."""
        ...

    async def revisions(self, task_ids: Sequence[str]) -> Mapping[str, int]:
        """The revisions of those of the tasks that exist, by id."""
        ...

    async def cancel_requested(self, task_ids: Sequence[str]) -> Collection[str]:
        """Those of the tasks whose cancel was asked for."""
        ...

    async def live_page(self, *, after: str, limit: int) -> Sequence[LiveTask]:
        """Tasks that are not over, in ascending order of id, from the first id above `after`."""
        ...

    async def page(self, *, after: str, before: str, limit: int) -> Sequence[Task]:
        """Tasks in any state with ids above `after` and below `before`, in ascending order of id."""
        ...

    async def claim_request_id(self, key: str, row: RequestIdRow) -> RequestIdRow:
        """Bind the key to this row, unless it is bound: the row that holds, mine or the earlier one."""
        ...

    async def find_request_id(self, key: str) -> RequestIdRow | None:
        """The row bound to the key, or None."""
        ...

    async def register_worker(
        self, worker_id: str, *, host: str, pid: int, slots: int = 0, lease_ms: int = 0
    ) -> None:
        """Add the row of a worker that is about to claim: beat 0, not lost."""
        ...

    async def beat(self, worker_id: str) -> bool:
        """Raise the worker's beat; False when it was declared lost or its row is gone."""
        ...

    async def workers(self) -> Sequence[WorkerRow]:
        """All rows, lost ones included."""
        ...

    async def declare_lost(self, worker_id: str, *, beat: int) -> bool:
        """Declare the worker lost if its beat is still the given one and nobody did so before."""
        ...

    async def remove_worker(self, worker_id: str) -> None:
        """Take the row away: the worker holds nothing, and a missing row counts as lost."""
        ...

    async def ping(self) -> None:
        """Return if the store answers and would take a write."""
        ...

    async def aclose(self) -> None:
        """Finish what is under way and let go."""
        ...

"""Where many tests begin: a task that is in the store, or in a worker's hands."""

from __future__ import annotations

import pytest

from server.domain import life
from server.domain.task import Task
from server.ports import TaskStore
from tests.contract.samples import NOW_MS, new_task

IN_PLACE = "sqlite-in-place"
"""SQLite as for a process that has read nothing lately: its writes go the other of their two ways."""

either_way = pytest.mark.parametrize("store_url", ["sqlite", IN_PLACE, "mongo"], indirect=True)
"""On every task store, and on SQLite in both ways of writing."""


async def kept(store: TaskStore, task: Task) -> Task:
    """The task, inserted."""
    assert await store.insert(task)
    return task


async def running(store: TaskStore, worker: str = "w-1") -> Task:
    """A task that was inserted and marked by the worker; there is money for many more attempts."""
    task = await kept(store, new_task(max_paid_attempts=10))
    write, _ = life.mark(task, worker=worker, provider="local", paid=True, now_ms=NOW_MS + 1)
    assert await store.write(write)
    return await found(store, task.id)


async def found(store: TaskStore, task_id: str) -> Task:
    """The task, which must be there."""
    task = await store.get(task_id)
    assert task is not None
    return task

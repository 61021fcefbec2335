"""A backlog as a service that has run for a day would have it: brought in by its own store and queue."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, closing

import redis
from ulid import ULID

from benchmarks.contender import MeasureFailed
from server.domain.catalogue import LOCAL
from server.domain.request import ImageRequest, Size
from server.domain.routing import pool_code
from server.domain.task import Priority, Task, TaskState, TaskType
from server.ports import Entry, TaskStore, now_ms
from server.queue.keys import QueueKeys
from server.queue.sweep import Sweep
from server.queue.task_queue import RedisTaskQueue
from server.store.connect import open_store
from tests.stack import Stack

CALLERS = 10_000
BATCH = 1_000
PATIENCE_S = 60.0
"""For one batch, with nothing else to do."""
OLDEST_MS, NEWEST_MS = 86_400_000, 1_200_000
"""How long ago the backlog was accepted: for longer than the sweep looks back at every walk."""
TTL_MS = 7 * 86_400_000


async def fill(stack: Stack, tasks: int) -> float:
    """Bring in so many; the bytes that each takes of Redis. Raises MeasureFailed."""
    async with _store_and_queue(stack) as (store, queue):
        before = _used_memory(stack.redis.url)
        newest, apart_ms = now_ms() - NEWEST_MS, (OLDEST_MS - NEWEST_MS) / tasks
        for first in range(0, tasks, BATCH):
            numbers = range(first, min(first + BATCH, tasks))
            batch = [_task(number, round(newest - (tasks - number) * apart_ms)) for number in numbers]
            await _keep(store, batch)
            await queue.enqueue([Entry.of(task) for task in batch])
        return (_used_memory(stack.redis.url) - before) / tasks


async def walk_over(stack: Stack) -> None:
    """What the first worker of a new Redis does beside its work: a sweep walks over all that waits.

    It finds nothing missing and leaves its mark. Workers that come later find that, as in a service that has
    run before.
    """
    async with _store_and_queue(stack) as (store, queue):
        sweep = Sweep(queue, store, lease_ms=1_000)
        while (await sweep.step()).more:
            pass
    let_walk(stack)


def waiting(stack: Stack) -> int:
    """How many tasks wait, as the store has it; nothing else runs."""
    with closing(_opened(stack)) as db:
        return int(db.execute("SELECT count(*) FROM tasks WHERE state = 'PENDING'").fetchone()[0])


def waiting_ids(stack: Stack, most: int) -> list[str]:
    """Ids of tasks that wait, from anywhere in the backlog, in no order. MeasureFailed when there is none."""
    with closing(_opened(stack)) as db:
        rows = db.execute(
            "SELECT id FROM tasks WHERE state = 'PENDING' ORDER BY random() LIMIT ?", (most,)
        ).fetchall()
    if not rows:
        raise MeasureFailed("nothing waits that could be read")
    return random.sample([str(row[0]) for row in rows], len(rows))


def let_walk(stack: Stack) -> None:
    """The next worker's sweep may walk at once, though another sweep was here until now."""
    with redis.Redis.from_url(stack.redis.url) as client:
        client.delete(QueueKeys().named("sweeper"))


@asynccontextmanager
async def _store_and_queue(stack: Stack) -> AsyncIterator[tuple[TaskStore, RedisTaskQueue]]:
    async with (
        aclosing(await open_store(stack.store_url, timeout_s=PATIENCE_S)) as store,
        aclosing(await RedisTaskQueue.connect(stack.redis.url, timeout_s=PATIENCE_S)) as queue,
    ):
        yield store, queue


def _opened(stack: Stack) -> sqlite3.Connection:
    path = stack.directory / "data" / "tasks.db"
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)


async def _keep(store: TaskStore, tasks: Sequence[Task]) -> None:
    if not all(await asyncio.gather(*(store.insert(task) for task in tasks))):
        raise MeasureFailed("the store has a task already that is new")


def _task(number: int, time_ms: int) -> Task:
    """A waiting task, as one of the callers' submits would have made it at that time."""
    return Task(
        id=str(ULID.from_timestamp(time_ms)),
        caller="anonymous",
        type=TaskType.IMAGE,
        state=TaskState.PENDING,
        priority=Priority.DEFAULT,
        pool=pool_code(LOCAL),
        provider=LOCAL,
        model="local-canvas",
        user_id=f"user-{number % CALLERS}",
        request_id="",
        labels={},
        request=ImageRequest(
            prompt="a lighthouse above a stormy sea", size=Size(width_px=64, height_px=64), seed=number
        ),
        max_paid_attempts=2,
        revision=1,
        create_time_ms=time_ms,
        update_time_ms=time_ms,
        ttl_time_ms=time_ms + TTL_MS,
    )


def _used_memory(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return int(client.info("memory")["used_memory"])

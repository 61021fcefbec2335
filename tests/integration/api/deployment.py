"""A running service and what it keeps, read behind its back: SQLite file, Redis, output directory."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import redis

from server.queue.keys import DEFAULT_PREFIX, QueueKeys
from tests.stack import Calls, ServiceProcess, Stack, calling, running_stack
from tests.waiting import until

SETTLE_TIMEOUT_S = 10.0
LIVE_STATES = ("PENDING", "PROCESSING")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Everything a submit could leave behind."""

    tasks: frozenset[str]
    request_ids: frozenset[str]
    """Keys of the records that bind a request_id to its task."""
    queued: frozenset[str]
    """Tasks in Redis, waiting or leased."""
    references: frozenset[str]
    """File names of inline reference images."""


class Deployment:
    """One API process over a stack of its own; workers are started by those who need them."""

    def __init__(self, stack: Stack, api: ServiceProcess) -> None:
        self.stack = stack
        self.api = api

    @property
    def store_path(self) -> Path:
        """The task store's file."""
        return Path(urlsplit(self.stack.store_url).path)

    def kept(self) -> Kept:
        """What there is at this moment."""
        with closing(sqlite3.connect(f"{self.store_path.as_uri()}?mode=ro", uri=True)) as db:
            tasks = frozenset(row[0] for row in db.execute("SELECT id FROM tasks"))
            request_ids = frozenset(row[0] for row in db.execute("SELECT key FROM request_ids"))
        return Kept(
            tasks=tasks,
            request_ids=request_ids,
            queued=self._queued(),
            references=frozenset(p.name for p in (self.stack.directory / "data").rglob("references/*")),
        )

    async def settled(self) -> Kept:
        """What there is once every task that is not over stands in the queue. TimeoutError if that fails."""
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            while not self._live() <= self._queued():  # noqa: ASYNC110 - the queue is filled unannounced
                await asyncio.sleep(0.005)
        return self.kept()

    async def announce(self, task_id: str) -> None:
        """Tell the API process that the task has changed, as soon as it listens: it is ready before that."""
        with redis.Redis.from_url(self.stack.redis.url) as client:
            await until(
                lambda: client.publish(QueueKeys().events, task_id),
                within_s=SETTLE_TIMEOUT_S,
                what="an API process that listens",
            )

    def spoil(self, task_id: str) -> None:
        """Make the task's record unreadable."""
        with closing(sqlite3.connect(self.store_path)) as db:
            db.execute("UPDATE tasks SET doc = '{}' WHERE id = ?", (task_id,))
            db.commit()

    def _live(self) -> frozenset[str]:
        with closing(sqlite3.connect(f"{self.store_path.as_uri()}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT id FROM tasks WHERE state IN (?, ?)", LIVE_STATES)
            return frozenset(row[0] for row in rows)

    def _queued(self) -> frozenset[str]:
        with redis.Redis.from_url(self.stack.redis.url, decode_responses=True) as client:
            return frozenset(str(task_id) for task_id in client.hkeys(f"{DEFAULT_PREFIX}jobs"))


@contextmanager
def deployed(**settings: str) -> Iterator[Deployment]:
    """A deployment with its API process running and no worker; gone at the end."""
    with running_stack(**settings) as stack:
        yield Deployment(stack, stack.start("api"))


@asynccontextmanager
async def called(deployment: Deployment) -> AsyncIterator[Calls]:
    """Stubs over a channel that is connected already, so that no deadline pays for the connection."""
    async with calling(deployment.api) as calls:
        await calls.channel.channel_ready()
        yield calls

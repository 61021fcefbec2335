"""The service as a contender: API, store, Redis and worker as deployed, but for the provider."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import redis
from image.v1 import image_service_pb2

from benchmarks.backlog import walk_over
from benchmarks.contender import MeasureFailed
from benchmarks.pick_up import NotPickedUp, PickUp, pick_ups
from tests.redis_server import RedisServer
from tests.stack import Calls, ServiceProcess, Stack, calling

OURS = "this service"
"""The life of a task alone, as peers' tasks are: what is compared."""
OURS_WITH_PICTURE = "this service, with a picture"
"""The same with its result, which no peer keeps: shown beside."""
USERS = 20
"""Of so many callers tasks are: one alone gets three quarters of the slots."""
AT_ONCE = 64
TOLD = ("grpcio", "redis", "hiredis", "uvloop")
"""Packages that its speed depends on, where they are installed."""
SETTINGS = {"QUEUE_MAX_DEPTH": "10000000"}


class Service:
    """This repository. Without a `picture` the provider refuses at once, and there is nothing to store;
    with one it hands it over after `takes_s`."""

    def __init__(self, *, picture: bool = False, takes_s: float = 0.0) -> None:
        self._picture = picture
        self._takes_s = takes_s

    @property
    def name(self) -> str:
        """As it stands in tables."""
        return OURS_WITH_PICTURE if self._picture else OURS

    @property
    def description(self) -> str:
        """Versions, and what a task is here."""
        if self._picture:
            return "the same, and a small PNG decoded, hashed and stored as a file before the end, COMPLETED"
        return (
            f"({_versions()}): the worker of `python -m server worker` with its defaults, but a provider "
            "that refuses at once; SQLite store. A task is claim, attempt row, its end FAILED in the store, "
            f"end in the queue; {USERS} callers"
        )

    def prepare(self) -> None:
        """It runs where this runs."""

    @contextmanager
    def deployed(self, redis_server: RedisServer) -> Iterator[ServiceDeployment]:
        """An empty store and an empty Redis."""
        with redis.Redis.from_url(redis_server.url) as client:
            client.flushall()
        directory = Path(tempfile.mkdtemp(prefix="bench-"))
        (directory / "data").mkdir()
        stack = Stack(directory, redis_server, f"sqlite://{directory}/data/tasks.db", SETTINGS)
        provider = ("--takes", str(self._takes_s)) if self._picture else ("--refuses",)
        try:
            yield ServiceDeployment(stack, provider, "COMPLETED" if self._picture else "FAILED")
        finally:
            stack.close()
            shutil.rmtree(directory, ignore_errors=True)


class ServiceDeployment:
    """The service with an empty store and an empty Redis."""

    def __init__(self, stack: Stack, provider: tuple[str, ...], end: str) -> None:
        self.stack = stack
        self._provider = provider
        self._end = end

    def enqueue(self, tasks: int) -> None:
        """By GenerateImageAsync; the API is gone before anybody works, and the sweep knows the queue.

        Raises MeasureFailed.
        """
        api = self.stack.start("api", fresh=True, SHUTDOWN_GRACE_SECONDS="1")
        asyncio.run(_submit(api, tasks))
        if api.stop():
            raise MeasureFailed(f"the API did not stop in order:\n{api.log()}")
        asyncio.run(walk_over(self.stack))

    @contextmanager
    def worker(self, concurrency: int, stamps: Path) -> Iterator[int]:
        """The real worker with an instant provider; it finishes what it holds and stops in order."""
        process = self.stack.start(
            "worker",
            fresh=True,
            program=("benchmarks.instant_worker", str(stamps), *self._provider),
            WORKER_CONCURRENCY=str(concurrency),
        )
        yield process.pid
        if process.stop():
            raise MeasureFailed(f"the worker did not stop in order:\n{process.log()}")

    def pick_ups(self, stamps: Path, *, samples: int, seconds: float) -> list[PickUp]:
        """By GenerateImageAsync over one channel. Raises MeasureFailed."""
        api = self.stack.start("api", fresh=True)
        try:
            return asyncio.run(_pick_ups(api, stamps, samples, seconds))
        except NotPickedUp as error:
            raise MeasureFailed(str(error)) from error

    def check(self, tasks: int) -> None:
        """So many tasks have ended in the store as they should, and none stands otherwise."""
        path = self.stack.directory / "data" / "tasks.db"
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            states = dict(db.execute("SELECT state, count(*) FROM tasks GROUP BY state"))
        if states != {self._end: tasks}:
            raise MeasureFailed(f"{tasks} tasks should be {self._end}, but the store says {states}")


def request(number: int) -> image_service_pb2.GenerateImageRequest:
    """The request that everything here makes, of one of the callers."""
    return image_service_pb2.GenerateImageRequest(
        prompt="a lighthouse above a stormy sea",
        model="local-canvas",
        size="64x64",
        user_id=f"user-{number % USERS}",
    )


def _versions() -> str:
    found = []
    for package in TOLD:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return ", ".join(found)


async def _submit(api: ServiceProcess, tasks: int) -> None:
    numbers = iter(range(tasks))

    async def one_by_one(calls: Calls) -> None:
        for number in numbers:
            await calls.images.GenerateImageAsync(request(number))

    async with calling(api) as calls:
        await asyncio.gather(*(one_by_one(calls) for _ in range(AT_ONCE)))


async def _pick_ups(api: ServiceProcess, stamps: Path, samples: int, seconds: float) -> list[PickUp]:
    async with calling(api) as calls:

        async def submit() -> None:
            await calls.images.GenerateImageAsync(request(0))

        return await pick_ups(submit, stamps, samples=samples, seconds=seconds)

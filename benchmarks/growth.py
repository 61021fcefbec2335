"""Growth: the service over a million stored and queued tasks beside itself over a thousand.

Both deployments, each with a Redis of its own, take their turns in every round: the API alone with an empty
processor, then one worker alone. Tasks are brought in by the service's own store and queue, as a backlog of
the last day of many callers, and the sweep has seen them: as they would be in a service that has run.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from task.v1 import task_service_pb2
from ulid import ULID

from benchmarks.contender import MeasureFailed
from benchmarks.echo_ratio import GET_TASK, SUBMIT
from benchmarks.effort import Effort
from benchmarks.load import requests_per_second
from benchmarks.service import Service, ServiceDeployment, request
from benchmarks.stamps import count, read
from benchmarks.worker_round import NS, until_entered
from server.domain.catalogue import LOCAL
from server.domain.request import ImageRequest, Size
from server.domain.routing import pool_code
from server.domain.task import Priority, Task, TaskState, TaskType
from server.ports import Entry, TaskStore, now_ms
from server.queue.sweep import GRACE_MS, Sweep, first_id
from server.queue.task_queue import RedisTaskQueue
from server.store.connect import open_store
from tests.redis_server import RedisServer
from tests.stack import ServiceProcess, calling

CALLERS = 10_000
CONCURRENCY = 10
BATCH = 1_000
LOOK_EVERY_S = 0.1
WALKED_WITHIN_S = 300.0
PATIENCE_S = 60.0
"""For one batch, with nothing else to do."""
OLDEST_MS, NEWEST_MS = 86_400_000, 1_200_000
"""How long ago the backlog was accepted: for longer than the sweep looks back at every walk."""
TTL_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """One round over so many tasks."""

    gets_per_s: float
    submits_per_s: float
    tasks_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Rounds over few and over many tasks, the i-th of each in turn."""

    few: int
    tasks: int
    callers: int
    bytes_per_task: float
    """Redis' `used_memory` for the many in line."""
    small: list[Rates]
    large: list[Rates]


def measure(effort: Effort) -> Growth:
    """Minutes: the many are brought in once, the few before each of their rounds. Raises MeasureFailed."""
    few, many = effort.growth
    small: list[Rates] = []
    large: list[Rates] = []
    with (
        RedisServer() as redis_of_many,
        RedisServer() as redis_of_few,
        _filled(redis_of_many, many) as (crowded, bytes_per_task),
    ):

        def over_few() -> None:
            with _filled(redis_of_few, few) as (quiet, _):
                small.append(_round(quiet, redis_of_few, effort.growth_requests))

        def over_many() -> None:
            large.append(_round(crowded, redis_of_many, effort.growth_requests))

        for number in range(effort.rounds):
            for turn in (over_many, over_few) if number % 2 else (over_few, over_many):
                turn()
            print(f"growth: {few:,}: {small[-1]}; {many:,}: {large[-1]}", flush=True)
    return Growth(
        few=few,
        tasks=many,
        callers=min(CALLERS, many),
        bytes_per_task=bytes_per_task,
        small=small,
        large=large,
    )


@contextmanager
def _filled(redis_server: RedisServer, tasks: int) -> Iterator[tuple[ServiceDeployment, float]]:
    """A deployment with so many tasks stored and in line, and what each takes of Redis."""
    with Service().deployed(redis_server) as deployment:
        began = time.monotonic()
        bytes_per_task = asyncio.run(_fill(deployment, redis_server.url, tasks, walk=True))
        print(f"growth: {tasks:,} tasks brought in within {time.monotonic() - began:.0f} s", flush=True)
        yield deployment, bytes_per_task


def _round(deployment: ServiceDeployment, redis_server: RedisServer, requests: int) -> Rates:
    message = request(0).SerializeToString()
    api = deployment.stack.start("api", fresh=True, SHUTDOWN_GRACE_SECONDS="2")
    get = asyncio.run(_one_task(api)).SerializeToString()
    for method, sent in ((GET_TASK, get), (SUBMIT, message)):
        requests_per_second(api.target, method, sent, requests // 10)
    gets_per_s = requests_per_second(api.target, GET_TASK, get, requests)
    submits_per_s = requests_per_second(api.target, SUBMIT, message, requests)
    if api.stop():
        raise MeasureFailed(f"the API did not stop in order:\n{api.log()}")
    # The few would soon be over, and what is left then is of one caller, who may not have all slots.
    asyncio.run(_fill(deployment, redis_server.url, requests // 2, walk=False))
    return Rates(
        gets_per_s=gets_per_s,
        submits_per_s=submits_per_s,
        tasks_per_s=_worker_rate(deployment, redis_server.url, requests // 2),
    )


def _worker_rate(deployment: ServiceDeployment, redis_url: str, tasks: int) -> float:
    """What a worker does per second once its sweep has walked over all that is live, as at every start."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        stamps, started_ms = Path(directory) / "stamps", now_ms()
        with deployment.worker(CONCURRENCY, stamps) as pid:
            until_entered(stamps, CONCURRENCY, pid)
            walked_s = asyncio.run(_walked(redis_url, started_ms))
            first = count(stamps)
            until_entered(stamps, first + tasks, pid)
        moments = read(stamps)
    print(f"growth: the sweep had walked after {walked_s:.0f} s, {first:,} tasks on", flush=True)
    return tasks / ((moments[first + tasks - 1] - moments[first - 1]) / NS)


async def _walked(redis_url: str, since_ms: int) -> float:
    """Wait for the end of a walk that was begun since then; how long that was. Raises MeasureFailed."""
    done = first_id(since_ms - GRACE_MS)  # at its end, the mark stands at the grace before its beginning
    began = time.monotonic()
    queue = await RedisTaskQueue.connect(redis_url, timeout_s=PATIENCE_S)
    try:
        while (marker := await queue.recovery.marker()) is None or marker.last_id < done:
            if time.monotonic() > began + WALKED_WITHIN_S:
                raise MeasureFailed(f"the sweep has not walked within {WALKED_WITHIN_S:g} s")
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        await queue.aclose()
    return time.monotonic() - began


async def _one_task(api: ServiceProcess) -> task_service_pb2.GetTaskRequest:
    async with calling(api) as calls:
        accepted = await calls.images.GenerateImageAsync(request(0))
    return task_service_pb2.GetTaskRequest(task_id=accepted.task_id)


async def _fill(deployment: ServiceDeployment, redis_url: str, tasks: int, *, walk: bool) -> float:
    """Bring in so many, and have a sweep walk over them where asked; the bytes that each takes of Redis."""
    store = await open_store(deployment.stack.store_url, timeout_s=PATIENCE_S)
    queue = await RedisTaskQueue.connect(redis_url, timeout_s=PATIENCE_S)
    try:
        before = _used_memory(redis_url)
        newest, apart_ms = now_ms() - NEWEST_MS, (OLDEST_MS - NEWEST_MS) / tasks
        for first in range(0, tasks, BATCH):
            numbers = range(first, min(first + BATCH, tasks))
            batch = [_task(number, round(newest - (tasks - number) * apart_ms)) for number in numbers]
            await _keep(store, batch)
            await queue.enqueue([_entry(task) for task in batch])
        bytes_per_task = (_used_memory(redis_url) - before) / tasks
        if walk:
            # The first walk of a queue that no sweep knows: it finds nothing missing and leaves its mark.
            sweep = Sweep(queue, store, lease_ms=1_000)
            while (await sweep.step()).more:
                pass
        return bytes_per_task
    finally:
        await queue.aclose()
        await store.aclose()


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


def _entry(task: Task) -> Entry:
    return Entry(task_id=task.id, pool=task.pool, priority=task.priority, caller=task.queue_caller)


def _used_memory(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return int(client.info("memory")["used_memory"])

"""One round of one contender: its worker works off a full queue, or waits for tasks on an empty one."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contender import Contender, Deployment, MeasureFailed
from benchmarks.latencies import Latencies, from_ns
from benchmarks.process_cpu import cpu_seconds
from benchmarks.stamps import count, read
from tests.redis_server import RedisServer

LOOK_EVERY_S = 0.005
STALLED_S = 30.0
NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How a worker did with a full queue."""

    tasks_per_s: float
    cpu_ms_per_task: float
    redis_cpu_ms_per_task: float
    """What the same tasks cost the Redis server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PickUps:
    """When single tasks were entered."""

    since_call: Latencies
    """From the moments before their submits."""
    since_return: Latencies
    """From their submits' returns."""


def work_round(contender: Contender, redis: RedisServer, *, tasks: int, concurrency: int) -> Work:
    """Fill the queue, start a worker, and see how fast and at what cost it goes. Raises MeasureFailed."""
    with contender.deployed(redis) as deployment:
        deployment.enqueue(tasks)
        work, entered = work_off(deployment, redis, tasks=tasks, concurrency=concurrency)
        if entered != tasks:
            raise MeasureFailed(f"{entered} entries of {tasks} tasks")
        deployment.check(tasks)
    return work


def work_off(deployment: Deployment, redis: RedisServer, *, tasks: int, concurrency: int) -> tuple[Work, int]:
    """Run a worker until so many of at least as many waiting tasks were entered; with it, how many were by
    its end. Raises MeasureFailed.

    What counts begins with the entry of the first task that took the place of an ended one, so that start
    and first claim are left out, and ends with the last entry: each entry in between stands for a task that
    was done.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        stamps = Path(directory) / "stamps"
        with deployment.worker(concurrency, stamps) as pid:
            begun = until_entered(stamps, concurrency, pid)
            cpu, redis_cpu = -_cpu(pid), -cpu_seconds(redis.pid)
            ended = until_entered(stamps, tasks, pid)
            cpu, redis_cpu = cpu + _cpu(pid), redis_cpu + cpu_seconds(redis.pid)
        moments = read(stamps)
    if begun >= ended:
        raise MeasureFailed(f"{ended} tasks were entered before anybody looked")
    elapsed_s = (moments[tasks - 1] - moments[concurrency - 1]) / NS
    return Work(
        tasks_per_s=(tasks - concurrency) / elapsed_s,
        cpu_ms_per_task=1000 * cpu / (ended - begun),
        redis_cpu_ms_per_task=1000 * redis_cpu / (ended - begun),
    ), len(moments)


def pick_up_round(
    contender: Contender, redis: RedisServer, *, samples: int, seconds: float, concurrency: int
) -> PickUps:
    """Submit single tasks to an idle worker. Raises MeasureFailed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, contender.deployed(redis) as deployment:
        stamps = Path(directory) / "stamps"
        with deployment.worker(concurrency, stamps):
            found = deployment.pick_ups(stamps, samples=samples, seconds=seconds)
    return PickUps(
        since_call=from_ns(one.since_call_ns for one in found),
        since_return=from_ns(one.since_return_ns for one in found),
    )


def until_entered(stamps: Path, tasks: int, pid: int) -> int:
    """Wait until so many tasks were entered; how many they are by then. Raises MeasureFailed."""
    seen, since = 0, time.monotonic()
    while (now := count(stamps)) < tasks:
        if now > seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > STALLED_S:
            raise MeasureFailed(f"no task was entered for {STALLED_S:g} s, after {seen} of {tasks}")
        time.sleep(LOOK_EVERY_S)
    return now


def _cpu(pid: int) -> float:
    try:
        return cpu_seconds(pid)
    except ProcessLookupError as error:
        raise MeasureFailed("the worker ended by itself") from error

"""One round of one contender: its worker works off a full queue, or waits for tasks on an empty one."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contender import Contender, MeasureFailed
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PickUp:
    """Milliseconds from a submit's return to the task's entry."""

    p50_ms: float
    p99_ms: float


def work_round(contender: Contender, redis: RedisServer, *, tasks: int, concurrency: int) -> Work:
    """Fill the queue, start a worker, and see how fast and at what cost it goes. Raises MeasureFailed.

    What counts begins with the entry of the first task that took the place of an ended one, so that start
    and first claim are left out, and ends with the last entry: each entry in between stands for a task that
    was done.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, contender.deployed(redis) as deployment:
        stamps = Path(directory) / "stamps"
        deployment.enqueue(tasks)
        with deployment.worker(concurrency, stamps) as pid:
            begun = _until(stamps, concurrency, pid)
            cpu = -_cpu(pid)
            ended = _until(stamps, tasks, pid)
            cpu += _cpu(pid)
        moments = read(stamps)
        if len(moments) != tasks or begun >= ended:
            raise MeasureFailed(f"{len(moments)} entries of {tasks} tasks")
        deployment.check(tasks)
    elapsed_s = (moments[-1] - moments[concurrency - 1]) / NS
    return Work(
        tasks_per_s=(tasks - concurrency) / elapsed_s,
        cpu_ms_per_task=1000 * cpu / (ended - begun),
    )


def pick_up_round(
    contender: Contender, redis: RedisServer, *, samples: int, seconds: float, concurrency: int
) -> PickUp:
    """Submit single tasks to an idle worker. Raises MeasureFailed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, contender.deployed(redis) as deployment:
        stamps = Path(directory) / "stamps"
        with deployment.worker(concurrency, stamps):
            latencies = sorted(deployment.pick_ups(stamps, samples=samples, seconds=seconds))
    return PickUp(p50_ms=quantile(latencies, 0.50) / 1e6, p99_ms=quantile(latencies, 0.99) / 1e6)


def quantile(ordered: list[int], share: float) -> float:
    """The smallest of the ordered values that is not exceeded by at least this share of them."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _until(stamps: Path, tasks: int, pid: int) -> int:
    """Until so many tasks were entered; how many they are by then."""
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

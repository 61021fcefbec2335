"""Growth: the service over a million stored and queued tasks beside itself over a thousand.

Both deployments, each with a Redis of its own, take their turns in every round: the API alone with an empty
processor, then one worker alone. The many are made as many as they were before each round.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from task.v1 import task_service_pb2

from benchmarks.backlog import CALLERS, fill, let_walk, waiting, waiting_ids, walk_over
from benchmarks.contender import MeasureFailed
from benchmarks.echo_ratio import GET_TASK, SUBMIT, all_answered
from benchmarks.effort import Effort
from benchmarks.load import python_requests_per_second, requests_per_second_in_runs
from benchmarks.process_cpu import cpu_seconds
from benchmarks.service import USERS, Service, ServiceDeployment, request
from benchmarks.stamps import count, read
from benchmarks.worker_round import LOOK_EVERY_S, NS, until_entered
from tests.redis_server import RedisServer

CONCURRENCY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """One round over so many tasks."""

    gets_per_s: float
    cpu_ms_per_get: float
    """Of the API process."""
    submits_per_s: float
    tasks_per_s: float
    """Of the worker, from its start on: its sweep compares queue and store meanwhile."""
    left: int
    """So many still waited at the end."""


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


def measure(effort: Effort, keep: Callable[[Growth], None]) -> None:
    """Minutes: the many are brought in once, the few before each of their rounds. Raises MeasureFailed.

    `keep` is told after every round what was found so far.
    """
    few, many = effort.growth
    with (
        RedisServer() as redis_of_many,
        RedisServer() as redis_of_few,
        _filled(redis_of_many, many) as (crowded, bytes_per_task),
    ):
        found = Growth(
            few=few,
            tasks=many,
            callers=min(CALLERS, many),
            bytes_per_task=bytes_per_task,
            small=[],
            large=[],
        )

        def over_few() -> Rates:
            with _filled(redis_of_few, few) as (quiet, _):
                return _round(quiet, effort)

        def over_many() -> Rates:
            if (gone := many - waiting(crowded.stack)) > 0:
                asyncio.run(fill(crowded.stack, gone))
            return _round(crowded, effort)

        for number in range(effort.rounds):
            if number % 2:
                large, small = over_many(), over_few()
            else:
                small, large = over_few(), over_many()
            found.small.append(small)
            found.large.append(large)
            keep(found)
            print(f"growth: {few:,}: {small}; {many:,}: {large}", flush=True)


@contextmanager
def _filled(redis_server: RedisServer, tasks: int) -> Iterator[tuple[ServiceDeployment, float]]:
    """A deployment with so many tasks stored and in line, and what each takes of Redis."""
    with Service().deployed(redis_server) as deployment:
        began = time.monotonic()
        bytes_per_task = asyncio.run(fill(deployment.stack, tasks))
        asyncio.run(walk_over(deployment.stack))
        print(f"growth: {tasks:,} tasks brought in within {time.monotonic() - began:.0f} s", flush=True)
        yield deployment, bytes_per_task


def _round(deployment: ServiceDeployment, effort: Effort) -> Rates:
    requests = effort.growth_requests
    # Of many callers, as the backlog is: one alone may not have all slots of the worker that comes after.
    submits = [request(number).SerializeToString() for number in range(USERS)]
    gets = [
        task_service_pb2.GetTaskRequest(task_id=task_id).SerializeToString()
        for task_id in waiting_ids(deployment.stack, requests)
    ]
    api = deployment.stack.start("api", fresh=True, SHUTDOWN_GRACE_SECONDS="2")
    python_requests_per_second(api.target, GET_TASK, gets, requests // 10)
    requests_per_second_in_runs(api.target, SUBMIT, submits, requests // 10)
    cpu_s = cpu_seconds(api.pid)
    gets_per_s = python_requests_per_second(api.target, GET_TASK, gets, requests)
    cpu_s = cpu_seconds(api.pid) - cpu_s
    submits_per_s = requests_per_second_in_runs(api.target, SUBMIT, submits, requests)
    all_answered(api)
    if api.stop():
        raise MeasureFailed(f"the API did not stop in order:\n{api.log()}")
    tasks_per_s = _work(deployment, effort.growth_worker_s)
    return Rates(
        gets_per_s=gets_per_s,
        cpu_ms_per_get=1000 * cpu_s / requests,
        submits_per_s=submits_per_s,
        tasks_per_s=tasks_per_s,
        left=waiting(deployment.stack),
    )


def _work(deployment: ServiceDeployment, seconds: float) -> float:
    """A worker from its start, for so long or until nothing waits: the tasks it enters per second.

    Raises MeasureFailed.
    """
    let_walk(deployment.stack)
    in_line = waiting(deployment.stack)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        stamps = Path(directory) / "stamps"
        with deployment.worker(CONCURRENCY, stamps) as pid:
            until_entered(stamps, CONCURRENCY + 1, pid)
            deadline = time.monotonic() + seconds
            while count(stamps) < in_line and time.monotonic() < deadline:
                time.sleep(LOOK_EVERY_S)
        moments = read(stamps)
    return (len(moments) - CONCURRENCY) / ((moments[-1] - moments[CONCURRENCY - 1]) / NS)

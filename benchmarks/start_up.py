"""Start: from that of an api process to its first answer, and what each part holds in memory when idle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from task.v1 import task_service_pb2

from benchmarks.effort import Effort
from benchmarks.memory import resident_mib
from benchmarks.service import Service, request
from tests.distributed.several import PROCESSES, children_of, start_several
from tests.redis_server import RedisServer
from tests.stack import ServiceProcess, Stack, calling


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUp:
    """One start of `python -m server api`."""

    first_answer_s: float
    """Until a GetTask was answered, with the connection made for it."""
    idle_mib: float
    """Resident, after seconds without a call."""
    others_mib: Mapping[str, float]
    """The same of the other parts, by name."""


def measure(redis: RedisServer, effort: Effort, keep: Callable[[StartUp], None]) -> None:
    """Start it again and again beside the same store, and `keep` each. A first start, not counted, warms the
    disk."""
    with Service().deployed(redis) as deployment:
        api = deployment.stack.start("api", fresh=True)
        task_id = asyncio.run(_submitted(api))
        api.kill()
        for _ in range(effort.rounds):
            began = time.monotonic()
            api = deployment.stack.start("api", fresh=True)
            asyncio.run(_read(api, task_id))
            first_answer_s = time.monotonic() - began
            time.sleep(effort.idle_s)
            idle_mib = resident_mib(api.pid)
            api.kill()
            others_mib = _others(deployment.stack, effort.idle_s) | {"Redis": resident_mib(redis.pid)}
            keep(StartUp(first_answer_s=first_answer_s, idle_mib=idle_mib, others_mib=others_mib))
            print(f"api, start: {first_answer_s:.2f} s, {idle_mib:.0f} MiB idle", flush=True)


def _others(stack: Stack, idle_s: float) -> dict[str, float]:
    worker, supervisor = stack.start("worker", fresh=True), start_several(stack, fresh=True)
    time.sleep(idle_s)
    several = [resident_mib(pid) for pid in children_of(supervisor.pid)]
    found = {
        "worker": resident_mib(worker.pid),
        f"api with `--processes {PROCESSES}`, its supervisor": resident_mib(supervisor.pid),
        f"api with `--processes {PROCESSES}`, each process": max(several),
    }
    worker.kill()
    supervisor.kill()
    return found


async def _submitted(api: ServiceProcess) -> str:
    async with calling(api) as calls:
        return (await calls.images.GenerateImageAsync(request(0))).task_id


async def _read(api: ServiceProcess, task_id: str) -> None:
    async with calling(api) as calls:
        await calls.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=task_id))

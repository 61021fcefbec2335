"""Start: from the start of an api process to its first answer, and what it holds in memory when idle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from task.v1 import task_service_pb2

from benchmarks.effort import Effort
from benchmarks.memory import resident_mib
from benchmarks.service import Service, request
from tests.redis_server import RedisServer
from tests.stack import ServiceProcess, calling


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUp:
    """One start of `python -m server api`."""

    first_answer_s: float
    """Until a GetTask was answered, with the connection made for it."""
    idle_mib: float
    """Resident, after seconds without a call."""


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
            start = StartUp(first_answer_s=first_answer_s, idle_mib=resident_mib(api.pid))
            keep(start)
            print(f"api, start: {start.first_answer_s:.2f} s, {start.idle_mib:.0f} MiB idle", flush=True)
            api.kill()


async def _submitted(api: ServiceProcess) -> str:
    async with calling(api) as calls:
        return (await calls.images.GenerateImageAsync(request(0))).task_id


async def _read(api: ServiceProcess, task_id: str) -> None:
    async with calling(api) as calls:
        await calls.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=task_id))

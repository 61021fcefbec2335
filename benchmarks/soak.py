"""Soak: synchronous calls at half of what the deployment bears, for half an hour; memory and errors."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from benchmarks.effort import Effort
from benchmarks.memory import resident_mib
from benchmarks.service import Service, request
from tests.redis_server import RedisServer
from tests.stack import Calls, calling

PROBING_CALLERS = 32
SLOTS = 64
SAMPLES = 90
"""Of memory, evenly over the time."""
FROM_SHARE, SHARE = 0.2, 0.2
"""What the end is held against: the median of a fifth of the samples, after a first fifth to warm up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """One run."""

    minutes: float
    full_calls_per_s: float
    """What the deployment bore, before."""
    calls_per_s: float
    """What it was given: half of that."""
    calls: int
    errors: int
    memory_mib: Mapping[str, Sequence[float]]
    """Resident memory by process, in order of time."""

    def growth(self) -> dict[str, float]:
        """By process, the memory at the end over that after warming up."""
        return {name: grown(samples) for name, samples in self.memory_mib.items()}


def grown(samples: Sequence[float]) -> float:
    """The median of the last fifth over that of the second fifth."""
    width = max(1, round(SHARE * len(samples)))
    first = min(round(FROM_SHARE * len(samples)), len(samples) - 1)
    return statistics.median(samples[-width:]) / statistics.median(samples[first : first + width])


def measure(redis: RedisServer, effort: Effort) -> Soak:
    """API and worker on this machine, a small picture each; nothing is restarted in between."""
    service = Service(picture=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, service.deployed(redis) as deployment:
        api = deployment.stack.start("api", fresh=True)
        with deployment.worker(SLOTS, Path(directory) / "stamps") as worker_pid:
            pids = {"the api": api.pid, "the worker": worker_pid, "Redis": redis.pid}

            async def run() -> Soak:
                async with calling(api) as calls:
                    full = await _full_rate(calls, effort.soak_probe_s)
                    print(f"soak: {full:.0f} calls/s at full load", flush=True)
                    return await _half_load(calls, full, pids, effort.soak_s)

            return asyncio.run(run())


async def _full_rate(calls: Calls, seconds: float) -> float:
    done = 0
    began = time.monotonic()

    async def caller(number: int) -> None:
        nonlocal done
        while time.monotonic() < began + seconds:
            await calls.images.GenerateImage(request(number))
            done += 1

    async with asyncio.TaskGroup() as group:
        for number in range(PROBING_CALLERS):
            group.create_task(caller(number))
    return done / (time.monotonic() - began)


async def _half_load(calls: Calls, full: float, pids: Mapping[str, int], seconds: float) -> Soak:
    memory: dict[str, list[float]] = {name: [] for name in pids}
    errors: list[str] = []
    rate = full / 2
    began = time.monotonic()
    sent = samples = 0

    async def call(number: int) -> None:
        try:
            answer = await calls.images.GenerateImage(request(number))
        except grpc.aio.AioRpcError as error:
            errors.append(error.code().name)
        else:
            if len(answer.images) != 1:
                errors.append("no image")

    async with asyncio.TaskGroup() as group:
        while (passed := time.monotonic() - began) < seconds:
            # By the clock, whether or not earlier calls were answered.
            while sent < rate * passed:
                group.create_task(call(sent))
                sent += 1
            if passed > samples * seconds / SAMPLES:
                samples += 1
                for name, pid in pids.items():
                    memory[name].append(resident_mib(pid))
            await asyncio.sleep(0.01)
    return Soak(
        minutes=seconds / 60,
        full_calls_per_s=full,
        calls_per_s=rate,
        calls=sent,
        errors=len(errors),
        memory_mib=memory,
    )

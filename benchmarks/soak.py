"""Soak: synchronous calls at half of what the deployment bears, for half an hour; memory and errors."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from benchmarks.effort import Effort
from benchmarks.memory import resident_mib
from benchmarks.service import Service, request
from tests.redis_server import RedisServer
from tests.stack import Calls, calling

PROBING_CALLERS = 128
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
    calls_by: Sequence[int]
    """How many calls had been sent by each of these samples."""

    def trends(self) -> dict[str, Trend]:
        """By process."""
        return {name: trend(samples, self.calls_by) for name, samples in self.memory_mib.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The memory of one process after warming up, and at the end."""

    second_fifth_mib: float
    last_fifth_mib: float
    kib_per_1000_calls: float
    """What came to it in between."""

    @property
    def grown(self) -> float:
        """The end over the beginning."""
        return self.last_fifth_mib / self.second_fifth_mib


def trend(samples_mib: Sequence[float], calls_by: Sequence[int]) -> Trend:
    """Of the medians of the second and the last fifth of the samples, and of the calls by then."""
    width = max(1, round(SHARE * len(samples_mib)))
    first = min(round(FROM_SHARE * len(samples_mib)), len(samples_mib) - 1)
    second, last = (
        statistics.median(samples_mib[first : first + width]),
        statistics.median(samples_mib[-width:]),
    )
    calls = statistics.median(calls_by[-width:]) - statistics.median(calls_by[first : first + width])
    return Trend(
        second_fifth_mib=second,
        last_fifth_mib=last,
        kib_per_1000_calls=1024 * (last - second) / (calls / 1000) if calls else 0.0,
    )


def measure(redis: RedisServer, effort: Effort, keep: Callable[[Soak], None]) -> None:
    """API and worker on this machine, a small picture each; nothing is restarted in between. `keep` is told
    at every sample what was found so far."""
    service = Service(picture=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, service.deployed(redis) as deployment:
        api = deployment.stack.start("api", fresh=True)
        with deployment.worker(SLOTS, Path(directory) / "stamps") as worker_pid:
            pids = {"the api": api.pid, "the worker": worker_pid, "Redis": redis.pid}

            async def run() -> None:
                async with calling(api) as calls:
                    full = await _full_rate(calls, effort.soak_warm_up_s, effort.soak_probe_s)
                    print(f"soak: {full:.0f} calls/s at full load", flush=True)
                    await _half_load(calls, full, pids, effort.soak_s, keep)

            asyncio.run(run())


async def _full_rate(calls: Calls, warm_up_s: float, seconds: float) -> float:
    """What came to its end in so many seconds, after a warm-up that does not count, with callers enough to
    fill every slot."""
    done = 0
    counted_from = time.monotonic() + warm_up_s

    async def caller(number: int) -> None:
        nonlocal done
        while time.monotonic() < counted_from + seconds:
            await calls.images.GenerateImage(request(number))
            done += counted_from <= time.monotonic() < counted_from + seconds

    async with asyncio.TaskGroup() as group:
        for number in range(PROBING_CALLERS):
            group.create_task(caller(number))
    return done / seconds


async def _half_load(
    calls: Calls, full: float, pids: Mapping[str, int], seconds: float, keep: Callable[[Soak], None]
) -> None:
    memory: dict[str, list[float]] = {name: [] for name in pids}
    calls_by: list[int] = []
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

    def so_far(passed_s: float) -> Soak:
        return Soak(
            minutes=passed_s / 60,
            full_calls_per_s=full,
            calls_per_s=rate,
            calls=sent,
            errors=len(errors),
            memory_mib=memory,
            calls_by=calls_by,
        )

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
                calls_by.append(sent)
                keep(so_far(passed))
            await asyncio.sleep(0.01)
    keep(so_far(seconds))

"""Thousands of synchronous calls that wait in one api process: what it does to it and to other calls."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from task.v1 import task_service_pb2

from benchmarks.contender import MeasureFailed
from benchmarks.effort import Effort
from benchmarks.environments import ROOT
from benchmarks.latencies import Latencies, from_ns
from benchmarks.loop_lag import between
from benchmarks.memory import peak_mib, resident_mib
from benchmarks.service import Service, request
from tests.redis_server import RedisServer
from tests.side_port import fetch
from tests.stack import Calls, ServiceProcess, calling

OPEN_WITHIN_S = 240.0
LOOK_EVERY_S = 0.5
READ_EVERY_S, SUBMIT_EVERY_S = 0.05, 0.5
"""Other callers come at these times, whether or not those before them were answered."""
ANSWERED_WITHIN_S = 5.0
"""Another caller's patience."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Some seconds of it, with every call open."""

    lag: Latencies
    """Of the process's event loop."""
    resident_mib: float
    peak_mib: float
    """The most that the process has held since its start."""
    read: Latencies
    """Other callers' GetTask."""
    submit: Latencies
    """Other callers' GenerateImageAsync."""
    failed: int
    """How many of the other callers' calls were not answered with success, in time; their latencies count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWaits:
    """So many calls open in one process."""

    waits: int
    windows: list[Window]


def measure(redis: RedisServer, effort: Effort, keep: Callable[[OpenWaits], None]) -> None:
    """No worker runs, so all calls wait. Raises MeasureFailed, also when one of them does not.

    `keep` is told after every window what was found so far.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, Service().deployed(redis) as deployment:
        lags = Path(directory) / "lags"
        api = deployment.stack.start("api", fresh=True, program=("benchmarks.watched_api", str(lags)))
        with _callers(api, effort.waits) as callers:

            async def windows() -> None:
                found = OpenWaits(waits=effort.waits, windows=[])
                await _all_wait(api, effort.waits, callers)
                async with calling(api) as calls:
                    task_id = (await calls.images.GenerateImageAsync(request(0))).task_id
                    for _ in range(effort.rounds):
                        window = await _window(api, calls, task_id, lags, effort.window_s)
                        if (still := await _waiting(api)) != effort.waits:
                            raise MeasureFailed(f"of {effort.waits} calls {still} waited to a window's end")
                        found.windows.append(window)
                        keep(found)

            asyncio.run(windows())


@contextmanager
def _callers(api: ServiceProcess, waits: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.waiting_callers", api.target, str(waits)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
        ended, _ = process.communicate()
        if ended.strip() != "0":
            raise MeasureFailed(f"of the calls that should wait had ended: {ended.strip() or 'all'}")
    finally:
        process.kill()
        process.communicate()


async def _all_wait(api: ServiceProcess, waits: int, callers: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + OPEN_WITHIN_S
    waiting = 0
    while waiting != waits:
        if time.monotonic() > deadline:
            raise MeasureFailed(f"{waiting} of {waits} calls waited after {OPEN_WITHIN_S:g} s")
        if callers.poll() is not None:
            raise MeasureFailed(f"the callers' process ended by itself, exit code {callers.returncode}")
        await asyncio.sleep(LOOK_EVERY_S)
        waiting = await _waiting(api)


async def _waiting(api: ServiceProcess) -> int:
    text = (await fetch(f"{api.http}/metrics")).body.decode()
    found = re.search(r"^imagegen_waiting_calls(?:{.*})? (\S+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0


async def _window(api: ServiceProcess, calls: Calls, task_id: str, lags: Path, window_s: float) -> Window:
    begin = time.monotonic_ns()
    failed: list[str] = []
    async with asyncio.TaskGroup() as group:
        get = task_service_pb2.GetTaskRequest(task_id=task_id)

        def read() -> Awaitable[object]:
            return calls.tasks.GetTask(get, timeout=ANSWERED_WITHIN_S)

        def submit() -> Awaitable[object]:
            return calls.images.GenerateImageAsync(request(0), timeout=ANSWERED_WITHIN_S)

        reading = group.create_task(_every(READ_EVERY_S, window_s, read, failed))
        submitting = group.create_task(_every(SUBMIT_EVERY_S, window_s, submit, failed))
    return Window(
        lag=from_ns(between(lags, begin, time.monotonic_ns())),
        resident_mib=resident_mib(api.pid),
        peak_mib=peak_mib(api.pid),
        read=reading.result(),
        submit=submitting.result(),
        failed=len(failed),
    )


async def _every(
    pause_s: float, window_s: float, call: Callable[[], Awaitable[object]], failed: list[str]
) -> Latencies:
    found: list[int] = []

    async def timed() -> None:
        began = time.monotonic_ns()
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            failed.append(error.code().name)
        found.append(time.monotonic_ns() - began)

    async with asyncio.TaskGroup() as group:
        for _ in range(round(window_s / pause_s)):
            group.create_task(timed())
            await asyncio.sleep(pause_s)
    return from_ns(found)

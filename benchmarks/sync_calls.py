"""Synchronous calls: how much longer than their provider do callers wait, many at once?"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contender import MeasureFailed
from benchmarks.effort import Effort
from benchmarks.latencies import Latencies, from_ns
from benchmarks.service import Service, request
from tests.redis_server import RedisServer
from tests.stack import Calls, calling

TAKES_S = 1.0
SLOTS = 256
"""More than there are callers: nobody waits for a slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncCalls:
    """Latencies of GenerateImage, a round each."""

    callers: int
    spread: list[Latencies]
    """Callers that began evenly over one second, each with one call after the other."""
    at_once: list[Latencies]
    """All callers' single calls, sent in the same moment."""


def measure(redis: RedisServer, effort: Effort, keep: Callable[[SyncCalls], None]) -> None:
    """One deployment with one worker; a first round is not counted. Raises MeasureFailed.

    `keep` is told after every round what was found so far.
    """
    service = Service(picture=True, takes_s=TAKES_S)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, service.deployed(redis) as deployment:
        api = deployment.stack.start("api", fresh=True)
        with deployment.worker(SLOTS, Path(directory) / "stamps"):

            async def rounds() -> None:
                callers, of_each = effort.sync_callers, effort.sync_calls
                found = SyncCalls(callers=callers, spread=[], at_once=[])
                async with calling(api) as calls:
                    await _round(calls, callers, of_each=1, over_s=TAKES_S)
                    for _ in range(effort.rounds):
                        spread = await _round(calls, callers, of_each=of_each, over_s=TAKES_S)
                        at_once = await _round(calls, callers, of_each=1, over_s=0.0)
                        found.spread.append(spread)
                        found.at_once.append(at_once)
                        keep(found)

            asyncio.run(rounds())


async def _round(calls: Calls, callers: int, *, of_each: int, over_s: float) -> Latencies:
    found: list[int] = []

    async def caller(number: int) -> None:
        await asyncio.sleep(over_s * number / callers)
        for _ in range(of_each):
            began = time.monotonic_ns()
            answer = await calls.images.GenerateImage(request(number))
            found.append(time.monotonic_ns() - began)
            if len(answer.images) != 1:
                raise MeasureFailed(f"an answer has {len(answer.images)} images")

    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(caller(number))
    return from_ns(found)

"""What comes now and then leaves at once; what comes in numbers leaves together."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from server.pacing import COMPANY, Pace

GATHER_S = 0.2
FULL = 500


async def test_what_comes_alone_leaves_at_once() -> None:
    pace, loop = Pace(GATHER_S, full=FULL), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(COMPANY):
        await pace.turn(lambda: 1)
    assert loop.time() - began < GATHER_S / 2


async def test_under_load_what_comes_within_the_time_leaves_together() -> None:
    pace, loop = Pace(GATHER_S, full=FULL), asyncio.get_running_loop()
    waiting, left, come = list[int](), list[tuple[float, int]](), asyncio.Event()

    async def load() -> None:
        for item in range(100):
            waiting.append(item)
            come.set()
            await asyncio.sleep(GATHER_S / 20)

    async def leave() -> None:
        while True:
            await come.wait()
            await pace.turn(waiting.__len__)
            left.append((loop.time(), len(waiting)))
            waiting.clear()
            come.clear()

    leaving = asyncio.create_task(leave())
    await load()
    leaving.cancel()
    together = [(at, items) for at, items in left if items > 1]
    assert len(left) - len(together) <= COMPANY, "only the first ones go alone"
    assert all(b - a >= GATHER_S * 0.9 for (a, _), (b, _) in pairwise(together))
    assert sum(items for _, items in left) >= 100 - 25


async def test_without_a_time_to_gather_nothing_ever_waits() -> None:
    pace, loop = Pace(0, full=FULL), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(10 * COMPANY):
        await pace.turn(lambda: COMPANY)
    assert loop.time() - began < GATHER_S


async def test_once_the_load_is_over_a_lone_one_leaves_at_once_again() -> None:
    pace, loop = Pace(GATHER_S, full=FULL), asyncio.get_running_loop()
    for _ in range(3):
        await pace.turn(lambda: 10 * COMPANY)
    async with asyncio.timeout(10):
        while True:
            began = loop.time()
            await pace.turn(lambda: 1)
            if loop.time() - began < GATHER_S / 10:
                break


async def test_what_fills_a_batch_waits_for_no_time() -> None:
    pace, loop = Pace(GATHER_S, full=FULL), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(20):
        await pace.turn(lambda: FULL)
    assert loop.time() - began < GATHER_S

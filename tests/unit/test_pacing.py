"""What comes now and then leaves at once; what comes in numbers leaves together."""

from __future__ import annotations

import asyncio

from server.pacing import COMPANY, Pace

GATHER_S = 0.2


async def test_what_comes_alone_leaves_at_once() -> None:
    pace, loop = Pace(GATHER_S), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(COMPANY):
        await pace.turn(lambda: 1)
    assert loop.time() - began < GATHER_S / 2


async def test_under_load_what_comes_within_the_time_leaves_together() -> None:
    pace, loop = Pace(GATHER_S), asyncio.get_running_loop()
    waiting, left = 0, list[tuple[float, int]]()

    async def come() -> None:
        nonlocal waiting
        for _ in range(100):
            waiting += 1
            await asyncio.sleep(0.01)

    async def leave() -> None:
        nonlocal waiting
        while True:
            while not waiting:
                await asyncio.sleep(0.001)
            await pace.turn(lambda: waiting)
            left.append((loop.time(), waiting))
            waiting = 0

    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(leave())
        await group.create_task(come())
        leaving.cancel()
    together = [(at, items) for at, items in left if items > 1]
    assert len(left) - len(together) <= COMPANY, "only the first ones go alone"
    assert all(b - a >= GATHER_S * 0.9 for (a, _), (b, _) in zip(together, together[1:], strict=False))
    assert sum(items for _, items in left) >= 100 - 25


async def test_without_a_time_to_gather_nothing_ever_waits() -> None:
    pace, loop = Pace(0), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(10 * COMPANY):
        await pace.turn(lambda: COMPANY)
    assert loop.time() - began < GATHER_S


async def test_once_the_load_is_over_a_lone_one_leaves_at_once_again() -> None:
    pace, loop = Pace(GATHER_S), asyncio.get_running_loop()
    for _ in range(3):
        await pace.turn(lambda: 10 * COMPANY)
    async with asyncio.timeout(10):
        while True:
            began = loop.time()
            await pace.turn(lambda: 1)
            if loop.time() - began < GATHER_S / 10:
                break

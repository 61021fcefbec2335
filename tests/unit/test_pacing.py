"""What comes now and then leaves at once; what keeps coming in numbers leaves together."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from server import pacing
from server.pacing import LOAD, WINDOW_S, Pace

GATHER_S = 0.2
FULL = 500


@pytest.fixture
def one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, the test is over within the window."""
    monkeypatch.setattr(pacing, "WINDOW_S", 1_000.0)


@pytest.mark.usefixtures("one_window")
@pytest.mark.parametrize("together", [1, 20, LOAD])
async def test_what_is_no_load_leaves_at_once_however_many_come_together(together: int) -> None:
    pace, loop = Pace(GATHER_S, full=FULL), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(LOAD // together):
        await pace.turn(lambda: together)
    assert loop.time() - began < GATHER_S / 2


@pytest.mark.usefixtures("one_window")
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

    for _ in range(LOAD):
        await pace.turn(lambda: 1)
    leaving = asyncio.create_task(leave())
    await load()
    leaving.cancel()
    assert all(b - a >= GATHER_S * 0.9 for (a, _), (b, _) in pairwise(left))
    assert sum(items for _, items in left) >= 100 - 25


async def test_a_load_that_goes_on_is_one_from_its_next_window_s_first_item_on() -> None:
    pace, loop = Pace(GATHER_S, full=FULL), asyncio.get_running_loop()
    for _ in range(3):
        await pace.turn(lambda: LOAD + 1)
    waits = 0
    until = loop.time() + 4 * WINDOW_S
    while loop.time() < until:
        began = loop.time()
        await pace.turn(lambda: LOAD // 2)  # in each window more than LOAD
        waits += loop.time() - began > GATHER_S / 2
    assert waits >= 3


async def test_without_a_time_to_gather_nothing_ever_waits() -> None:
    pace, loop = Pace(0, full=FULL), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(10):
        await pace.turn(lambda: LOAD)
    assert loop.time() - began < GATHER_S


async def test_once_the_load_is_over_a_lone_one_leaves_at_once_again() -> None:
    pace, loop = Pace(GATHER_S, full=FULL), asyncio.get_running_loop()
    for _ in range(3):
        await pace.turn(lambda: 2 * LOAD)
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

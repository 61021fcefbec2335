"""What comes now and then leaves at once; what keeps coming in numbers leaves together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from server import pacing
from server.pacing import LOAD, WINDOW_S, Pace

GATHER_S = WINDOW_S / 10
FULL = 10 * LOAD


class Clock:
    """Time that passes when somebody sleeps, and what was slept."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.slept_s: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    loop = SimpleNamespace(time=lambda: clock.now_s)
    monkeypatch.setattr(pacing, "asyncio", SimpleNamespace(get_running_loop=lambda: loop, sleep=clock.sleep))
    return clock


async def loaded(clock: Clock) -> Pace:
    """One that has just seen a load begin; nothing has waited yet."""
    pace = Pace(GATHER_S, full=FULL)
    for _ in range(LOAD):
        await pace.turn(lambda: 1)
    assert clock.slept_s == []
    return pace


@pytest.mark.parametrize("together", [1, LOAD // 10, LOAD])
async def test_what_is_no_load_leaves_at_once_however_many_come_together(clock: Clock, together: int) -> None:
    pace = Pace(GATHER_S, full=FULL)
    for _ in range(5):
        for _ in range(LOAD // together):
            await pace.turn(lambda: together)
        clock.now_s += WINDOW_S
    assert clock.slept_s == []


async def test_under_load_what_comes_leaves_a_gathering_time_after_those_before_it(clock: Clock) -> None:
    pace = await loaded(clock)
    await pace.turn(lambda: 1)
    clock.now_s += GATHER_S / 4
    await pace.turn(lambda: 1)
    clock.now_s += GATHER_S
    await pace.turn(lambda: 1)
    assert clock.slept_s == pytest.approx([GATHER_S, GATHER_S * 3 / 4])


async def test_what_comes_before_the_others_leave_counts_as_well(clock: Clock) -> None:
    pace, waiting = Pace(GATHER_S, full=FULL), iter([1, LOAD + 1])
    await pace.turn(lambda: next(waiting))
    clock.now_s += WINDOW_S
    for _ in range(2):
        await pace.turn(lambda: 1)
    assert clock.slept_s == pytest.approx([GATHER_S])


async def test_a_load_that_goes_on_is_one_from_the_first_item_of_its_next_window_on(clock: Clock) -> None:
    pace = await loaded(clock)
    await pace.turn(lambda: 1)
    clock.now_s += WINDOW_S - GATHER_S * 3 / 2
    await pace.turn(lambda: 1)
    clock.slept_s.clear()
    clock.now_s += GATHER_S / 2
    await pace.turn(lambda: 1)
    assert clock.slept_s == pytest.approx([GATHER_S / 2])


async def test_once_the_load_is_over_what_comes_leaves_at_once_again(clock: Clock) -> None:
    pace = await loaded(clock)
    await pace.turn(lambda: 1)
    clock.slept_s.clear()
    clock.now_s += 2 * WINDOW_S + GATHER_S
    await pace.turn(lambda: 1)
    await pace.turn(lambda: 1)
    assert clock.slept_s == []


async def test_without_a_time_to_gather_nothing_ever_waits(clock: Clock) -> None:
    pace = Pace(0, full=FULL)
    for _ in range(10):
        await pace.turn(lambda: LOAD)
    assert clock.slept_s == []


async def test_what_fills_a_batch_waits_for_no_time(clock: Clock) -> None:
    pace = await loaded(clock)
    for _ in range(10):
        await pace.turn(lambda: FULL)
    assert clock.slept_s == []

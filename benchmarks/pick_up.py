"""Pick-up: how long after its submit a task enters its body, on an idle queue.

Standard library only: peers import it from their own environments.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.stamps import count, read

LOOK_EVERY_S = 0.001
TASK_TIMEOUT_S = 30.0
WARM_UP = 3
GAP_S = (0.03, 0.08)
"""After a task was picked up, so long until the next one: time to finish it and to wait for work again."""
SLOW_S = 0.05
PHASE_S = (0.0, 1.0)
"""After a task that was picked up as slowly as SLOW_S, so long in addition: its worker polls, and shall be
met at any moment between two polls, not always right after one."""


class PickUp(NamedTuple):
    """One task's entry."""

    since_call_ns: int
    """From the moment before its submit."""
    since_return_ns: int
    """From its submit's return; negative where a worker was there before it."""


class NotPickedUp(Exception):
    """No worker entered a task in time."""


async def pick_ups(
    submit: Callable[[], Awaitable[None]], stamps: Path, *, samples: int, seconds: float
) -> list[PickUp]:
    """Submit one task after the other, and see when each is entered.

    At most `samples` and at least one, none
    begun after `seconds`, before which a few are made that are not counted. Raises NotPickedUp.
    """
    found: list[PickUp] = []
    before = count(stamps)
    deadline = float("inf")
    while len(found) < WARM_UP + samples and (len(found) <= WARM_UP or time.monotonic() < deadline):
        if len(found) == WARM_UP:
            deadline = time.monotonic() + seconds
        called = time.monotonic_ns()
        await submit()
        returned = time.monotonic_ns()
        await _entered(stamps, before + len(found) + 1)
        entered = read(stamps)[-1]
        found.append(PickUp(entered - called, entered - returned))
        slow = found[-1].since_return_ns > SLOW_S * 1e9
        await asyncio.sleep(random.uniform(*GAP_S) + (random.uniform(*PHASE_S) if slow else 0.0))
    return found[WARM_UP:]


async def _entered(stamps: Path, tasks: int) -> None:
    deadline = time.monotonic() + TASK_TIMEOUT_S
    while count(stamps) < tasks:
        if time.monotonic() > deadline:
            raise NotPickedUp(f"a task was not entered within {TASK_TIMEOUT_S:g} s")
        await asyncio.sleep(LOOK_EVERY_S)

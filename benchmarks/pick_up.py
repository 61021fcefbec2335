"""Pick-up: how long after its submit returned a task enters its body, on an idle queue.

Standard library only: peers import it from their own environments.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

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


class NotPickedUp(Exception):
    """No worker entered a task in time."""


async def pick_ups(
    submit: Callable[[], Awaitable[None]], stamps: Path, *, samples: int, seconds: float
) -> list[int]:
    """Submit one task after the other; nanoseconds from the submit's return to the task's entry.

    Negative where a worker was there before the submit had returned. At most `samples` and at least one, none
    begun after `seconds`, before which a few are made that are not counted. Raises NotPickedUp.
    """
    found: list[int] = []
    before = count(stamps)
    deadline = float("inf")
    while len(found) < WARM_UP + samples and (len(found) <= WARM_UP or time.monotonic() < deadline):
        if len(found) == WARM_UP:
            deadline = time.monotonic() + seconds
        await submit()
        returned = time.monotonic_ns()
        await _entered(stamps, before + len(found) + 1)
        found.append(read(stamps)[-1] - returned)
        slow = found[-1] > SLOW_S * 1e9
        await asyncio.sleep(random.uniform(*GAP_S) + (random.uniform(*PHASE_S) if slow else 0.0))
    return found[WARM_UP:]


async def _entered(stamps: Path, tasks: int) -> None:
    deadline = time.monotonic() + TASK_TIMEOUT_S
    while count(stamps) < tasks:
        if time.monotonic() > deadline:
            raise NotPickedUp(f"a task was not entered within {TASK_TIMEOUT_S:g} s")
        await asyncio.sleep(LOOK_EVERY_S)

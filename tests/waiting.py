"""Waiting for a condition with a deadline, in place of sleeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
STEP_S = 0.01


async def until(condition: Callable[[], T], *, within_s: float, what: str = "the condition") -> T:
    """The first true value of the condition. AssertionError when the time is over."""

    async def look() -> T:
        return condition()

    return await until_async(look, within_s=within_s, what=what)


async def until_async(
    condition: Callable[[], Awaitable[T]], *, within_s: float, what: str = "the condition"
) -> T:
    """The same for a condition that is awaited."""
    deadline = time.monotonic() + within_s
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"{what} did not come true within {within_s} s"
        await asyncio.sleep(STEP_S)
    return value

"""Work beside the wish to stop: done before it, carried on until it, given up after it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")


class Held:
    """Work that goes on without who began it: held until it ends, which asyncio alone does not promise."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Result], *, name: str) -> asyncio.Task[Result]:
        """Do the work in a task of its own."""
        task = asyncio.create_task(work, name=name)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def drain(self) -> None:
        """Wait for all of it, what begins meanwhile included."""
        while self._under_way:
            await asyncio.wait(self._under_way)


async def before(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work unless a stop is asked for first; whether it was done."""
    working = asyncio.create_task(work, name="before-stop")
    stopping = asyncio.create_task(stop.wait(), name="before-stop-asked")
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        await cancelled([working])
        return False
    working.result()
    return True


async def until(stop: asyncio.Event, background: Sequence[asyncio.Task[None]]) -> None:
    """Until a stop is asked for; a background task that dies ends the process instead of dying silently."""
    stopping = asyncio.create_task(stop.wait(), name="until-stop")
    try:
        done, _ = await asyncio.wait({stopping, *background}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()
    finally:
        stopping.cancel()


async def cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel these tasks and wait for their ends, whatever they are. Who is cancelled meanwhile stays so."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

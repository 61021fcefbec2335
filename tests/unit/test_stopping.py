"""Background tasks that are cancelled: all of them end, and so does who waits for it, if told to."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from server.stopping import cancelled


class Background:
    """A task that, once cancelled, takes until `let_go` to end."""

    def __init__(self, error: Exception | None = None) -> None:
        self.cancelled = asyncio.Event()
        self.let_go = asyncio.Event()
        self.started = asyncio.Event()
        self._error = error
        self.task = asyncio.create_task(self._run(), name="background")

    async def _run(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
            await self.let_go.wait()
            if self._error is not None:
                raise self._error


async def test_all_have_ended_however_they_end() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    background = [Background(), Background(ZeroDivisionError())]
    for one in background:
        await one.started.wait()
    ending = asyncio.create_task(cancelled([one.task for one in background]), name="ending")
    for one in background:
        await one.cancelled.wait()
        assert not ending.done()
        one.let_go.set()
    await ending
    assert [one.task.done() for one in background] == [True, True]
    background.clear()
    del one
    gc.collect()
    assert told == [], "nobody misses the error of a task that was to end"


async def test_who_is_cancelled_while_they_end_is_cancelled() -> None:
    background = Background()
    await background.started.wait()
    ending = asyncio.create_task(cancelled([background.task]), name="ending")
    await background.cancelled.wait()
    ending.cancel()
    background.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await ending


async def test_there_may_be_none() -> None:
    await cancelled([])

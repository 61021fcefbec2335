"""QUEUE_MAX_DEPTH over several API processes: by how much it can be passed, and that it then holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from server.domain.errors import QueueFull
from server.service import line as line_module
from tests.integration.service.desk import Desk, open_desk
from tests.waiting import until

MAX_DEPTH = 5
PROCESSES = 3


@pytest.fixture
async def desks(tmp_path: Path, redis_url: str, redis_prefix: str) -> AsyncIterator[list[Desk]]:
    """Several API processes before one queue."""
    async with AsyncExitStack() as stack:
        opened = []
        for n in range(PROCESSES):
            (tmp_path / str(n)).mkdir()
            desk = open_desk(tmp_path / str(n), redis_url, redis_prefix, queue_max_depth=MAX_DEPTH)
            opened.append(await stack.enter_async_context(desk))
        yield opened


async def submit_until_full(desk: Desk) -> int:
    """How many are accepted, one after the other, before the queue is said to be full."""
    for accepted in range(1_000):
        try:
            await desk.submit()
        except QueueFull:
            return accepted
    raise AssertionError("the queue is never full")


async def test_between_two_readings_each_process_accepts_no_more_than_the_limit(desks: list[Desk]) -> None:
    """The worst case: none has read the depth yet, and none hears of the others."""
    assert await asyncio.gather(*map(submit_until_full, desks)) == [MAX_DEPTH] * PROCESSES


async def test_after_a_reading_all_of_them_refuse_until_there_is_room(
    desks: list[Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "DEPTH_EVERY_S", 0.05)
    accepted = sum(await asyncio.gather(*map(submit_until_full, desks)))
    async with AsyncExitStack() as stack:
        for desk in desks:
            await stack.enter_async_context(desk.running())
        await until(lambda: all(desk.line.depth == accepted for desk in desks), within_s=5)
        for desk in desks:
            with pytest.raises(QueueFull):
                await desk.submit()

        left = [task.id for desk in desks for task in await desk.live()]
        await desks[0].real_queue.discard(left[MAX_DEPTH - 1 :])
        await until(lambda: all(desk.line.depth == MAX_DEPTH - 1 for desk in desks), within_s=5)
        await desks[0].submit()
        await until(lambda: all(desk.line.depth == MAX_DEPTH for desk in desks), within_s=5)
        for desk in desks:
            with pytest.raises(QueueFull):
                await desk.submit()

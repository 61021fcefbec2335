"""What a call to Ark bought, when the call ends at the moment it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from server.providers import ark_receipt
from server.providers.ark_delivery import Delivery
from server.providers.ark_receipt import Bought
from server.providers.contract import ImageFailed, MadeImage
from server.providers.fetch import OutputFetcher

BOUGHT = Bought(links={0: "http://127.0.0.1:9/0.png"}, failures=())


@pytest.mark.parametrize("turns", [-1, 0, 1, 2])
async def test_a_call_cancelled_as_its_answer_comes_has_told_what_it_bought(turns: int) -> None:
    """So many turns of the event loop lie between the answer's bytes and the cancel; -1: it comes first."""
    told: list[str] = []
    arrived = asyncio.get_running_loop().create_future()

    async def answer() -> AsyncGenerator[Bought, None]:
        yield await arrived

    async def receipt(text: str, /, *, so_far: tuple[int, ...] = ()) -> None:
        told.append(text)

    async def progress(_: MadeImage | ImageFailed) -> None:
        raise AssertionError("nothing can have been fetched")

    async with aclosing(OutputFetcher(allow_private=True)) as fetcher:
        delivery = Delivery(
            fetcher, indexes=(0,), seed_of=lambda _: 0, timeout_s=10, progress=progress, receipt=receipt
        )
        running = asyncio.create_task(delivery.run(answer()))
        await asyncio.sleep(0)  # run
        await asyncio.sleep(0)  # and read, up to the answer
        if turns < 0:
            running.cancel()
        arrived.set_result(BOUGHT)
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns >= 0:
            running.cancel()
        await asyncio.wait({running})

    assert running.cancelled()
    assert told == [ark_receipt.written(BOUGHT)]

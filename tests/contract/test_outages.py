"""What every task store does while it is away, when it is back, and when it is closed."""

from __future__ import annotations

import asyncio
import time

import pytest

from server.domain import attempt_writes, life
from server.domain.errors import StoreUnavailable
from server.ports import RequestIdRow
from server.store import connect
from tests.contract.conftest import Outage
from tests.contract.samples import NOW_MS, new_id, new_task
from tests.contract.steps import kept, running

ANSWER_S = 2.0
"""A submit promises its answer within this time, whatever the store does."""


@pytest.mark.alone
async def test_a_store_that_is_away_says_so_in_time_and_comes_back_by_itself(outage: Outage) -> None:
    store = await connect.open_store(outage.url)
    try:
        task, row = await running(store), RequestIdRow(task_id=new_id(), fingerprint="f")
        lost = await kept(store, new_task())
        await store.register_worker("w-1", host="h", pid=1)
        calls = [
            lambda: store.insert(new_task()),
            lambda: store.write(life.cancel_pending(lost, NOW_MS)),
            lambda: store.claim_request_id("key", row),
            lambda: store.register_worker("w-2", host="h", pid=1),
            lambda: store.beat("w-1"),
            lambda: store.declare_lost("w-1", beat=0),
            lambda: store.remove_worker("w-1"),
            store.ping,
        ]
        reads = [
            lambda: store.get(task.id),
            lambda: store.get_many([task.id]),
            lambda: store.revisions([task.id]),
            lambda: store.live_page(after="", limit=5),
            lambda: store.page(after="", before="z", limit=5),
            lambda: store.find_request_id("key"),
            store.workers,
        ]
        outage.begin()
        began_s = time.monotonic()
        asked = [call() for call in calls + (reads if outage.reads else [])]
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(answer, StoreUnavailable)
            assert answer.retry_after_s
        assert time.monotonic() - began_s < ANSWER_S
        # Many at once wait no longer than one: those behind the first batch included.
        began_s = time.monotonic()
        answers = await asyncio.gather(
            *(store.insert(new_task()) for _ in range(1000)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert time.monotonic() - began_s < ANSWER_S
        if not outage.reads:
            for read in reads:
                await read()

        outage.end()
        async with asyncio.timeout(20):
            while True:
                try:
                    await store.ping()
                    break
                except StoreUnavailable:
                    continue
        assert await store.get(task.id) == task
        assert await store.write(attempt_writes.complete(task, NOW_MS))
        assert await store.insert(new_task())
    finally:
        outage.end()
        await store.aclose()


async def test_a_closed_store_takes_nothing(store_url: str) -> None:
    store = await connect.open_store(store_url)
    task = new_task()
    inserting = asyncio.create_task(store.insert(task))
    await asyncio.sleep(0)
    await store.aclose()
    assert await inserting, "what was under way is finished"
    for call in (store.insert(new_task()), store.get(task.id), store.get_many([task.id]), store.ping()):
        with pytest.raises(StoreUnavailable):
            await call
    again = await connect.open_store(store_url)
    assert await again.get(task.id) == task
    await again.aclose()

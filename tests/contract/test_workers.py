"""What every task store promises about workers: a beat, one verdict, and no way back from it."""

from __future__ import annotations

import asyncio

from server.ports import TaskStore, WorkerRow
from server.store import connect
from tests.contract.race import PATIENCE_S


async def rows(store: TaskStore) -> dict[str, WorkerRow]:
    return {row.id: row for row in await store.workers()}


async def test_a_worker_is_registered_beats_and_is_removed(store: TaskStore) -> None:
    assert await store.workers() == []
    await store.register_worker("a", host="host", pid=2**22, slots=10, lease_ms=15_000)
    await store.register_worker("b", host="host", pid=2)
    assert await store.beat("a")
    assert await store.beat("a")
    assert await rows(store) == {
        "a": WorkerRow(id="a", beat=2, lost=False, slots=10, lease_ms=15_000),
        "b": WorkerRow(id="b", beat=0, lost=False),
    }
    await store.remove_worker("a")
    assert list(await rows(store)) == ["b"]
    await store.remove_worker("a")


async def test_a_worker_without_a_row_has_no_beat(store: TaskStore) -> None:
    assert not await store.beat("nobody")
    assert not await store.declare_lost("nobody", beat=0)
    assert await store.workers() == []


async def test_registering_again_changes_nothing(store: TaskStore) -> None:
    """After an answer that never came the same registration is sent again."""
    await store.register_worker("a", host="host", pid=1)
    assert await store.beat("a")
    await store.register_worker("a", host="host", pid=1)
    assert await rows(store) == {"a": WorkerRow(id="a", beat=1, lost=False)}
    assert await store.declare_lost("a", beat=1)
    await store.register_worker("a", host="host", pid=1)
    assert not await store.beat("a"), "nobody comes back from a verdict"


async def test_the_verdict_needs_the_beat_that_was_seen(store: TaskStore) -> None:
    await store.register_worker("a", host="host", pid=1)
    assert await store.beat("a")
    assert not await store.declare_lost("a", beat=0)
    assert await store.beat("a")
    assert await store.declare_lost("a", beat=2)
    assert (await rows(store))["a"] == WorkerRow(id="a", beat=2, lost=True)


async def test_a_lost_worker_stays_lost(store: TaskStore) -> None:
    await store.register_worker("a", host="host", pid=1)
    assert await store.declare_lost("a", beat=0)
    assert not await store.declare_lost("a", beat=0), "the verdict is given once"
    assert not await store.beat("a")
    assert (await rows(store))["a"] == WorkerRow(id="a", beat=0, lost=True)


async def test_of_many_observers_one_gives_the_verdict(store_url: str) -> None:
    stores = [await connect.open_store(store_url, timeout_s=PATIENCE_S) for _ in range(5)]
    for n in range(10):
        await stores[0].register_worker(f"w{n}", host="host", pid=1)
        verdicts = await asyncio.gather(*(s.declare_lost(f"w{n}", beat=0) for s in stores for _ in range(2)))
        assert sum(verdicts) == 1
    for store in stores:
        await store.aclose()


async def test_a_beat_and_a_verdict_at_one_moment_agree(store_url: str) -> None:
    """Either the worker beat first and is alive, or it is lost and learns it; never both, never neither."""
    stores = [await connect.open_store(store_url, timeout_s=PATIENCE_S) for _ in range(2)]
    for n in range(20):
        worker = f"w{n}"
        await stores[0].register_worker(worker, host="host", pid=1)
        alive, lost = await asyncio.gather(stores[0].beat(worker), stores[1].declare_lost(worker, beat=0))
        assert alive is not lost
        row = (await rows(stores[0]))[worker]
        assert (row.beat, row.lost) == ((1, False) if alive else (0, True))
    for store in stores:
        await store.aclose()


async def test_concurrent_beats_all_count(store: TaskStore) -> None:
    await store.register_worker("a", host="host", pid=1)
    assert await asyncio.gather(*(store.beat("a") for _ in range(30))) == [True] * 30
    assert (await rows(store))["a"].beat == 30

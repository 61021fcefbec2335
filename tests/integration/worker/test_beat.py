"""Proof of life (rule W1): registered before the first claim, beating, fresh only on the store's word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from server.ports import WorkerRow
from server.queue.keys import token_of
from server.worker import beat as beat_module
from server.worker.beat import Beat, new_worker_id
from tests.integration.worker.bench import Bench
from tests.waiting import until, until_async

LEASE_S = 15.0
SHORT_S = 0.15


class Clock:
    """A monotonic clock that stands still until it is moved; takes the place of the `time` module."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(beat_module, "time", clock)
    return clock


@asynccontextmanager
async def beating(beat: Beat) -> AsyncIterator[None]:
    """The beat goes on in the background."""
    task = asyncio.create_task(beat.run(), name="beat")
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def is_fresh(beat: Beat) -> bool:
    """Whether it is now, for a checker that takes properties for constants."""
    return beat.fresh


async def row(bench: Bench, worker_id: str) -> WorkerRow | None:
    return next((r for r in await bench.store.workers() if r.id == worker_id), None)


def test_ids_are_tokens_and_never_repeat() -> None:
    ids = {new_worker_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert {token_of(worker_id) for worker_id in ids} == ids


async def test_registering_adds_a_row(bench: Bench) -> None:
    beat = Beat(bench.store, lease_s=LEASE_S, slots=7)
    assert not beat.fresh, "nobody may call before the row is there"
    await beat.register()
    assert is_fresh(beat)
    assert await row(bench, beat.id) == WorkerRow(id=beat.id, beat=0, lost=False, slots=7, lease_ms=15_000)


async def test_registering_waits_for_the_store(bench: Bench, clock: Clock) -> None:
    bench.store_faults.away = True
    beat = Beat(bench.store, lease_s=SHORT_S)
    registering = asyncio.create_task(beat.register())
    await until(lambda: bench.store_faults.calls["register_worker"] >= 2, within_s=5)
    assert not beat.fresh
    bench.store_faults.wake()
    await registering
    assert is_fresh(beat)
    assert [r.id for r in await bench.store.workers()] == [beat.id]


async def test_the_beat_goes_on(bench: Bench, clock: Clock) -> None:
    beat = Beat(bench.store, lease_s=SHORT_S)
    await beat.register()

    async def beaten() -> bool:
        mine = await row(bench, beat.id)
        return mine is not None and mine.beat >= 3

    async with beating(beat):
        await until_async(beaten, within_s=5)
        assert beat.fresh


async def test_a_beat_is_fresh_for_a_lease(bench: Bench, clock: Clock) -> None:
    beat = Beat(bench.store, lease_s=LEASE_S)
    await beat.register()
    clock.now_s += LEASE_S - 0.001
    assert beat.fresh
    clock.now_s += 0.001
    assert not beat.fresh


async def test_a_beat_is_fresh_from_when_it_was_sent(bench: Bench, clock: Clock) -> None:
    """The answer may be old when it arrives: others count from the write."""
    beat = Beat(bench.store, lease_s=1.0)
    await beat.register()
    gate = bench.store_faults.gates["beat"] = asyncio.Event()
    clock.now_s += 0.5
    async with beating(beat):
        await until(lambda: bench.store_faults.calls["beat"], within_s=5)
        bench.store_faults.gates["beat"] = asyncio.Event()  # for the beats after this one
        clock.now_s += 0.75
        gate.set()
        await until(lambda: beat.fresh, within_s=5, what="the answer")
        clock.now_s += 0.5
        assert not beat.fresh, "1.25 s after it was sent, 0.5 s after the answer"


async def test_without_the_stores_word_a_beat_goes_stale_and_comes_back(bench: Bench, clock: Clock) -> None:
    beat = Beat(bench.store, lease_s=SHORT_S)
    await beat.register()
    first = beat.id
    bench.store_faults.away = True
    async with beating(beat):
        await until(lambda: bench.store_faults.calls["beat"] >= 2, within_s=5)
        clock.now_s += 2 * SHORT_S
        assert not beat.fresh
        bench.store_faults.wake()
        await until(lambda: beat.fresh, within_s=5)
    assert beat.id == first


@pytest.mark.parametrize("how", ["declared lost", "row removed"])
async def test_a_worker_that_is_lost_goes_on_under_a_new_id(bench: Bench, clock: Clock, how: str) -> None:
    beat = Beat(bench.store, lease_s=SHORT_S)
    await beat.register()
    first = beat.id
    if how == "declared lost":
        assert await bench.store.declare_lost(first, beat=0)
    else:
        await bench.store.remove_worker(first)
    async with beating(beat):
        await until(lambda: beat.id != first, within_s=5)
        assert beat.fresh
    mine = await row(bench, beat.id)
    assert mine is not None
    assert not mine.lost
    former = await row(bench, first)
    assert former is None or former.lost, "the old id never lives again"


async def test_deregistering_takes_the_row_away(bench: Bench) -> None:
    beat = Beat(bench.store, lease_s=LEASE_S)
    await beat.register()
    await beat.deregister()
    assert await bench.store.workers() == []


async def test_a_row_that_cannot_be_taken_away_stays(bench: Bench) -> None:
    beat = Beat(bench.store, lease_s=LEASE_S)
    await beat.register()
    bench.store_faults.away = True
    await beat.deregister()
    bench.store_faults.wake()
    assert await row(bench, beat.id) is not None

"""From acceptance into the queue: nobody waits for Redis, and nothing is lost while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from server.domain.errors import QueueFull
from server.domain.task import Priority
from server.ports import Entry, Lane, Pool
from server.service import line as line_module
from server.stopping import cancelled
from tests.integration.service.desk import Desk, open_desk
from tests.redis_server import RedisServer
from tests.waiting import until, until_async

POOL = Pool(code="lo", lanes=(Lane(name="local", limit=100),))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "RETRY_S", 0.05)
    monkeypatch.setattr(line_module, "DEPTH_EVERY_S", 0.05)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that the test may stop."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def own_desk(own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk before that Redis."""
    async with open_desk(tmp_path, own_redis.url, "{own}:", queue_max_depth=5) as opened:
        yield opened


def entries(count: int) -> list[Entry]:
    return [
        Entry(task_id=f"task-{n:05}", pool="lo", priority=Priority.DEFAULT, caller="ann")
        for n in range(count)
    ]


async def queued(desk: Desk, count: int) -> None:
    """So many tasks are in the queue."""

    async def there() -> bool:
        return await desk.real_queue.depth() == count

    await until_async(there, within_s=8, what=f"{count} queued tasks")


# --- Redis away --------------------------------------------------------------------------------------


async def test_a_task_accepted_without_redis_is_queued_when_it_is_back(
    own_redis: RedisServer, own_desk: Desk
) -> None:
    own_redis.kill()
    async with own_desk.running():
        async with asyncio.timeout(1):  # the answer does not wait for Redis
            task = await own_desk.submit()
        assert await own_desk.store.get(task.id) == task
        await until(lambda: own_desk.queue_faults.calls["enqueue"] >= 2, within_s=5)
        own_redis.start()
        await queued(own_desk, 1)


async def test_a_full_queue_is_known_without_redis(own_redis: RedisServer, own_desk: Desk) -> None:
    """The last known depth, and what was accepted since, holds until it is back."""
    async with own_desk.running():
        await own_desk.queue.enqueue(entries(3))
        await until(lambda: own_desk.line.depth == 3, within_s=5)
        own_redis.stop()
        asked = own_desk.queue_faults.calls["depth"]
        await until(lambda: own_desk.queue_faults.calls["depth"] >= asked + 2, within_s=5)
        assert own_desk.line.depth == 3
        for _ in range(2):
            await own_desk.submit()
        with pytest.raises(QueueFull):
            await own_desk.submit()
        assert len(await own_desk.live()) == 2
        own_redis.start()  # empty: only what is kept here comes back, and the depth is known again
        await queued(own_desk, 2)
        await until(lambda: own_desk.line.depth == 2, within_s=5)
        await own_desk.submit()


async def test_a_redis_that_hangs_holds_nobody_up(own_redis: RedisServer, own_desk: Desk) -> None:
    async with own_desk.running():
        own_redis.pause()
        try:
            async with asyncio.timeout(2):  # far less than the PATIENCE_S that the queue has
                await own_desk.submit()
                await own_desk.submit()
        finally:
            own_redis.resume()
        await queued(own_desk, 2)


# --- offering ----------------------------------------------------------------------------------------


async def test_the_line_keeps_its_order_in_batches(desk: Desk) -> None:
    all_entries = entries(2 * line_module.BATCH + 7)
    offered: list[str] = []
    enqueue = desk.real_queue.enqueue

    class Recording:
        """The queue, with what it was offered."""

        async def enqueue(self, batch: list[Entry]) -> None:
            assert len(batch) <= line_module.BATCH
            offered.extend(entry.task_id for entry in batch)
            await enqueue(batch)

        async def depth(self) -> int:
            return await desk.real_queue.depth()

    line = line_module.Line(Recording())  # type: ignore[arg-type]
    for entry in all_entries:
        line.put(entry)
    assert line.depth == len(all_entries)
    running = asyncio.create_task(line.run())
    await queued(desk, len(all_entries))
    await cancelled([running])  # it must not connect to Redis while the desk is closed
    assert offered == [entry.task_id for entry in all_entries], "each once"


async def test_what_redis_did_not_take_is_offered_again(desk: Desk) -> None:
    desk.queue_faults.failing.add("enqueue")
    async with desk.running():
        for entry in entries(3):
            desk.line.put(entry)
        await until(lambda: desk.queue_faults.calls["enqueue"] >= 3, within_s=5)
        desk.queue_faults.wake()
        await queued(desk, 3)


async def test_an_offer_whose_answer_was_lost_is_harmless(desk: Desk) -> None:
    desk.queue_faults.losing.add("enqueue")
    async with desk.running():
        for entry in entries(3):
            desk.line.put(entry)
        await until(lambda: desk.queue_faults.calls["enqueue"] >= 2, within_s=5)
        desk.queue_faults.wake()
        await queued(desk, 3)
        await until(lambda: desk.line.depth == 3, within_s=5)


async def test_the_line_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it the workers' sweep finds the tasks in the store; the oldest keep their place."""
    monkeypatch.setattr(line_module, "KEEP", 4)
    desk.queue_faults.away = True
    line = line_module.Line(desk.queue)
    for entry in entries(6):
        line.put(entry)
    desk.queue_faults.wake()
    await line.drain(timeout_s=5)
    assert await desk.real_queue.depth() == 4
    claims = await desk.real_queue.claim(worker="worker-1", free=9, pools=[POOL], lease_ms=1_000)
    assert [claimed.task_id for claimed in claims.tasks] == [entry.task_id for entry in entries(4)]


async def test_the_depth_follows_the_queue(desk: Desk) -> None:
    async with desk.running():
        await desk.real_queue.enqueue(entries(4))
        await until(lambda: desk.line.depth == 4, within_s=5)
        await desk.real_queue.discard(["task-00000", "task-00001"])
        await until(lambda: desk.line.depth == 2, within_s=5)


async def test_what_is_still_here_counts_as_waiting(desk: Desk) -> None:
    desk.queue_faults.failing.add("enqueue")
    async with desk.running():
        for entry in entries(3):
            desk.line.put(entry)
        asked = desk.queue_faults.done["depth"]
        await until(lambda: desk.queue_faults.done["depth"] >= asked + 2, within_s=5)
        assert desk.line.depth == 3


# --- the end -----------------------------------------------------------------------------------------


async def test_a_drain_offers_the_rest(desk: Desk) -> None:
    for entry in entries(3):
        desk.line.put(entry)
    await desk.line.drain(timeout_s=5)
    assert await desk.real_queue.depth() == 3


async def test_a_drain_beside_the_running_line_offers_each_once(desk: Desk) -> None:
    gate = desk.queue_faults.gates["enqueue"] = asyncio.Event()
    async with desk.running():
        for entry in entries(3):
            desk.line.put(entry)
        await until(lambda: desk.queue_faults.calls["enqueue"], within_s=5)
        draining = asyncio.create_task(desk.line.drain(timeout_s=5))
        await asyncio.sleep(0)
        for entry in entries(6)[3:]:
            desk.line.put(entry)
        gate.set()
        await draining
        await queued(desk, 6)


@pytest.mark.parametrize("how", ["away", "hanging"])
async def test_a_drain_without_redis_ends(desk: Desk, how: str) -> None:
    if how == "away":
        desk.queue_faults.away = True
    else:
        desk.queue_faults.gates["enqueue"] = asyncio.Event()
    desk.line.put(entries(1)[0])
    async with asyncio.timeout(2):
        await desk.line.drain(timeout_s=0.2)

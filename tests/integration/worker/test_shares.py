"""How a worker shares its slots: among callers, and among pools."""

from __future__ import annotations

import asyncio

import pytest

from server.worker.pool import IDLE_WAIT_S
from tests.integration.worker.bench import Bench
from tests.integration.worker.pools import all_over, slots, worker
from tests.integration.worker.scripted import ScriptedProvider, makes_all, waits_for
from tests.waiting import until


@pytest.mark.usefixtures("no_leaked_keys")
async def test_one_user_leaves_a_quarter_of_the_slots_to_others(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    tasks = [await bench.accept(user_id="ann") for _ in range(20)]
    async with worker(bench, bench.execution(provider), provider, concurrency=8):
        await until(lambda: provider.running == 6, within_s=5)
        claims = bench.queue_faults.calls["claim"]
        await until(lambda: bench.queue_faults.calls["claim"] > claims, within_s=5, what="one more look")
        assert slots(bench) == (6, 2)
        tasks.append(await bench.accept(user_id="ben"))
        await until(lambda: provider.running == 7, within_s=5)
        assert (await bench.real_queue.stats()).ready == 14
        go_on.set()
        await all_over(bench, *(task.id for task in tasks))
    assert provider.most_running == 7


async def test_who_has_no_user_counts_as_who_submitted_it(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    tasks = [await bench.accept(user_id=user, caller="x") for user in ["x"] * 9 + [""] * 9]
    async with worker(bench, bench.execution(provider), provider, concurrency=8):
        await until(lambda: provider.running == 8, within_s=5)
        held = [task.queue_caller for task in tasks if (await bench.place(task.id)).startswith("leased")]
        assert {who: held.count(who) for who in held} == {"user:x": 4, "caller:x": 4}
        go_on.set()
        await all_over(bench, *(task.id for task in tasks))


async def test_the_slots_of_all_workers_count(bench: Bench) -> None:
    """A caller may fill one of several workers."""
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    tasks = [await bench.accept(user_id="ann") for _ in range(10)]
    async with worker(bench, bench.execution(provider), provider, concurrency=8, live_slots=16):
        await until(lambda: provider.running == 8, within_s=5)
        go_on.set()
        await all_over(bench, *(task.id for task in tasks))


async def test_no_pool_fills_a_worker_that_serves_several(bench: Bench) -> None:
    go_on = asyncio.Event()
    slow = ScriptedProvider(waits_for(go_on), name="ark")
    quick = ScriptedProvider(makes_all, name="local")
    tasks = [await bench.accept(pool="ar", provider="ark", user_id=f"user {n}") for n in range(20)]
    async with worker(bench, bench.execution(slow, quick), slow, quick, concurrency=10):
        await until(lambda: slow.running == 8, within_s=5)
        for n in range(1, 4):
            tasks.append(await bench.accept(pool="lo", provider="local", user_id="other"))
            # It looks for it, though it takes no wake-up.
            await until(lambda n=n: len(quick.calls) == n, within_s=IDLE_WAIT_S / 2)  # type: ignore[misc]
        assert slow.most_running == 8
        go_on.set()
        await all_over(bench, *(task.id for task in tasks))
    assert slow.most_running == 8


async def test_a_worker_of_one_pool_gives_it_all_slots(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    tasks = [await bench.accept(user_id=f"user {n}") for n in range(12)]
    async with worker(bench, bench.execution(provider), provider, concurrency=10):
        await until(lambda: provider.running == 10, within_s=5)
        go_on.set()
        await all_over(bench, *(task.id for task in tasks))


async def test_what_one_worker_must_leave_another_takes(bench: Bench) -> None:
    go_on = asyncio.Event()
    first, second = (ScriptedProvider(waits_for(go_on), name="ark") for _ in range(2))
    idle = ScriptedProvider(makes_all, name="local")
    async with (
        worker(bench, bench.execution(first, idle), first, idle, concurrency=2, live_slots=100),
        worker(bench, bench.execution(second, idle), second, idle, concurrency=2, live_slots=100),
    ):
        tasks = [await bench.accept(pool="ar", provider="ark", user_id=f"user {n}") for n in range(6)]
        await until(lambda: (first.running, second.running) == (1, 1), within_s=IDLE_WAIT_S / 2)
        go_on.set()
        await all_over(bench, *(task.id for task in tasks))
    assert (first.most_running, second.most_running) == (1, 1)


async def test_a_stop_does_not_wait_for_a_pool_that_is_full(bench: Bench) -> None:
    go_on = asyncio.Event()
    slow = ScriptedProvider(waits_for(go_on), name="ark")
    quick = ScriptedProvider(makes_all, name="local")
    accepted = [await bench.accept(pool="ar", provider="ark") for _ in range(4)]
    async with worker(bench, bench.execution(slow, quick), slow, quick, concurrency=2) as held:
        await until(lambda: slow.running == 1, within_s=5)
        held.pool.stop()
        go_on.set()
        await held.ended()
    assert len(slow.calls) == 1
    assert [await bench.place(task.id) for task in accepted[1:]] == ["ready"] * 3

"""The worker as a whole: slots, waking, leases that are kept, and an orderly stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from server.domain.task import AttemptOutcome, TaskState
from server.ports import Claimed, Entry, Lane, Pool
from server.worker.beat import Beat
from server.worker.execution import Execution
from server.worker.pool import IDLE_WAIT_S, WorkerPool, pools_of
from tests.integration.worker.bench import Bench, entry
from tests.integration.worker.scripted import ScriptedProvider, makes_all, raises, refusal, waits_for
from tests.waiting import until, until_async

LEASE_S = 15.0


@dataclass(slots=True)
class Worker:
    """A pool that runs in the background."""

    pool: WorkerPool
    beat: Beat
    running: asyncio.Task[None]

    async def ended(self, *, within_s: float = 5.0) -> None:
        """`run` returns."""
        async with asyncio.timeout(within_s):
            await self.running


@asynccontextmanager
async def worker(
    bench: Bench,
    execution: Execution,
    *providers: ScriptedProvider,
    concurrency: int = 10,
    lease_s: float = LEASE_S,
    registered: bool = True,
) -> AsyncIterator[Worker]:
    """A worker with these providers; whatever it still runs at the end is cancelled."""
    beat = Beat(bench.store, lease_s=lease_s)
    if registered:
        await beat.register()
    pool = WorkerPool(
        queue=bench.queue,
        execution=execution,
        beat=beat,
        pools=pools_of(providers),
        concurrency=concurrency,
        lease_s=lease_s,
        metrics=bench.metrics,
    )
    running = asyncio.create_task(pool.run(), name="worker-pool")
    beating = asyncio.create_task(beat.run(), name="beat")
    try:
        yield Worker(pool, beat, running)
    finally:
        bench.store_faults.wake()
        bench.queue_faults.wake()
        pool.stop()
        await pool.cancel_held()
        beating.cancel()
        await asyncio.gather(running, beating, return_exceptions=True)


async def all_over(bench: Bench, *task_ids: str) -> None:
    """Every task has ended, in the store and in the queue."""

    async def over() -> bool:
        states = await bench.store.states(task_ids)
        return all(state.terminal for state in states.values()) and await bench.real_queue.depth() == 0

    await until_async(over, within_s=8, what="the end of all tasks")


def slots(bench: Bench) -> tuple[float, float]:
    """Busy and free ones, as the metrics have them."""
    return (
        bench.count("imagegen_worker_slots", state="busy"),
        bench.count("imagegen_worker_slots", state="free"),
    )


# --- pools -------------------------------------------------------------------------------------------


def test_each_provider_has_a_pool_and_a_lane() -> None:
    ark, local = ScriptedProvider(name="ark", capacity=7), ScriptedProvider(name="local", capacity=2)
    assert pools_of([ark, local]) == (
        Pool(code="ar", lanes=(Lane(name="ark", limit=7),)),
        Pool(code="lo", lanes=(Lane(name="local", limit=2),)),
    )


def test_two_providers_of_one_beginning_are_refused() -> None:
    with pytest.raises(ValueError, match="same two letters"):
        pools_of([ScriptedProvider(name="local"), ScriptedProvider(name="loud")])


# --- slots -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_leaked_keys")
async def test_no_more_than_its_slots_at_once(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    tasks = [await bench.accept() for _ in range(12)]
    async with worker(bench, bench.execution(provider), provider, concurrency=3):
        await until(lambda: provider.running == 3, within_s=5)
        assert slots(bench) == (3, 0)
        assert (await bench.real_queue.stats()).ready == 9, "nothing waits in a slot"
        go_on.set()
        await all_over(bench, *(task.id for task in tasks))
        assert provider.most_running == 3
        assert len(provider.calls) == 12
        await until(lambda: slots(bench) == (0, 3), within_s=5, what="free slots")


async def test_no_more_than_the_provider_takes_at_once(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all, capacity=2)
    tasks = [await bench.accept() for _ in range(8)]
    async with worker(bench, bench.execution(provider), provider, concurrency=10):
        await all_over(bench, *(task.id for task in tasks))
    assert provider.most_running <= 2


async def test_a_failed_task_frees_its_slot(bench: Bench) -> None:
    provider = ScriptedProvider(raises(refusal(retryable=False)))
    tasks = [await bench.accept() for _ in range(4)]
    async with worker(bench, bench.execution(provider), provider, concurrency=1):
        await all_over(bench, *(task.id for task in tasks))


# --- waking ------------------------------------------------------------------------------------------


async def test_an_idle_worker_begins_at_once(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    latencies: list[float] = []
    async with worker(bench, bench.execution(provider), provider):
        for n in range(1, 11):
            await until(lambda: slots(bench) == (0, 10), within_s=5)
            start = time.monotonic()
            await bench.accept()
            await until(lambda n=n: len(provider.calls) == n, within_s=5)  # type: ignore[misc]
            latencies.append(time.monotonic() - start)
    assert sorted(latencies)[len(latencies) // 2] < IDLE_WAIT_S / 4, (
        "it was woken, and did not only look again"
    )


async def test_a_delayed_task_begins_when_it_is_due(bench: Bench) -> None:
    provider = ScriptedProvider(raises(refusal(retry_after_s=0.3)), makes_all)
    accepted = await bench.accept()
    async with worker(bench, bench.execution(provider), provider):
        await all_over(bench, accepted.id)
    task = await bench.task(accepted.id)
    waited_ms = task.attempts[2].start_time_ms - task.attempts[1].end_time_ms
    assert 300 <= waited_ms < 1_000 * (IDLE_WAIT_S + 1), "when it is due, or at the next look"


# --- leases and beats --------------------------------------------------------------------------------


async def test_without_a_fresh_beat_nothing_is_claimed(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    accepted = await bench.accept()
    async with worker(bench, bench.execution(provider), provider, lease_s=0.3, registered=False) as held:
        await asyncio.sleep(0)
        assert bench.queue_faults.calls["claim"] == 0
        await held.beat.register()
        await all_over(bench, accepted.id)


async def test_a_lease_is_kept_while_the_task_runs(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    accepted = await bench.accept()
    async with worker(bench, bench.execution(provider), provider, lease_s=0.6) as held:
        await until(lambda: bench.queue_faults.calls["renew"] >= 4, within_s=5)  # longer than a lease
        report = await bench.sweep().step()
        assert report.expired == 0
        assert await bench.place(accepted.id) == f"leased to {held.beat.id}"
        await bench.flush()
        renewed = bench.queue_faults.calls["renew"]
        await until(lambda: bench.queue_faults.calls["renew"] >= renewed + 2, within_s=5)
        assert await bench.place(accepted.id) == f"leased to {held.beat.id}", "made again (rule S4)"
        go_on.set()
        await all_over(bench, accepted.id)
    assert len(provider.calls) == 1


async def test_a_task_that_runs_here_is_not_begun_again(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    accepted = await bench.accept()
    async with worker(bench, bench.execution(provider), provider):
        await until(lambda: provider.running, within_s=5)
        await bench.flush()
        await bench.queue.enqueue([entry(accepted)])

        async def claimed_again() -> bool:
            return (await bench.place(accepted.id)).startswith("leased")

        await until_async(claimed_again, within_s=5)
        go_on.set()
        await all_over(bench, accepted.id)
    assert len(provider.calls) == 1
    assert (await bench.task(accepted.id)).attempt == 1


async def test_a_task_claimed_again_while_its_run_ends_is_run_again(bench: Bench) -> None:
    """It was given back, and is here again before the slot is free: nobody else would run it."""
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on, raises(refusal())), makes_all)
    late = bench.queue_faults.late["release"] = asyncio.Event()
    faults = bench.queue_faults
    accepted = await bench.accept()
    async with worker(bench, bench.execution(provider), provider) as held:
        await until(lambda: provider.running, within_s=5)
        go_on.set()
        await until(lambda: faults.done["release"], within_s=5)

        async def claimed_again() -> bool:
            return await bench.place(accepted.id) == f"leased to {held.beat.id}"

        await until_async(claimed_again, within_s=5)
        claims = faults.calls["claim"]
        await until(lambda: faults.calls["claim"] > claims, within_s=5, what="the claim after that one")
        assert len(provider.calls) == 1
        late.set()
        await all_over(bench, accepted.id)
    assert (await bench.task(accepted.id)).state is TaskState.COMPLETED
    assert len(provider.calls) == 2


async def test_redis_away_is_a_pause(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    bench.queue_faults.away = True
    async with worker(bench, bench.execution(provider), provider) as held:
        await until(lambda: bench.queue_faults.calls["claim"] >= 2, within_s=5)
        bench.queue_faults.wake()
        accepted = await bench.accept()
        await all_over(bench, accepted.id)
        assert not held.running.done()


async def test_redis_away_in_mid_task_is_a_pause_too(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    accepted = await bench.accept()
    async with worker(bench, bench.execution(provider), provider, lease_s=0.6):
        await until(lambda: provider.running, within_s=5)
        bench.queue_faults.away = True
        await until(lambda: bench.queue_faults.calls["renew"] >= 2, within_s=5)
        bench.queue_faults.wake()
        go_on.set()
        await all_over(bench, accepted.id)
    assert (await bench.task(accepted.id)).attempt == 1


# --- stops -------------------------------------------------------------------------------------------


async def test_an_idle_worker_stops_at_once(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    async with worker(bench, bench.execution(provider), provider) as held:
        await until(lambda: bench.queue_faults.calls["wait_for_work"], within_s=5)
        start = time.monotonic()
        held.pool.stop()
        await held.ended()
        assert time.monotonic() - start < IDLE_WAIT_S / 2


async def test_a_stop_finishes_what_was_sent_and_claims_nothing_more(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    first, second, third = [await bench.accept() for _ in range(3)]
    async with worker(bench, bench.execution(provider), provider, concurrency=2) as held:
        await until(lambda: provider.running == 2, within_s=5)
        held.pool.stop()
        await asyncio.sleep(0)
        assert not held.running.done()
        go_on.set()
        await held.ended()
    for task in (first, second):
        assert (await bench.task(task.id)).state is TaskState.COMPLETED
    assert (await bench.task(third.id)).state is TaskState.PENDING
    assert await bench.place(third.id) == "ready"
    assert slots(bench) == (0, 2)


async def test_a_stop_gives_back_what_was_not_marked(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    gate = bench.store_faults.gates["get"] = asyncio.Event()
    accepted = await bench.accept()
    async with worker(bench, bench.execution(provider), provider) as held:
        await until(lambda: bench.store_faults.calls["get"], within_s=5)
        held.pool.stop()
        gate.set()
        await held.ended()
    task = await bench.task(accepted.id)
    assert (task.state, task.attempt, provider.calls) == (TaskState.PENDING, 0, [])
    assert await bench.place(accepted.id) == "ready"


@pytest.mark.parametrize("paid", [True, False])
async def test_the_end_of_the_grace_is_recorded(bench: Bench, paid: bool) -> None:
    provider = ScriptedProvider(waits_for(asyncio.Event()), paid=paid)
    tasks = [await bench.accept(max_paid_attempts=1) for _ in range(3)]
    async with worker(bench, bench.execution(provider), provider) as held:
        await until(lambda: provider.running == 3, within_s=5)
        held.pool.stop()
        async with asyncio.timeout(5):
            await held.pool.cancel_held()
        await held.ended()
    for accepted in tasks:
        task = await bench.task(accepted.id)
        if paid:
            assert task.state is TaskState.FAILED
            assert task.attempts[1].outcome is AttemptOutcome.IN_DOUBT
            assert await bench.place(accepted.id) == "gone"
        else:
            assert task.state is TaskState.PENDING
            assert await bench.place(accepted.id) == "ready"
    assert provider.running == 0


# --- bugs --------------------------------------------------------------------------------------------


async def test_a_task_that_runs_into_a_bug_ends_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = ScriptedProvider(makes_all)
    execution = bench.execution(provider)
    bad, good = await bench.accept(), await bench.accept()
    run = execution.run

    async def broken(
        claimed: Claimed, *, worker: str, hold: Callable[[Entry], None], may_call: Callable[[], bool]
    ) -> None:
        if claimed.task_id == bad.id:
            raise KeyError(claimed.task_id)
        await run(claimed, worker=worker, hold=hold, may_call=may_call)

    monkeypatch.setattr(execution, "run", broken)
    async with worker(bench, execution, provider) as held:
        await until(lambda: bench.count("imagegen_task_crashes_total"), within_s=5)

        async def good_is_done() -> bool:
            return (await bench.task(good.id)).state is TaskState.COMPLETED

        await until_async(good_is_done, within_s=5)
        await until(lambda: slots(bench) == (0, 10), within_s=5)
        assert not held.running.done()
        assert await bench.place(bad.id) == f"leased to {held.beat.id}", "left to its lease"
    assert bench.count("imagegen_task_crashes_total") == 1


async def test_a_broken_claim_loop_ends_the_worker_and_what_it_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not go on as half a worker; what runs is recorded first."""
    provider = ScriptedProvider(waits_for(asyncio.Event()))
    accepted = await bench.accept()
    async with worker(bench, bench.execution(provider), provider) as held:
        await until(lambda: provider.running, within_s=5)

        async def broken(**_: object) -> None:
            raise KeyError("bug")

        monkeypatch.setattr(bench.real_queue, "claim", broken)
        await bench.accept()  # wakes the loop
        with pytest.raises(ExceptionGroup):
            await held.ended()
    task = await bench.task(accepted.id)
    assert (task.state, provider.running) == (TaskState.PENDING, 0)
    assert await bench.place(accepted.id) == "ready"

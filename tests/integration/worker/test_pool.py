"""The worker as a whole: slots, waking, leases that are kept, and an orderly stop."""

from __future__ import annotations

import asyncio
import time

import pytest

from server.domain.task import TaskState
from server.ports import Entry, Lane, Pool
from server.worker.pool import IDLE_WAIT_S, pools_of
from tests.integration.worker.bench import Bench
from tests.integration.worker.pools import all_over, slots, worker
from tests.integration.worker.scripted import ScriptedProvider, makes_all, raises, refusal, waits_for
from tests.waiting import until, until_async

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


async def test_a_workers_parts_are_tested_on_its_event_loop() -> None:
    assert type(asyncio.get_running_loop()).__module__ == "uvloop"


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


async def test_what_is_claimed_together_is_read_together(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    tasks = [await bench.accept() for _ in range(3)]
    async with worker(bench, bench.execution(provider), provider):
        await all_over(bench, *(task.id for task in tasks))
    assert bench.store_faults.calls["get"] == 0


async def test_a_store_that_is_away_when_tasks_are_claimed_holds_them_up(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    tasks = [await bench.accept() for _ in range(3)]
    bench.store_faults.failing |= {"get", "get_many"}
    async with worker(bench, bench.execution(provider), provider) as held:
        await until(lambda: bench.store_faults.calls["get"] >= 3, within_s=5)
        assert bench.store_faults.calls["get_many"] == 1
        assert await bench.place(tasks[0].id) == f"leased to {held.beat.id}"
        bench.store_faults.wake()
        await all_over(bench, *(task.id for task in tasks))


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
        await until(lambda: slots(bench) == (0, 10), within_s=5)
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


async def test_what_was_claimed_under_a_lost_id_is_not_begun_under_it(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    gate = bench.store_faults.gates["get"] = asyncio.Event()
    accepted = await bench.accept()
    async with worker(bench, bench.execution(provider), provider, lease_s=0.6) as held:
        await until(lambda: bench.store_faults.calls["get"], within_s=5)
        former = held.beat.id
        await declare_lost(bench, former)
        await until(lambda: held.beat.id != former, within_s=5, what="a new id")
        gate.set()
        await all_over(bench, accepted.id)
        task = await bench.task(accepted.id)
        assert former not in {attempt.worker for attempt in task.attempts.values()}
        assert (task.state, task.owner) == (TaskState.COMPLETED, held.beat.id)


async def declare_lost(bench: Bench, worker_id: str) -> None:
    """The verdict, whatever its beat is at."""

    async def declared() -> bool:
        row = next(row for row in await bench.store.workers() if row.id == worker_id)
        return await bench.store.declare_lost(worker_id, beat=row.beat)

    await until_async(declared, within_s=5, what="the verdict")


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


async def test_the_lease_of_a_task_that_ends_meanwhile_is_not_prolonged(bench: Bench) -> None:
    """The queue would make it again, and its lane and its caller would miss a place for a whole lease."""
    go_on, may_renew = asyncio.Event(), asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    accepted = await bench.accept()
    bench.queue_faults.gates["renew"] = may_renew
    async with worker(bench, bench.execution(provider), provider, lease_s=0.6):
        await until(lambda: bench.queue_faults.calls["renew"], within_s=5, what="the list of what is held")
        go_on.set()
        await until_async(bench.all_ended, within_s=5)
        may_renew.set()
        await until(lambda: bench.queue_faults.done["renew"], within_s=5)
        await all_over(bench, accepted.id)


async def test_a_task_that_runs_here_is_not_begun_again(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    accepted = await bench.accept()
    async with worker(bench, bench.execution(provider), provider):
        await until(lambda: provider.running, within_s=5)
        await bench.flush()
        await bench.queue.enqueue([Entry.of(accepted)])

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


# --- ends ----------------------------------------------------------------------------------------------


async def test_what_ends_under_load_leaves_the_queue_with_the_next_claim(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    tasks = [await bench.accept() for _ in range(20)]
    async with worker(bench, bench.execution(provider), provider, concurrency=2):
        await all_over(bench, *(task.id for task in tasks))
        assert bench.queue_faults.calls["finish"] <= 2, "only at the end there is no claim to go with"


async def test_what_ends_while_the_worker_waits_for_work_leaves_the_queue_at_once(bench: Bench) -> None:
    go_on, faults = asyncio.Event(), bench.queue_faults
    provider = ScriptedProvider(waits_for(go_on))
    faults.gates["wait_for_work"] = asyncio.Event()  # there will be none
    accepted = await bench.accept()
    async with worker(bench, bench.execution(provider), provider):
        await until(lambda: provider.running and faults.calls["wait_for_work"], within_s=5)
        go_on.set()
        await all_over(bench, accepted.id)
        assert (faults.calls["finish"], faults.calls["wait_for_work"]) == (1, 1)


async def test_an_end_that_redis_may_not_have_heard_of_is_told_again(bench: Bench) -> None:
    first_gate, faults = asyncio.Event(), bench.queue_faults
    provider = ScriptedProvider(waits_for(first_gate), makes_all)
    tasks = [await bench.accept() for _ in range(2)]
    async with worker(bench, bench.execution(provider), provider, concurrency=1):
        await until(lambda: provider.running, within_s=5)
        faults.losing.add("claim")
        faults.failing.add("finish")  # so that only a claim can tell of it
        first_gate.set()
        done = faults.done["claim"]
        await until(lambda: faults.done["claim"] > done, within_s=5)
        faults.failing.add("claim")
        calls = faults.calls["claim"]
        await until(lambda: faults.calls["claim"] > calls, within_s=5)
        faults.wake()
        await bench.flush()
        await bench.queue.enqueue([Entry.of(task) for task in tasks])
        await all_over(bench, *(task.id for task in tasks))


async def test_the_last_end_of_a_drain_leaves_the_queue_although_another_is_just_told(bench: Bench) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    provider = ScriptedProvider(waits_for(first), waits_for(second))
    tasks = [await bench.accept() for _ in range(2)]
    told = bench.queue_faults.gates["finish"] = asyncio.Event()
    async with worker(bench, bench.execution(provider), provider, concurrency=2) as held:
        await until(lambda: provider.running == 2, within_s=5)
        held.pool.stop()
        first.set()
        await until(lambda: bench.queue_faults.calls["finish"], within_s=5)
        second.set()
        await until(lambda: slots(bench) == (0, 2), within_s=5)
        told.set()
        await held.ended()
        assert [await bench.place(task.id) for task in tasks] == ["gone", "gone"]


async def test_what_ends_under_a_former_id_leaves_the_queue_under_load_too(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on), makes_all)
    first = await bench.accept()
    async with worker(bench, bench.execution(provider), provider, concurrency=2, lease_s=0.6) as held:
        await until(lambda: provider.running, within_s=5)
        former = held.beat.id
        await declare_lost(bench, former)
        await until(lambda: held.beat.id != former, within_s=5, what="a new id")
        others = [await bench.accept(user_id=f"u{n}") for n in range(200)]
        go_on.set()

        async def gone() -> bool:
            return await bench.place(first.id) == "gone"

        await until_async(gone, within_s=5)
        assert (await bench.real_queue.stats()).ready, "not only when there is no work left"
        await all_over(bench, *(task.id for task in others), within_s=20)


async def test_what_ends_under_a_former_id_leaves_the_queue_too(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    accepted = await bench.accept()
    async with worker(bench, bench.execution(provider), provider, lease_s=0.6) as held:
        await until(lambda: provider.running, within_s=5)
        former = held.beat.id
        await declare_lost(bench, former)
        await until(lambda: held.beat.id != former, within_s=5, what="a new id")
        assert await bench.place(accepted.id) == f"leased to {former}"
        go_on.set()
        await all_over(bench, accepted.id)


# --- Redis away ------------------------------------------------------------------------------------------


async def test_redis_away_is_a_pause(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    bench.queue_faults.away = True
    async with worker(bench, bench.execution(provider), provider) as held:
        await until(lambda: bench.queue_faults.calls["keep_only"] >= 2, within_s=5)
        bench.queue_faults.wake()
        accepted = await bench.accept()
        await all_over(bench, accepted.id)
        assert not held.running.done()


async def test_what_a_claim_took_whose_answer_was_lost_is_claimed_again_at_once(bench: Bench) -> None:
    go_on, faults = asyncio.Event(), bench.queue_faults
    provider = ScriptedProvider(waits_for(go_on), makes_all)
    first = await bench.accept(user_id="a")
    async with worker(bench, bench.execution(provider), provider, concurrency=3) as held:
        await until(lambda: provider.running, within_s=5)
        faults.losing.add("claim")
        others = [await bench.accept(user_id="b") for _ in range(2)]

        async def unheard() -> bool:
            return await bench.place(others[0].id) == f"leased to {held.beat.id}"

        await until_async(unheard, within_s=5)
        faults.wake()

        async def claimed_again() -> bool:
            return all([await bench.place(task.id) == "gone" for task in others])

        await until_async(claimed_again, within_s=5)  # a lease is three times as long
        assert await bench.place(first.id) == f"leased to {held.beat.id}", "what runs here is kept"
        go_on.set()
        await all_over(bench, first.id)
    assert (await bench.task(first.id)).attempt == 1


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

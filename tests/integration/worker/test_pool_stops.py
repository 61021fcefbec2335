"""The end of a worker: in order, at the end of the grace, and by a bug."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from server.app import run_worker
from server.domain.task import AttemptOutcome, Task, TaskState
from server.ports import Claimed
from server.settings import load
from server.store.sqlite import SqliteTaskStore
from server.worker.attempt import Attempt
from server.worker.execution import Holder
from server.worker.pool import IDLE_WAIT_S
from tests.integration.worker.bench import Bench
from tests.integration.worker.pools import all_over, slots, worker
from tests.integration.worker.scripted import ScriptedProvider, makes_all, waits_for
from tests.redis_server import RedisServer
from tests.waiting import until, until_async

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


async def test_a_stop_leaves_no_row_however_long_its_removal_takes(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, stop, lease_s = SqliteTaskStore.remove_worker, asyncio.Event(), 0.5

    async def answer_late(store: SqliteTaskStore, worker_id: str) -> None:
        await remove(store, worker_id)
        beats = [task for task in asyncio.all_tasks() if task.get_name() == "beat"]
        if beats:  # which would find the row gone
            await asyncio.wait(beats, timeout=lease_s)

    monkeypatch.setattr(SqliteTaskStore, "remove_worker", answer_late)
    settings = load(
        None,
        store_url=f"sqlite://{tmp_path}/tasks.db",
        redis_url=redis_server.url,
        data_dir=tmp_path,
        http_port=0,
        lease_seconds=lease_s,
    )
    await run_worker(settings, stop, lambda _: stop.set())
    async with aclosing(await SqliteTaskStore.open(tmp_path / "tasks.db")) as store:
        assert await store.workers() == []


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


async def test_what_is_claimed_amid_a_stop_goes_back_at_once(bench: Bench) -> None:
    provider, answer = ScriptedProvider(makes_all), asyncio.Event()
    bench.store_faults.gates["get_many"] = answer
    tasks = [await bench.accept() for _ in range(3)]
    async with worker(bench, bench.execution(provider), provider) as held:
        await until(lambda: bench.store_faults.calls["get_many"] == 1, within_s=5)
        assert await bench.place(tasks[0].id) == f"leased to {held.beat.id}"
        held.pool.stop()
        answer.set()
        await held.ended()
        assert (await bench.real_queue.stats()).ready == 3
    assert bench.store_faults.calls["get"] == len(provider.calls) == 0


# --- bugs --------------------------------------------------------------------------------------------


async def test_a_task_that_runs_into_a_bug_ends_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = ScriptedProvider(makes_all)
    execution = bench.execution(provider)
    bad, good = await bench.accept(), await bench.accept()
    run = execution.run

    async def broken(claimed: Claimed, holder: Holder, task: Task | None) -> None:
        if claimed.task_id == bad.id:
            raise KeyError(claimed.task_id)
        await run(claimed, holder, task)

    monkeypatch.setattr(execution, "run", broken)
    async with worker(bench, execution, provider) as held:
        await until(lambda: bench.count("imagegen_task_crashes_total"), within_s=5)

        async def good_is_done() -> bool:
            return (await bench.task(good.id)).state is TaskState.COMPLETED

        await until_async(good_is_done, within_s=5)
        await until(lambda: slots(bench) == (0, 10), within_s=5)
        assert not held.running.done()
        assert await bench.place(bad.id) == f"leased to {held.beat.id}"
    assert bench.count("imagegen_task_crashes_total") == 1


async def test_a_row_that_cannot_be_read_ends_no_other(bench: Bench, tmp_path: Path) -> None:
    provider = ScriptedProvider(makes_all)
    bad, *good = [await bench.accept() for _ in range(3)]

    def change(statement: str, values: tuple[str, ...]) -> None:
        with closing(sqlite3.connect(tmp_path / "tasks.db")) as db, db:
            db.execute(statement, values)

    change("UPDATE tasks SET doc = json_remove(doc, '$.model') WHERE id = ?", (bad.id,))
    async with worker(bench, bench.execution(provider), provider, lease_s=1) as held:
        await until(lambda: bench.count("imagegen_task_crashes_total"), within_s=5)

        async def good_are_done() -> bool:
            return all([(await bench.task(task.id)).state is TaskState.COMPLETED for task in good])

        await until_async(good_are_done, within_s=5)
        assert bench.store_faults.calls["get_many"] == 1, "they were claimed, and looked up, together"
        assert await bench.place(bad.id) == f"leased to {held.beat.id}"
        change("UPDATE tasks SET doc = json_set(doc, '$.model', ?) WHERE id = ?", (bad.model, bad.id))
        await all_over(bench, bad.id)


async def test_a_task_whose_run_ends_in_a_bug_after_its_mark_is_not_stuck(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner lives, so nobody else may take it: the owner itself looks at it again, after a lease."""
    provider = ScriptedProvider(makes_all)
    execution = bench.execution(provider)
    accepted = await bench.accept()
    make, bugs = execution._make, iter([True, True])

    async def broken(attempt: Attempt, holder: Holder) -> None:
        if next(bugs, False):
            raise KeyError("a bug")
        await make(attempt, holder)

    monkeypatch.setattr(execution, "_make", broken)
    async with worker(bench, execution, provider, lease_s=0.3):
        await all_over(bench, accepted.id)
    task = await bench.task(accepted.id)
    assert (task.state, task.attempt, task.counts.lost) == (TaskState.COMPLETED, 3, 2)
    assert bench.count("imagegen_task_crashes_total") == 2


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

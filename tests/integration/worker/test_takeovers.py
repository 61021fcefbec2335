"""Workers that die, come back too late, or still live: whose task it is, the store says."""

from __future__ import annotations

import asyncio

import pytest

from server.domain import attempt_writes, life, purchases
from server.domain.errors import Reason
from server.domain.task import AttemptOutcome, CallState, Counts, Task, TaskState
from server.ports import Entry
from server.providers.contract import Sent
from tests.integration.worker.bench import ME, OTHER, Bench
from tests.integration.worker.scripted import (
    ScriptedProvider,
    made,
    makes,
    makes_all,
    raises,
    refusal,
    waits_for,
)
from tests.waiting import until, until_async


async def die_in_mid_call(bench: Bench, task: Task, *, paid: bool = False, images: int = 0) -> Task:
    """OTHER claims the task, marks it, stores some images, and is gone; its lease runs out at once."""
    await bench.store.register_worker(OTHER, host="h", pid=1)
    claimed = await bench.claim(worker=OTHER, lease_ms=1)
    assert claimed.task_id == task.id
    write, marked = life.mark(
        await bench.task(task.id), worker=OTHER, provider="local", paid=paid, now_ms=bench.now_ms()
    )
    assert await bench.store.write(write)
    for index in range(images):
        image = await bench.keep(made(index), task_id=task.id, attempt=1)
        assert await bench.store.write(attempt_writes.add_image(marked, image, bench.now_ms()))
    return await bench.task(task.id)


async def expire(bench: Bench) -> None:
    """The sweep sees expired leases."""
    sweep = bench.sweep()

    async def resolved() -> bool:
        return (await sweep.step()).expired > 0

    await until_async(resolved, within_s=5, what="the lease's end")


# --- takeover ----------------------------------------------------------------------------------------


async def test_a_lost_workers_task_is_taken_over(bench: Bench) -> None:
    task = await die_in_mid_call(bench, await bench.accept())
    assert await bench.store.declare_lost(OTHER, beat=0)
    await expire(bench)
    assert await bench.place(task.id) == "ready"

    task = await bench.run(bench.execution(ScriptedProvider(makes_all)))
    assert (task.state, task.attempt, task.owner) == (TaskState.COMPLETED, 2, ME)
    first = task.attempts[1]
    assert (first.worker, first.outcome) == (OTHER, AttemptOutcome.IN_DOUBT)
    assert first.error is not None
    assert first.error.reason is Reason.WORKER_LOST
    assert [call.state for call in first.calls.values()] == [CallState.IN_DOUBT]
    assert task.counts == Counts(lost=1)


async def test_a_worker_whose_row_is_gone_is_lost(bench: Bench) -> None:
    await die_in_mid_call(bench, await bench.accept())
    await bench.store.remove_worker(OTHER)
    await expire(bench)
    task = await bench.run(bench.execution(ScriptedProvider(makes_all)))
    assert (task.state, task.attempt) == (TaskState.COMPLETED, 2)


async def test_a_living_owner_gets_its_task_back(bench: Bench) -> None:
    """Redis gave it away, the store knows better."""
    accepted = await bench.accept()
    task = await die_in_mid_call(bench, accepted)
    await bench.flush()
    await bench.queue.enqueue([Entry.of(task)])
    provider = ScriptedProvider(makes_all)
    assert await bench.run(bench.execution(provider)) == task
    assert provider.calls == []
    assert await bench.place(task.id) == f"leased to {OTHER}"


async def test_the_images_of_a_lost_worker_are_kept(bench: Bench) -> None:
    await die_in_mid_call(bench, await bench.accept(images=3), images=2)
    await bench.store.remove_worker(OTHER)
    await expire(bench)
    provider = ScriptedProvider(makes_all)
    task = await bench.run(bench.execution(provider))
    assert (task.state, sorted(task.images)) == (TaskState.COMPLETED, [0, 1, 2])
    assert [call.indexes for call in provider.calls] == [(2,)]


@pytest.mark.parametrize("paid", [True, False])
async def test_a_worker_lost_after_its_last_image_leaves_nothing_to_do(bench: Bench, paid: bool) -> None:
    await die_in_mid_call(bench, await bench.accept(images=2), images=2, paid=paid)
    await bench.store.remove_worker(OTHER)
    await expire(bench)
    provider = ScriptedProvider(makes_all, paid=paid)
    task = await bench.run(bench.execution(provider))
    assert (task.state, sorted(task.images), task.failures) == (TaskState.COMPLETED, [0, 1], {})
    assert provider.calls == []


async def test_a_cancelled_task_is_not_taken_over(bench: Bench) -> None:
    await die_in_mid_call(bench, await bench.accept(cancel_requested=True))
    await bench.store.remove_worker(OTHER)
    await expire(bench)
    provider = ScriptedProvider(makes_all)
    task = await bench.run(bench.execution(provider))
    assert (task.state, provider.calls) == (TaskState.CANCELLED, [])
    assert task.attempts[1].outcome is AttemptOutcome.IN_DOUBT


async def test_the_fifth_lost_worker_is_the_last(bench: Bench) -> None:
    await die_in_mid_call(bench, await bench.accept(counts=Counts(lost=4)))
    await bench.store.remove_worker(OTHER)
    await expire(bench)
    provider = ScriptedProvider(makes_all)
    task = await bench.run(bench.execution(provider))
    assert (task.state, provider.calls) == (TaskState.FAILED, [])
    assert task.error is not None
    assert task.error.reason is Reason.WORKER_LOST


# --- money -------------------------------------------------------------------------------------------


async def test_with_one_paid_attempt_a_lost_call_is_never_repeated(bench: Bench) -> None:
    accepted = await bench.accept(max_paid_attempts=1)
    await die_in_mid_call(bench, accepted, paid=True)
    await bench.store.remove_worker(OTHER)
    await expire(bench)
    provider = ScriptedProvider(makes_all, paid=True)
    execution = bench.execution(provider)
    task = await bench.run(execution)
    assert (task.state, provider.calls) == (TaskState.FAILED, [])
    assert task.error is not None
    assert task.error.reason is Reason.OUTCOME_UNKNOWN
    assert task.attempts[1].outcome is AttemptOutcome.IN_DOUBT
    assert await bench.place(accepted.id) == "gone"

    await bench.queue.enqueue([Entry.of(accepted)])  # whatever the queue offers again
    assert await bench.run(execution) == task
    assert provider.calls == []


async def test_with_two_paid_attempts_a_lost_call_is_repeated_once(bench: Bench) -> None:
    accepted = await bench.accept(max_paid_attempts=2)
    await die_in_mid_call(bench, accepted, paid=True)
    await bench.store.remove_worker(OTHER)
    await expire(bench)
    provider = ScriptedProvider(makes_all, paid=True)
    task = await bench.run(bench.execution(provider))
    assert (task.state, len(provider.calls)) == (TaskState.COMPLETED, 1)
    assert [attempt.outcome for attempt in task.attempts.values()] == [
        AttemptOutcome.IN_DOUBT,
        AttemptOutcome.SUCCEEDED,
    ]
    assert purchases.paid_or_open_calls(task) == 2
    assert task.counts == Counts(), "the money bounds it, not the number of lost workers"


@pytest.mark.parametrize(
    ("max_paid", "calls", "end"),
    [(1, 1, TaskState.FAILED), (2, 2, TaskState.FAILED), (3, 3, TaskState.COMPLETED)],
)
async def test_calls_in_doubt_use_up_the_money(
    bench: Bench, max_paid: int, calls: int, end: TaskState
) -> None:
    doubt = refusal(sent=Sent.IN_DOUBT)
    provider = ScriptedProvider(raises(doubt), raises(TimeoutError()), makes_all, paid=True)
    execution = bench.execution(provider)
    await bench.accept(max_paid_attempts=max_paid)
    task = await bench.run(execution)
    while task.state is TaskState.PENDING:
        assert task.attempts[task.attempt].calls[0].state is CallState.IN_DOUBT
        task = await bench.run(execution)
    assert (task.state, len(provider.calls)) == (end, calls)
    if end is TaskState.FAILED:
        assert task.error is not None
        assert task.error.reason is Reason.OUTCOME_UNKNOWN


# --- overtaken ---------------------------------------------------------------------------------------


async def overtake(bench: Bench, task_id: str) -> Task:
    """While ME runs the task, a verdict says that it is lost, and OTHER takes over and marks."""
    task = await bench.task(task_id)
    write, _ = life.mark(task, worker=OTHER, provider="local", paid=False, now_ms=bench.now_ms())
    assert await bench.store.write(write)
    return await bench.task(task_id)


@pytest.mark.parametrize("images", [1, 3])
async def test_a_late_result_changes_nothing_and_is_counted(bench: Bench, images: int) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    accepted = await bench.accept(images=images)
    work = bench.start(bench.execution(provider), await bench.claim())
    await until(lambda: provider.running, within_s=5)
    successors = await overtake(bench, accepted.id)
    go_on.set()
    await work
    assert await bench.task(accepted.id) == successors
    assert bench.stale_writes() == 1
    assert bench.finished(TaskState.COMPLETED) == 0
    assert await bench.place(accepted.id) == "ready", "it is given back, never taken out"


@pytest.mark.parametrize(
    "failure", [refusal(), refusal(retryable=False), KeyError("bug")], ids=["retryable", "final", "bug"]
)
async def test_a_late_failure_changes_nothing_and_is_counted(bench: Bench, failure: Exception) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on, raises(failure)))
    accepted = await bench.accept()
    work = bench.start(bench.execution(provider), await bench.claim())
    await until(lambda: provider.running, within_s=5)
    successors = await overtake(bench, accepted.id)
    go_on.set()
    await work
    assert await bench.task(accepted.id) == successors
    assert bench.stale_writes() == 1
    assert bench.finished(TaskState.FAILED) == 0
    assert await bench.place(accepted.id) in ("ready", "delayed")


async def test_an_overtaken_sequence_stops_at_its_next_image(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on, makes(0, 1, 2)))
    accepted = await bench.accept(images=3)
    work = bench.start(bench.execution(provider), await bench.claim())
    await until(lambda: provider.running, within_s=5)
    await overtake(bench, accepted.id)
    go_on.set()
    await work
    assert (await bench.task(accepted.id)).images == {}
    assert bench.output_faults.calls["put"] == 1


async def test_two_workers_that_claim_the_same_task_make_it_once(bench: Bench) -> None:
    """Redis may hand an id out twice: the store lets one of them mark."""
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    execution = bench.execution(provider)
    await bench.store.register_worker(ME, host="h", pid=1)
    await bench.store.register_worker(OTHER, host="h", pid=2)
    accepted = await bench.accept()
    claimed = await bench.claim(worker=ME)
    await bench.flush()
    await bench.queue.enqueue([Entry.of(accepted)])
    again = await bench.claim(worker=OTHER)
    works = [
        bench.start(execution, claimed, worker=ME),
        bench.start(execution, again, worker=OTHER),
    ]
    await until(lambda: any(work.done() for work in works), within_s=5)
    go_on.set()
    await asyncio.gather(*works)
    task = await bench.task(accepted.id)
    assert (task.state, task.attempt, len(provider.calls)) == (TaskState.COMPLETED, 1, 1)

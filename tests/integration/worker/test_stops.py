"""A stop in mid-attempt: what was received is kept, what was sent is recorded, the rest is given back."""

from __future__ import annotations

import asyncio

import pytest

from server.domain.task import AttemptOutcome, TaskState
from server.ports import Entry
from server.providers.contract import Generation, Progress
from tests.integration.worker.bench import ME, OTHER, Bench, refused
from tests.integration.worker.scripted import (
    ScriptedProvider,
    made,
    makes_all,
    waits_for,
)
from tests.waiting import until


async def stopped(work: asyncio.Task[None]) -> None:
    """The grace is over: the work is cancelled, and ends soon."""
    work.cancel()
    await asyncio.wait({work}, timeout=2)
    assert work.done(), "it does not let go"
    assert work.cancelled()


async def test_a_stop_gives_an_unpaid_call_back(bench: Bench) -> None:
    provider = ScriptedProvider(waits_for(asyncio.Event()))
    accepted = await bench.accept()
    work = bench.start(bench.execution(provider), await bench.claim())
    await until(lambda: provider.running, within_s=5)
    await stopped(work)
    task = await bench.task(accepted.id)
    assert task.state is TaskState.PENDING
    assert (task.attempts[1].outcome, task.attempts[1].calls) == (AttemptOutcome.NOT_SENT, {})
    assert await bench.place(accepted.id) == "ready"


@pytest.mark.parametrize("max_paid", [1, 2])
async def test_a_stop_leaves_a_paid_call_in_doubt(bench: Bench, max_paid: int) -> None:
    provider = ScriptedProvider(waits_for(asyncio.Event()), makes_all, paid=True)
    execution = bench.execution(provider)
    accepted = await bench.accept(max_paid_attempts=max_paid)
    work = bench.start(execution, await bench.claim())
    await until(lambda: provider.running, within_s=5)
    await stopped(work)
    task = await bench.task(accepted.id)
    assert task.attempts[1].outcome is AttemptOutcome.IN_DOUBT
    if max_paid == 1:
        assert task.state is TaskState.FAILED
        assert await bench.place(accepted.id) == "gone"
    else:
        assert task.state is TaskState.PENDING
        assert (await bench.run(execution)).state is TaskState.COMPLETED
        assert len(provider.calls) == 2


@pytest.mark.parametrize("paid", [True, False])
@pytest.mark.parametrize("images", [1, 2])
async def test_a_stop_after_the_last_image_is_no_loss(bench: Bench, images: int, paid: bool) -> None:
    there = asyncio.Event()

    async def script(generation: Generation, progress: Progress) -> None:
        await makes_all(generation, progress)
        there.set()
        await asyncio.Event().wait()

    accepted = await bench.accept(images=images, max_paid_attempts=1)
    work = bench.start(bench.execution(ScriptedProvider(script, paid=paid)), await bench.claim())
    async with asyncio.timeout(5):
        await there.wait()
    await stopped(work)
    task = await bench.task(accepted.id)
    assert (task.state, len(task.images), task.failures) == (TaskState.COMPLETED, images, {})
    assert await bench.place(accepted.id) == "gone"


async def test_a_stop_keeps_the_images_of_an_unpaid_sequence(bench: Bench) -> None:
    there = asyncio.Event()

    async def script(generation: Generation, progress: Progress) -> None:
        await progress(made(1))
        there.set()
        await asyncio.Event().wait()

    provider = ScriptedProvider(script, makes_all)
    execution = bench.execution(provider)
    await bench.accept(images=3)
    work = bench.start(execution, await bench.claim())
    async with asyncio.timeout(5):
        await there.wait()
    await stopped(work)
    task = await bench.run(execution)
    assert (task.state, sorted(task.images)) == (TaskState.COMPLETED, [0, 1, 2])
    assert provider.calls[1].indexes == (0, 2)


async def test_a_stop_in_mid_mark_gives_the_task_back(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    accepted = await bench.accept()
    claimed = await bench.claim()
    bench.store_faults.failing.add("write")
    work = bench.start(bench.execution(provider), claimed)
    await refused(bench.store_faults, "write")
    await stopped(work)
    assert await bench.place(accepted.id) == "ready"
    assert provider.calls == []


async def test_a_stop_after_a_mark_whose_answer_is_late_leaves_no_call_in_doubt(bench: Bench) -> None:
    """The mark took place, and its worker stopped before it heard of it: nothing was sent."""
    provider = ScriptedProvider(makes_all, paid=True)
    accepted = await bench.accept(max_paid_attempts=1)
    claimed = await bench.claim()
    late = bench.store_faults.late["write"] = asyncio.Event()
    work = bench.start(bench.execution(provider), claimed)
    await until(lambda: bench.store_faults.done["write"], within_s=5)
    del bench.store_faults.late["write"]
    await stopped(work)
    late.set()
    task = await bench.task(accepted.id)
    assert (task.state, task.attempts[1].outcome) == (TaskState.PENDING, AttemptOutcome.NOT_SENT)
    assert (task.attempts[1].calls, provider.calls) == ({}, [])
    assert (await bench.run(bench.execution(provider))).state is TaskState.COMPLETED


async def test_a_stop_in_mid_mark_leaves_alone_the_attempt_that_another_has_marked(bench: Bench) -> None:
    """Both hold the task, as after a flush of the queue; the other's call is under way under that number."""
    done = asyncio.Event()
    mine = ScriptedProvider(makes_all, paid=True)
    others = ScriptedProvider(waits_for(done), paid=True)
    accepted = await bench.accept(max_paid_attempts=1)
    claimed = await bench.claim()
    gate = bench.store_faults.gates["write"] = asyncio.Event()
    work = bench.start(bench.execution(mine), claimed)
    await until(lambda: bench.store_faults.calls["write"], within_s=5, what="the mark")
    del bench.store_faults.gates["write"]
    await bench.flush()
    await bench.queue.enqueue([Entry.of(accepted)])
    other = bench.start(bench.execution(others), await bench.claim(worker=OTHER), worker=OTHER)
    await until(lambda: others.running, within_s=5)
    late = bench.store_faults.late["write"] = asyncio.Event()
    gate.set()  # refused, and not heard of
    await until(lambda: bench.store_faults.done["write"] >= 2, within_s=5)
    del bench.store_faults.late["write"]
    await stopped(work)
    late.set()
    task = await bench.task(accepted.id)
    assert (task.state, task.owner, len(task.attempts[1].calls)) == (TaskState.PROCESSING, OTHER, 1)
    done.set()
    await other
    assert (await bench.task(accepted.id)).state is TaskState.COMPLETED
    assert mine.calls == []


async def test_a_stop_without_the_store_is_quick(bench: Bench) -> None:
    """What cannot be recorded is left open, for the verdict on a lost worker."""
    provider = ScriptedProvider(waits_for(asyncio.Event()), paid=True)
    accepted = await bench.accept()
    work = bench.start(bench.execution(provider), await bench.claim())
    await until(lambda: provider.running, within_s=5)
    bench.store_faults.away = True
    await stopped(work)
    task = await bench.task(accepted.id)
    assert (task.state, task.attempts[1].outcome) == (TaskState.PROCESSING, None)
    assert await bench.place(accepted.id) == f"leased to {ME}"

"""A task whose cancel was asked for ends with what there is, and frees its slot at once."""

from __future__ import annotations

import asyncio

import pytest

from server.domain import life, purchases
from server.domain.errors import Reason, TaskError
from server.domain.task import AttemptOutcome, CallState, Task, TaskState
from server.providers.contract import Generation, ImageFailed, Progress
from server.worker.cancel import Cancel
from tests.integration.worker.bench import Bench
from tests.integration.worker.pools import worker
from tests.integration.worker.scripted import ScriptedProvider, made, makes_all, waits_for
from tests.integration.worker.shop import Shop
from tests.waiting import until, until_async


async def ask(bench: Bench, task_id: str) -> None:
    """What the API does."""
    task = await bench.task(task_id)
    assert await bench.store.write(life.request_cancel(task, bench.now_ms()))


async def cancelled(bench: Bench, task_id: str) -> Task:
    """The task once it is cancelled, and its worker has let go of it."""

    async def ended() -> Task | None:
        task = await bench.task(task_id)
        return task if task.state.terminal else None

    task = await until_async(ended, within_s=5, what="the end of the cancelled task")
    assert task is not None
    assert task.state is TaskState.CANCELLED

    async def gone() -> bool:
        return await bench.place(task_id) == "gone"

    await until_async(gone, within_s=5, what="the cancelled task to leave the queue")
    return task


@pytest.mark.parametrize("paid", [True, False])
async def test_a_call_under_way_is_ended(bench: Bench, paid: bool) -> None:
    provider = ScriptedProvider(waits_for(asyncio.Event()), paid=paid)
    accepted, cancel = await bench.accept(), Cancel()
    work = bench.start(bench.execution(provider), await bench.claim(), cancel=cancel)
    await until(lambda: provider.running, within_s=5)
    await ask(bench, accepted.id)
    cancel.ask()
    cancel.ask()
    await work
    task = await bench.task(accepted.id)
    assert (task.state, task.attempts[1].outcome) == (TaskState.CANCELLED, AttemptOutcome.CANCELLED)
    assert [call.state for call in task.attempts[1].calls.values()] == [CallState.IN_DOUBT]
    assert not task.attempts[1].paid
    assert provider.running == 0
    assert await bench.place(accepted.id) == "gone"
    assert bench.finished(TaskState.CANCELLED) == 1
    assert bench.attempts("CANCELLED") == 0, "no call has ended by itself"


async def test_the_images_that_came_before_are_kept(bench: Bench) -> None:
    there = asyncio.Event()

    async def script(generation: Generation, progress: Progress) -> None:
        await progress(made(1))
        there.set()
        await asyncio.Event().wait()

    accepted, cancel = await bench.accept(images=3), Cancel()
    work = bench.start(bench.execution(ScriptedProvider(script)), await bench.claim(), cancel=cancel)
    await there.wait()
    cancel.ask()
    await work
    task = await bench.task(accepted.id)
    assert (task.state, list(task.images)) == (TaskState.CANCELLED, [1])
    assert await bench.outputs.get(task.images[1].key) is not None


async def test_with_its_last_image_it_is_complete(bench: Bench) -> None:
    """What was paid for and received is never dropped."""
    there = asyncio.Event()

    async def script(generation: Generation, progress: Progress) -> None:
        await makes_all(generation, progress)
        there.set()
        await asyncio.Event().wait()

    accepted, cancel = await bench.accept(), Cancel()
    work = bench.start(
        bench.execution(ScriptedProvider(script, paid=True)), await bench.claim(), cancel=cancel
    )
    await there.wait()
    cancel.ask()
    await work
    assert (await bench.task(accepted.id)).state is TaskState.COMPLETED


@pytest.mark.parametrize("how", ["cancel", "stop"])
async def test_where_every_image_was_refused_it_has_failed(bench: Bench, how: str) -> None:
    """Of each it is known what became of it, and there is none: that is no success."""
    late, asked = asyncio.Event(), asyncio.Event()

    async def script(generation: Generation, progress: Progress) -> None:
        why = TaskError(reason=Reason.CONTENT_POLICY_OUTPUT, message="This image was refused.")
        await progress(ImageFailed(index=0, error=why))
        bench.store_faults.late["write"] = late
        asked.set()
        await progress(ImageFailed(index=1, error=why))

    accepted, cancel = await bench.accept(images=2), Cancel()
    execution = bench.execution(ScriptedProvider(script, paid=True))
    work = bench.start(execution, await bench.claim(), cancel=cancel)
    await asked.wait()
    written = bench.store_faults.done["write"]
    await until(lambda: bench.store_faults.done["write"] > written, within_s=5)
    del bench.store_faults.late["write"]
    if how == "cancel":
        cancel.ask()
    else:
        work.cancel()
    await asyncio.wait({work}, timeout=5)
    late.set()
    task = await bench.task(accepted.id)
    assert (task.state, task.images, sorted(task.failures)) == (TaskState.FAILED, {}, [0, 1])
    assert task.error is not None
    assert task.error.reason is Reason.CONTENT_POLICY_OUTPUT
    assert task.attempts[1].calls == {}, "nothing was charged"


async def test_a_bought_picture_of_a_cancelled_task_counts_as_charged(bench: Bench) -> None:
    shop = Shop()
    shop.delivering.clear()
    accepted, cancel = await bench.accept(), Cancel()
    work = bench.start(bench.execution(shop), await bench.claim(), cancel=cancel)

    async def receipt() -> bool:
        return bool((await bench.task(accepted.id)).attempts[1].calls[0].receipt)

    await until(lambda: shop.sold, within_s=5)
    await until_async(receipt, within_s=5)
    cancel.ask()
    await work
    task = await bench.task(accepted.id)
    assert (task.state, task.attempts[1].paid) == (TaskState.CANCELLED, True)


async def test_a_cancel_that_comes_before_the_call_is_heeded(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    accepted, cancel = await bench.accept(), Cancel()
    cancel.ask()
    await bench.start(bench.execution(provider), await bench.claim(), cancel=cancel)
    task = await bench.task(accepted.id)
    assert (task.state, provider.calls) == (TaskState.CANCELLED, [])
    assert not purchases.may_have_been_sent(task), "the worker knows that nothing was sent"


async def test_a_stop_goes_before_a_cancel(bench: Bench) -> None:
    """Both at the same moment: the stop records what there is, and the next claim ends the task."""
    provider = ScriptedProvider(waits_for(asyncio.Event()))
    accepted, cancel = await bench.accept(), Cancel()
    execution = bench.execution(provider)
    work = bench.start(execution, await bench.claim(), cancel=cancel)
    await until(lambda: provider.running, within_s=5)
    await ask(bench, accepted.id)
    cancel.ask()
    work.cancel()
    await asyncio.wait({work}, timeout=5)
    assert work.cancelled()
    assert (await bench.task(accepted.id)).state is TaskState.PENDING
    assert (await bench.run(execution)).state is TaskState.CANCELLED
    assert len(provider.calls) == 1


async def test_the_pool_ends_the_tasks_that_it_hears_of(bench: Bench) -> None:
    provider = ScriptedProvider(waits_for(asyncio.Event()))
    mine, other = await bench.accept(), await bench.accept()
    async with worker(bench, bench.execution(provider), provider) as held:
        await until(lambda: provider.running == 2, within_s=5)
        await ask(bench, mine.id)
        held.pool.cancel(["01ARZ3NDEKTSV4RRFFQ69G5FAV", mine.id])
        await cancelled(bench, mine.id)
        assert (await bench.task(other.id)).state is TaskState.PROCESSING
        assert provider.running == 1


async def test_the_pool_finds_the_cancels_that_it_did_not_hear_of(bench: Bench) -> None:
    provider = ScriptedProvider(waits_for(asyncio.Event()))
    accepted = await bench.accept()
    async with worker(bench, bench.execution(provider), provider, lease_s=0.3):
        await until(lambda: provider.running, within_s=5)
        await ask(bench, accepted.id)
        await cancelled(bench, accepted.id)

"""Store, outputs or Redis away at any moment of an attempt: what was made is held, nothing is sent twice."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from server.domain import purchases
from server.domain.errors import Reason
from server.domain.task import TaskState
from server.providers.contract import Generation, Progress
from tests.fakes_store import make_task
from tests.integration.worker.bench import ME, Bench, refused
from tests.integration.worker.scripted import (
    ScriptedProvider,
    made,
    makes_all,
    raises,
    refusal,
    waits_for,
)
from tests.waiting import until, until_async

# --- the store ---------------------------------------------------------------------------------------


async def test_without_the_store_a_claimed_task_waits(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    await bench.accept()
    claimed = await bench.claim()
    bench.store_faults.away = True
    work = bench.start(bench.execution(provider), claimed)
    await refused(bench.store_faults, "get")
    bench.store_faults.wake()
    await work
    assert (await bench.task(claimed.task_id)).state is TaskState.COMPLETED


async def test_nothing_is_sent_before_the_mark_is_in_the_store(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    await bench.accept()
    claimed = await bench.claim()
    bench.store_faults.failing.add("write")
    work = bench.start(bench.execution(provider), claimed)
    await refused(bench.store_faults, "write")
    assert provider.calls == []
    bench.store_faults.wake()
    await work
    assert (await bench.task(claimed.task_id)).state is TaskState.COMPLETED
    assert len(provider.calls) == 1


@pytest.mark.parametrize("held_up", ["before the mark", "at the mark"])
async def test_nothing_is_bought_when_the_ttl_has_ended_while_a_store_was_away(
    bench: Bench, held_up: str
) -> None:
    provider = ScriptedProvider(makes_all, paid=True)
    await bench.outputs.put("reference", b"bytes", mime_type="image/png")
    request = replace(make_task("any").request, references=("reference",))
    accepted = await bench.accept(ttl_ms=60_000, request=request)
    faults, method = (
        (bench.output_faults, "get") if held_up == "before the mark" else (bench.store_faults, "write")
    )
    faults.failing.add(method)
    work = bench.start(bench.execution(provider), await bench.claim())
    await refused(faults, method)
    bench.time_shift_ms = 60_000
    faults.wake()
    await work
    if held_up == "at the mark":  # it is in the store by now, and taken back
        assert await bench.place(accepted.id) == "ready"
        await bench.run(bench.execution(provider))
    task = await bench.task(accepted.id)
    assert task.error is not None
    assert (task.state, task.error.reason) == (TaskState.FAILED, Reason.TASK_EXPIRED)
    assert (provider.calls, purchases.paid_or_open_calls(task)) == ([], 0)
    begun = [attempt.error.reason for attempt in task.attempts.values() if attempt.error is not None]
    assert begun == [Reason.TASK_EXPIRED] * (held_up == "at the mark")


async def test_a_result_is_held_until_the_store_is_back(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on), paid=True)
    accepted = await bench.accept(max_paid_attempts=1)
    work = bench.start(bench.execution(provider), await bench.claim())
    await until(lambda: provider.running, within_s=5)
    bench.store_faults.away = True
    go_on.set()
    await refused(bench.store_faults, "write")
    assert (await bench.task(accepted.id)).state is TaskState.PROCESSING
    bench.store_faults.wake()
    await work
    task = await bench.task(accepted.id)
    assert (task.state, task.attempt, len(provider.calls)) == (TaskState.COMPLETED, 1, 1)
    assert await bench.place(accepted.id) == "gone"


async def test_a_failure_is_held_too(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on, raises(refusal(retryable=False))))
    accepted = await bench.accept()
    work = bench.start(bench.execution(provider), await bench.claim())
    await until(lambda: provider.running, within_s=5)
    bench.store_faults.away = True
    go_on.set()
    await refused(bench.store_faults, "write")
    bench.store_faults.wake()
    await work
    assert (await bench.task(accepted.id)).state is TaskState.FAILED


async def test_a_sequence_goes_on_where_the_store_went_away(bench: Bench) -> None:
    """The provider's time stands still meanwhile."""

    async def script(generation: Generation, progress: Progress) -> None:
        await progress(made(0))
        bench.store_faults.away = True
        await progress(made(1))
        await progress(made(2))

    accepted = await bench.accept(images=3)
    work = bench.start(bench.execution(ScriptedProvider(script), image_timeout_s=0.25), await bench.claim())
    await until(lambda: bench.store_faults.away, within_s=5)
    await refused(bench.store_faults, "write", times=3)  # 0.1 s and 0.2 s apart: longer than the timeout
    bench.store_faults.wake()
    await work
    task = await bench.task(accepted.id)
    assert (task.state, sorted(task.images), task.attempt) == (TaskState.COMPLETED, [0, 1, 2], 1)


async def test_a_mark_whose_answer_was_lost_is_still_mine(bench: Bench) -> None:
    """With one paid attempt it must neither end in doubt nor be sent twice."""
    provider = ScriptedProvider(makes_all, paid=True)
    accepted = await bench.accept(max_paid_attempts=1)
    claimed = await bench.claim()
    bench.store_faults.losing.add("write")
    work = bench.start(bench.execution(provider), claimed)
    await refused(bench.store_faults, "write")  # once: it is in the store; twice: the store refuses it
    assert (await bench.task(accepted.id)).attempt == 1
    bench.store_faults.wake()
    await work
    task = await bench.task(accepted.id)
    assert (task.state, task.attempt, len(provider.calls)) == (TaskState.COMPLETED, 1, 1)
    assert bench.stale_writes() == 0


async def test_an_end_whose_answer_was_lost_is_the_end(bench: Bench) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider(waits_for(go_on))
    accepted = await bench.accept()
    execution = bench.execution(provider)
    work = bench.start(execution, await bench.claim())
    await until(lambda: provider.running, within_s=5)
    bench.store_faults.losing.add("write")
    go_on.set()
    await refused(bench.store_faults, "write")
    bench.store_faults.wake()
    await work
    ended = await bench.task(accepted.id)
    assert (ended.state, ended.revision) == (TaskState.COMPLETED, 3)
    if await bench.place(accepted.id) != "gone":  # given back: the next claim finds it over
        assert await bench.run(execution) == ended
    assert await bench.place(accepted.id) == "gone"
    assert len(provider.calls) == 1


async def test_an_image_whose_answer_was_lost_is_there_once(bench: Bench) -> None:
    async def script(generation: Generation, progress: Progress) -> None:
        bench.store_faults.losing.add("write")
        waking = asyncio.create_task(refused(bench.store_faults, "write", times=2))
        waking.add_done_callback(lambda _: bench.store_faults.wake())
        await progress(made(0))
        await waking
        await progress(made(1))

    await bench.accept(images=2)
    task = await bench.run(bench.execution(ScriptedProvider(script)))
    assert (task.state, sorted(task.images)) == (TaskState.COMPLETED, [0, 1])
    assert bench.stale_writes() == 0


# --- outputs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [1, 2])
async def test_an_image_is_held_until_it_is_stored(bench: Bench, images: int) -> None:
    provider = ScriptedProvider(makes_all, paid=True)
    accepted = await bench.accept(images=images, max_paid_attempts=1)
    bench.output_faults.away = True
    work = bench.start(bench.execution(provider, image_timeout_s=0.25), await bench.claim())
    await refused(bench.output_faults, "put", times=3)
    assert (await bench.task(accepted.id)).state is TaskState.PROCESSING
    bench.output_faults.wake()
    await work
    task = await bench.task(accepted.id)
    assert (task.state, len(task.images), len(provider.calls)) == (TaskState.COMPLETED, images, 1)
    for image in task.images.values():
        assert await bench.outputs.get(image.key) is not None


# --- Redis -------------------------------------------------------------------------------------------


async def test_redis_away_at_the_end_is_put_right_by_the_sweep(bench: Bench) -> None:
    accepted = await bench.accept()
    claimed = await bench.claim(lease_ms=1)
    bench.queue_faults.away = True
    await bench.start(bench.execution(ScriptedProvider(makes_all)), claimed)
    assert (await bench.task(accepted.id)).state is TaskState.COMPLETED
    assert await bench.place(accepted.id) == f"leased to {ME}"
    bench.queue_faults.wake()
    sweep = bench.sweep()

    async def gone() -> bool:
        await sweep.step()
        return await bench.place(accepted.id) == "gone"

    await until_async(gone, within_s=5)


async def test_redis_away_in_mid_sequence_is_not_noticed(bench: Bench) -> None:
    async def script(generation: Generation, progress: Progress) -> None:
        bench.queue_faults.away = True
        return await makes_all(generation, progress)

    accepted = await bench.accept(images=3)
    claimed = await bench.claim(lease_ms=1)
    await bench.start(bench.execution(ScriptedProvider(script)), claimed)
    task = await bench.task(accepted.id)
    assert (task.state, sorted(task.images)) == (TaskState.COMPLETED, [0, 1, 2])
    assert bench.queue_faults.calls["announce"] == 3
    sweep = bench.sweep()

    async def gone() -> bool:
        await sweep.step()
        return await bench.place(accepted.id) == "gone"

    await until_async(gone, within_s=5)


async def test_a_retry_that_redis_did_not_take_comes_back(bench: Bench) -> None:
    provider = ScriptedProvider(raises(refusal()), makes_all)
    execution = bench.execution(provider)
    accepted = await bench.accept()
    claimed = await bench.claim(lease_ms=1)
    bench.queue_faults.away = True
    await bench.start(execution, claimed)
    assert (await bench.task(accepted.id)).state is TaskState.PENDING
    bench.queue_faults.wake()
    sweep = bench.sweep()

    async def ready() -> bool:
        await sweep.step()
        return await bench.place(accepted.id) == "ready"

    await until_async(ready, within_s=5)
    assert (await bench.run(execution)).state is TaskState.COMPLETED


async def test_a_task_redis_forgot_is_in_the_queue_again_when_given_back(bench: Bench) -> None:
    accepted = await bench.accept()
    claimed = await bench.claim()
    await bench.flush()
    await bench.start(bench.execution(ScriptedProvider(raises(refusal()))), claimed)
    assert await bench.place(accepted.id) == "ready"

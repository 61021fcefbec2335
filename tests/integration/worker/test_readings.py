"""Between a worker's reading and its write others write: nothing of that is passed over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from server.domain import attempt_writes, life
from server.domain.catalogue import Parameters
from server.domain.errors import Reason
from server.domain.task import AttemptOutcome, Task, TaskState
from server.domain.writes import Write
from server.providers.contract import Generation, Progress, Sent
from server.worker.cancel import Cancel
from tests.integration.worker.bench import ME, OTHER, Bench
from tests.integration.worker.scripted import ScriptedProvider, made, makes_all, refusal
from tests.integration.worker.shop import Shop
from tests.integration.worker.test_takeovers import die_in_mid_call, expire
from tests.waiting import until, until_async


async def after_writing_in_between(
    bench: Bench, accepted: Task, shop: Shop, write_of: Callable[[Task], Write]
) -> Task:
    """OTHER, declared lost, is alive after all: it writes between its successor's reading and mark."""
    await die_in_mid_call(bench, accepted, paid=True)
    await bench.store.remove_worker(OTHER)
    await expire(bench)
    bench.output_faults.gates["get"] = gate = asyncio.Event()
    work = bench.start(bench.execution(shop), await bench.claim())
    await until(lambda: bench.output_faults.calls["get"], within_s=5, what="the successor's reading")
    assert await bench.store.write(write_of(await bench.task(accepted.id))), "attempt 1 is still the newest"
    bench.output_faults.gates.clear()
    gate.set()
    await work
    return await bench.task(accepted.id)


@pytest.mark.parametrize("max_paid", [1, 2])
async def test_a_receipt_written_in_between_is_fetched(bench: Bench, max_paid: int) -> None:
    shop = Shop()
    task = await after_writing_in_between(
        bench,
        await bench.accept(max_paid_attempts=max_paid),
        shop,
        lambda seen: attempt_writes.add_receipt(seen, 0, json.dumps([0]), bench.now_ms()),
    )
    assert task.state is TaskState.COMPLETED
    assert shop.sold[0] == 0, "bought again"


async def test_a_cancel_written_in_between_is_heard(bench: Bench) -> None:
    shop = Shop()
    task = await after_writing_in_between(
        bench,
        await bench.accept(max_paid_attempts=2),
        shop,
        lambda seen: life.request_cancel(seen, bench.now_ms()),
    )
    assert (task.state, shop.sold[0]) == (TaskState.CANCELLED, 0)


async def test_an_image_written_in_between_is_kept(bench: Bench) -> None:
    shop = Shop()
    accepted = await bench.accept(images=2, max_paid_attempts=2)
    image = await bench.keep(made(0), task_id=accepted.id, attempt=1)
    task = await after_writing_in_between(
        bench, accepted, shop, lambda seen: attempt_writes.add_image(seen, image, bench.now_ms())
    )
    assert task.images[0] == image, "callers have seen it"
    assert (task.state, shop.sold[0], shop.sold[1]) == (TaskState.COMPLETED, 0, 1)


async def test_a_cancel_does_not_disturb_what_the_worker_still_writes(bench: Bench) -> None:
    """The worker has not heard of it yet: its next write is about an older revision, and still its own."""
    shop = Shop()
    shop.selling.clear()
    accepted = await bench.accept(max_paid_attempts=1)
    work = bench.start(bench.execution(shop), await bench.claim())
    await until(lambda: shop.sold[0], within_s=5, what="a purchase")
    assert await bench.store.write(life.request_cancel(await bench.task(accepted.id), bench.now_ms()))
    shop.selling.set()
    await work
    task = await bench.task(accepted.id)
    assert task.attempts[1].calls[0].receipt
    assert (task.state, len(task.images)) == (TaskState.COMPLETED, 1), "it had not heard of the cancel"


# --- a stop in the middle of a write ---------------------------------------------------------------------


async def stop(work: asyncio.Task[None]) -> None:
    work.cancel()
    await asyncio.wait({work})


async def fetched_by_the_next(bench: Bench, shop: Shop, task_id: str) -> None:
    task = await bench.task(task_id)
    assert (task.state, task.attempts[1].outcome) == (TaskState.PENDING, AttemptOutcome.IN_DOUBT)
    shop.delivering.set()
    task = await bench.run(bench.execution(shop))
    assert (task.state, shop.sold[0]) == (TaskState.COMPLETED, 1)


async def test_a_stop_while_a_receipt_is_written_loses_none(bench: Bench) -> None:
    shop = Shop()
    shop.delivering.clear()
    shop.selling.clear()
    accepted = await bench.accept(max_paid_attempts=1)
    work = bench.start(bench.execution(shop), await bench.claim())
    await until(lambda: shop.sold[0], within_s=5, what="a purchase")
    written = bench.store_faults.done["write"]
    bench.store_faults.late["write"] = asyncio.Event()
    shop.selling.set()
    await until(lambda: bench.store_faults.done["write"] > written, within_s=5, what="a receipt, unanswered")
    bench.store_faults.late.clear()
    await stop(work)
    await fetched_by_the_next(bench, shop, accepted.id)


async def test_a_stop_while_the_store_is_away_brings_the_receipt_along(bench: Bench) -> None:
    shop = Shop()
    shop.delivering.clear()
    shop.selling.clear()
    accepted = await bench.accept(max_paid_attempts=1)
    work = bench.start(bench.execution(shop), await bench.claim())
    await until(lambda: shop.sold[0], within_s=5, what="a purchase")
    bench.store_faults.failing.add("write")
    tries = bench.store_faults.calls["write"]
    shop.selling.set()
    await until(lambda: bench.store_faults.calls["write"] > tries, within_s=5, what="a refused receipt")
    bench.store_faults.failing.clear()  # it is back in the moment in which the grace ends
    await stop(work)
    await fetched_by_the_next(bench, shop, accepted.id)


async def test_what_is_given_back_and_was_bought_is_in_doubt(bench: Bench) -> None:
    shop = Shop()
    shop.delivering.clear()
    accepted = await bench.accept(max_paid_attempts=1)
    work = bench.start(bench.execution(shop), await bench.claim())

    async def noted() -> bool:
        calls = (await bench.task(accepted.id)).attempts[1].calls
        return bool(calls) and bool(calls[0].receipt)

    await until(lambda: shop.sold[0], within_s=5, what="a purchase")
    await until_async(noted, within_s=5, what="its receipt")
    await stop(work)
    await fetched_by_the_next(bench, shop, accepted.id)


@pytest.mark.parametrize("landed", [False, True])
async def test_a_stop_while_a_purchase_is_written_down_buys_nothing(bench: Bench, landed: bool) -> None:
    """The second call of a sequence without groups: its row may be in the store, but it was not sent."""
    asked: list[tuple[int, ...]] = []
    first_is_made = asyncio.Event()

    async def script(generation: Generation, progress: Progress) -> None:
        asked.append(generation.indexes)
        await makes_all(generation, progress)
        faults.clear()
        if landed:
            bench.store_faults.late["write"] = asyncio.Event()
        else:
            bench.store_faults.gates["write"] = asyncio.Event()
        before.append((bench.store_faults.calls["write"], bench.store_faults.done["write"]))
        first_is_made.set()

    faults, before = bench.store_faults.late, list[tuple[int, int]]()
    accepted = await bench.accept(images=2, max_paid_attempts=1)
    execution = bench.execution(ScriptedProvider(script, paid=True), parameters=Parameters())
    work = bench.start(execution, await bench.claim())
    await first_is_made.wait()
    ((calls, done),) = before
    if landed:
        await until(lambda: bench.store_faults.done["write"] > done, within_s=5, what="a row, unanswered")
    else:
        await until(lambda: bench.store_faults.calls["write"] > calls, within_s=5, what="a row on its way")
    bench.store_faults.late.clear()
    bench.store_faults.gates.clear()
    await stop(work)
    task = await bench.task(accepted.id)
    assert (asked, task.state) == ([(0,)], TaskState.PENDING)
    assert [call.indexes for call in task.attempts[1].calls.values()] == [(0,)]
    task = await bench.run(bench.execution(ScriptedProvider(makes_all, paid=True), parameters=Parameters()))
    assert (task.state, sorted(task.images)) == (TaskState.COMPLETED, [0, 1])


@pytest.mark.parametrize("landed", [False, True])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_refusal_is_kept_when_the_attempt_ends_while_it_is_written(
    bench: Bench, landed: bool, cancelled: bool
) -> None:
    """Of a sequence without groups: the refused call is gone, and no part of it comes back."""

    async def script(generation: Generation, progress: Progress) -> None:
        (bench.store_faults.late if landed else bench.store_faults.gates)["write"] = asyncio.Event()
        before.append((bench.store_faults.calls["write"], bench.store_faults.done["write"]))
        raise refusal(sent=Sent.REJECTED, reason=Reason.CONTENT_POLICY_INPUT, retryable=False)

    before: list[tuple[int, int]] = []
    accepted = await bench.accept(images=2, max_paid_attempts=1)
    execution = bench.execution(ScriptedProvider(script, paid=True), parameters=Parameters())
    cancel = Cancel()
    work = bench.start(execution, await bench.claim(), cancel=cancel)
    await until(lambda: before, within_s=5, what="a refusal")
    ((calls, done),) = before
    if landed:
        await until(lambda: bench.store_faults.done["write"] > done, within_s=5, what="it, unanswered")
    else:
        await until(lambda: bench.store_faults.calls["write"] > calls, within_s=5, what="it on its way")
    bench.store_faults.late.clear()
    bench.store_faults.gates.clear()
    if cancelled:
        cancel.ask()
        await work
    else:
        await stop(work)
    task = await bench.task(accepted.id)
    assert task.state is (TaskState.CANCELLED if cancelled else TaskState.PENDING)
    assert task.attempts[1].calls == {}
    assert [(i, failed.reason) for i, failed in task.failures.items()] == [(0, Reason.CONTENT_POLICY_INPUT)]


# --- time ------------------------------------------------------------------------------------------------


async def test_each_purchase_has_the_whole_time(bench: Bench) -> None:
    """Three calls, which together take longer than IMAGE_TIMEOUT."""
    asked: list[tuple[int, ...]] = []

    async def script(generation: Generation, progress: Progress) -> None:
        asked.append(generation.indexes)
        await asyncio.sleep(0.4)  # the vendor's work
        return await makes_all(generation, progress)

    await bench.accept(images=3, max_paid_attempts=1)
    execution = bench.execution(
        ScriptedProvider(script, paid=True), image_timeout_s=1.0, parameters=Parameters()
    )
    task = await bench.run(execution)
    assert (task.state, asked, task.failures) == (TaskState.COMPLETED, [(0,), (1,), (2,)], {})


# --- late copies -----------------------------------------------------------------------------------------


async def test_no_copy_of_an_attempts_own_writes_takes_place_later(bench: Bench) -> None:
    """A server that stood still gets to what it was sent long ago: a receipt stays what it has become."""
    shop = Shop(names_first=1)
    accepted = await bench.accept(images=3, max_paid_attempts=1)
    execution = bench.execution(shop)
    sent: list[Write] = []
    keep = bench.store.write

    async def noted(write: Write) -> bool:
        sent.append(write)
        return await keep(write)

    bench.store.write = noted  # type: ignore[method-assign]
    task = await bench.run(execution)
    assert task.state is TaskState.COMPLETED
    assert len(sent) > 4
    for late in sent:
        assert late.state is not TaskState.PROCESSING or late.revision is not None or "state" in late.set
        assert not await keep(replace(late)), "it took place twice"
    assert await bench.task(accepted.id) == task
    assert task.attempts[1].worker == ME

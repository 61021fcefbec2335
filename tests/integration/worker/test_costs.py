"""What pictures cost, in the task and in the metrics: once each, whoever dies or writes twice."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

import pytest

from server.domain import costs
from server.domain.errors import Reason
from server.domain.money import Cost, Price
from server.domain.purchases import UNLIKELY_FETCHES, UNLIKELY_FOR_MS
from server.domain.task import Task, TaskState
from server.ports import Entry
from server.providers.contract import Generation, Progress, Sent
from server.worker.cancel import Cancel
from server.worker.execution import Execution
from tests.integration.worker.bench import ME, OTHER, Bench
from tests.integration.worker.scripted import ScriptedProvider, made, makes_all, makes_all_but, refusal
from tests.integration.worker.shop import Shop, lost_delivery
from tests.waiting import until, until_async

PRICE = Price(currency="CNY", micros_per_image=250_000)


def at_price(bench: Bench, shop: Shop | ScriptedProvider) -> Execution:
    return bench.execution(shop, price=PRICE)


def counted(bench: Bench) -> float:
    """The metric's total in whole units."""
    return bench.count("imagegen_cost_total", provider="local", model="local-canvas", currency="CNY")


def spent(task: Task) -> Mapping[int, Cost | None]:
    """By attempt."""
    return costs.by_attempt(task)


def cny(micros: int) -> Cost:
    return Cost(currency="CNY", amount_micros=micros)


@pytest.mark.parametrize("groups", [True, False])
@pytest.mark.parametrize("images", [1, 3])
async def test_price_times_pictures(bench: Bench, images: int, groups: bool) -> None:
    await bench.accept(images=images, max_paid_attempts=1)
    task = await bench.run(at_price(bench, Shop(groups=groups)))
    assert task.state is TaskState.COMPLETED
    assert task.attempts[1].price == PRICE
    assert spent(task) == {1: cny(images * 250_000)}
    assert counted(bench) == images * 0.25


async def test_a_refused_picture_costs_nothing(bench: Bench) -> None:
    await bench.accept(images=3)
    provider = ScriptedProvider(makes_all_but(1), paid=True)
    task = await bench.run(at_price(bench, provider))
    assert (spent(task), counted(bench)) == ({1: cny(500_000)}, 0.5)


async def test_a_refused_call_costs_nothing(bench: Bench) -> None:
    await bench.accept()
    shop = Shop(refuses=deque([refusal(retryable=False)]))
    task = await bench.run(at_price(bench, shop))
    assert task.state is TaskState.FAILED
    assert (spent(task), counted(bench)) == ({}, 0)


async def test_without_a_price_nothing_is_known(bench: Bench) -> None:
    await bench.accept()
    task = await bench.run(bench.execution(Shop()))
    assert task.state is TaskState.COMPLETED
    assert (task.attempts[1].price, spent(task), counted(bench)) == (None, {1: None}, 0)


async def test_what_could_never_be_fetched_was_paid_all_the_same(bench: Bench) -> None:
    await bench.accept(ttl_ms=3_600_000)
    shop = Shop(fails_to_deliver=deque([lost_delivery(retryable=False)]))
    task = await bench.run(at_price(bench, shop))
    assert task.state is TaskState.FAILED
    assert spent(task) == {1: cny(250_000)}


async def test_what_came_and_is_no_picture_was_paid_all_the_same(bench: Bench) -> None:
    await bench.accept()
    refused = [lost_delivery(unlikely=True) for _ in range(UNLIKELY_FETCHES)]
    shop = Shop(fails_to_deliver=deque(refused), picture=b"<html>sorry</html>")
    execution = at_price(bench, shop)
    for _ in refused:
        await bench.run(execution)
    bench.time_shift_ms = UNLIKELY_FOR_MS
    task = await bench.run(execution)
    assert (task.state, shop.sold) == (TaskState.FAILED, {0: 1})
    assert task.error is not None
    assert task.error.reason is Reason.OUTPUT_FETCH_FAILED
    assert spent(task) == {1: cny(250_000)}


async def test_a_picture_whose_write_a_cancel_interrupts_is_counted_once(bench: Bench) -> None:
    """The write took place, and its answer has not come: the end brings the picture along."""
    late, writes_before = asyncio.Event(), list[int]()

    async def script(generation: Generation, progress: Progress) -> None:
        await progress(made(0))
        writes_before.append(bench.store_faults.done["write"])
        bench.store_faults.late["write"] = late
        await progress(made(1))

    accepted, cancel = await bench.accept(images=3), Cancel()
    execution = at_price(bench, ScriptedProvider(script, paid=True))
    work = bench.start(execution, await bench.claim(), cancel=cancel)
    await until(lambda: writes_before and bench.store_faults.done["write"] > writes_before[0], within_s=5)
    del bench.store_faults.late["write"]
    cancel.ask()
    await work
    late.set()
    task = await bench.task(accepted.id)
    assert (task.state, sorted(task.images)) == (TaskState.CANCELLED, [0, 1])
    assert (spent(task), counted(bench)) == ({1: cny(500_000)}, 0.5)


async def bought_by_other(bench: Bench, shop: Shop, images: int) -> Task:
    """A task that OTHER has bought and not fetched, and that waits for somebody to take it over."""
    shop.delivering.clear()
    await bench.store.register_worker(OTHER, host="h", pid=1)
    accepted = await bench.accept(images=images, max_paid_attempts=1)
    bench.start(at_price(bench, shop), await bench.claim(worker=OTHER), worker=OTHER)

    async def receipt() -> bool:
        task = await bench.task(accepted.id)
        return task.attempt == 1 and any(call.receipt for call in task.attempts[1].calls.values())

    await until_async(receipt, within_s=5, what="the receipt")
    await bench.store.remove_worker(OTHER)
    await bench.flush()
    await bench.queue.enqueue([Entry.of(accepted)])
    return accepted


@pytest.mark.parametrize("images", [1, 3])
async def test_an_overtaken_worker_that_delivers_as_well_counts_nothing_twice(
    bench: Bench, images: int
) -> None:
    """Both fetch what the first one bought; the store refuses the writes of the overtaken one."""
    shop = Shop()
    accepted = await bought_by_other(bench, shop, images)
    mine = bench.start(at_price(bench, shop), await bench.claim(worker=ME))

    async def taken_over() -> bool:
        return (await bench.task(accepted.id)).attempt == 2

    await until_async(taken_over, within_s=5, what="the second attempt")
    shop.delivering.set()
    await mine
    await until(lambda: bench.stale_writes() == 1, within_s=5, what="the refused write")
    task = await bench.task(accepted.id)
    assert (task.state, set(shop.fetched.values())) == (TaskState.COMPLETED, {2} if images == 1 else {1, 2})
    assert spent(task) == {1: cny(images * 250_000)}, "by whom it was bought"
    assert counted(bench) == images * 0.25

    async def gone() -> bool:
        place = await bench.place(accepted.id)
        if place == "ready":  # given back by the one who was refused; who claims it takes it out
            await bench.start(at_price(bench, shop), await bench.claim(worker=ME))
        return place == "gone"

    await until_async(gone, within_s=5, what="an empty queue")


async def test_the_second_call_alone_is_known_to_cost(bench: Bench) -> None:
    lost = refusal(sent=Sent.IN_DOUBT)
    shop = Shop(loses=deque([lost]))
    accepted = await bench.accept(max_paid_attempts=2)
    await bench.run(at_price(bench, shop))
    task = await bench.run(at_price(bench, shop))
    assert task.id == accepted.id
    assert (task.state, shop.sold) == (TaskState.COMPLETED, {0: 2})
    assert (spent(task), counted(bench)) == ({2: cny(250_000)}, 0.25)


async def test_what_is_free_counts_as_nothing(bench: Bench) -> None:
    await bench.accept()
    free = Price(currency="CNY", micros_per_image=0)
    task = await bench.run(bench.execution(ScriptedProvider(makes_all), price=free))
    assert (spent(task), counted(bench)) == ({1: cny(0)}, 0)
    series = {"provider": "local", "model": "local-canvas", "currency": "CNY"}
    assert bench.metrics.registry.get_sample_value("imagegen_cost_total", series) == 0

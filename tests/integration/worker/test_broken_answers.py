"""An answer that names its images one by one and breaks off: what it named is ours, the rest is in doubt."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from server.domain import purchases
from server.domain.errors import Reason
from server.domain.task import AttemptOutcome, CallState, Task, TaskState
from server.providers.contract import ProviderError, Sent
from tests.integration.worker.bench import Bench
from tests.integration.worker.scripted import refusal
from tests.integration.worker.shop import Shop, lost_delivery
from tests.integration.worker.test_purchases import held_by_other, killed, with_receipt


def broken_off(sent: Sent = Sent.IN_DOUBT) -> ProviderError:
    return refusal(sent=sent)


def assert_rest(task: Task, shop: Shop, max_paid: int) -> None:
    """The two that were named were bought once; the others as often as the caller permits."""
    assert task.state is TaskState.COMPLETED
    assert {index: shop.sold[index] for index in range(4)} == {0: 1, 1: 1, 2: max_paid, 3: max_paid}
    assert purchases.paid_or_open_calls(task) == max_paid
    if max_paid == 1:
        assert sorted(task.images) == [0, 1]
        assert {index: error.reason for index, error in task.failures.items()} == {
            2: Reason.OUTCOME_UNKNOWN,
            3: Reason.OUTCOME_UNKNOWN,
        }
    else:
        assert (sorted(task.images), task.failures) == ([0, 1, 2, 3], {})


@pytest.mark.parametrize("max_paid", [1, 2])
async def test_what_came_is_kept_and_only_the_rest_is_bought_again(bench: Bench, max_paid: int) -> None:
    shop = Shop(names_first=2, breaks_off=deque([broken_off()]))
    execution = bench.execution(shop)
    accepted = await bench.accept(images=4, max_paid_attempts=max_paid)
    task = await bench.run(execution)
    assert sorted(task.images) == [0, 1]
    [call] = task.attempts[1].calls.values()
    assert (call.state, call.so_far) == (CallState.DONE, (0, 1)), "charged, for two of them surely"
    if max_paid > 1:
        assert (task.state, task.attempts[1].outcome) == (TaskState.PENDING, AttemptOutcome.IN_DOUBT)
        shop.names_first = 0
        task = await bench.run(execution)
    assert_rest(await bench.task(accepted.id), shop, max_paid)


@pytest.mark.parametrize("max_paid", [1, 2])
async def test_a_worker_lost_between_a_name_and_its_image_costs_only_the_rest(
    bench: Bench, max_paid: int
) -> None:
    shop = Shop(names_first=2)
    shop.delivering.clear()
    accepted, work = await held_by_other(bench, shop, images=4, max_paid=max_paid)
    task = await with_receipt(bench, accepted.id)
    assert purchases.open_paid_call(task), "it may still buy more"
    await killed(bench, accepted, work)
    shop.names_first = 0
    shop.delivering.set()
    task = await bench.run(bench.execution(shop))
    assert_rest(task, shop, max_paid)
    assert shop.fetched == dict.fromkeys(task.images, 1)
    assert bench.count("imagegen_results_recovered_total", source="receipt") == 1


async def test_a_stop_in_between_leaves_the_rest_in_doubt(bench: Bench) -> None:
    shop = Shop(names_first=2)
    shop.delivering.clear()
    accepted, work = await held_by_other(bench, shop, images=4, max_paid=2)
    await with_receipt(bench, accepted.id)
    work.cancel()
    await asyncio.wait({work}, timeout=5)
    task = await bench.task(accepted.id)
    assert (task.state, task.attempts[1].outcome) == (TaskState.PENDING, AttemptOutcome.IN_DOUBT)
    shop.names_first = 0
    shop.delivering.set()
    assert_rest(await bench.run(bench.execution(shop)), shop, 2)


async def test_a_named_image_that_cannot_be_fetched_yet_is_fetched_before_the_rest_is_bought(
    bench: Bench,
) -> None:
    shop = Shop(names_first=2, fails_to_deliver=deque([lost_delivery(), lost_delivery()]))
    execution = bench.execution(shop)
    await bench.accept(images=4, max_paid_attempts=2)
    for _ in range(2):
        task = await bench.run(execution)
        assert (task.state, shop.sold[2]) == (TaskState.PENDING, 1)
    shop.names_first = 0
    assert_rest(await bench.run(execution), shop, 2)


async def test_what_was_named_is_fetched_however_late_and_nothing_is_bought_after_the_ttl(
    bench: Bench,
) -> None:
    shop = Shop(names_first=2, fails_to_deliver=deque([lost_delivery()]))
    execution = bench.execution(shop)
    await bench.accept(images=4, max_paid_attempts=2)
    assert (await bench.run(execution)).state is TaskState.PENDING
    bench.time_shift_ms = 7 * 86_400_000
    task = await bench.run(execution)
    assert (task.state, sorted(task.images)) == (TaskState.COMPLETED, [0, 1])
    assert {index: error.reason for index, error in task.failures.items()} == {
        2: Reason.TASK_EXPIRED,
        3: Reason.TASK_EXPIRED,
    }
    assert set(shop.sold.values()) == {1}


async def test_a_refusal_of_the_rest_takes_nothing_back(bench: Bench) -> None:
    """The provider's own words: what it named is charged, so the call stands; the rest fails with it."""
    forbidden = refusal(reason=Reason.CONTENT_POLICY_INPUT, retryable=False)
    shop = Shop(names_first=2, breaks_off=deque([forbidden]))
    await bench.accept(images=4, max_paid_attempts=1)
    task = await bench.run(bench.execution(shop))
    assert (task.state, sorted(task.images)) == (TaskState.COMPLETED, [0, 1])
    assert {error.reason for error in task.failures.values()} == {Reason.CONTENT_POLICY_INPUT}
    assert [call.state for call in task.attempts[1].calls.values()] == [CallState.DONE]
    assert bench.count("imagegen_paid_calls_total", provider="local", end="charged") == 1

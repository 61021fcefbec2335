"""An answer that names its images one by one and breaks off: what it named is ours, the rest is in doubt."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from server.domain import purchases
from server.domain.errors import Reason, TaskError
from server.domain.task import AttemptOutcome, CallState, Task, TaskState
from server.providers.contract import Generation, ImageFailed, Progress, ProviderError, Receipt, Sent
from tests.integration.worker.bench import Bench
from tests.integration.worker.scripted import ScriptedProvider, refusal
from tests.integration.worker.shop import Shop, lost_delivery
from tests.integration.worker.test_purchases import held_by_other, killed, with_receipt
from tests.waiting import until


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


async def test_named_images_that_cannot_be_fetched_yet_hold_up_no_purchase(bench: Bench) -> None:
    shop = Shop(names_first=2, fails_to_deliver=deque([lost_delivery(), lost_delivery()]))
    execution = bench.execution(shop)
    await bench.accept(images=4, max_paid_attempts=2)
    task = await bench.run(execution)
    assert (task.state, task.images, shop.sold[2]) == (TaskState.PENDING, {}, 1)
    shop.names_first = 0
    task = await bench.run(execution)
    assert (task.state, sorted(task.images), shop.sold[2]) == (TaskState.PENDING, [2, 3], 2)
    assert task.counts.fetches == 1
    assert_rest(await bench.run(execution), shop, 2)


@pytest.mark.parametrize("retryable", [True, False])
async def test_what_cannot_be_bought_takes_along_nothing_that_can_be_fetched(
    bench: Bench, retryable: bool
) -> None:
    """Two are bought and cannot be fetched yet; the call for the others is refused for good."""
    refused = refusal(reason=Reason.CONTENT_POLICY_INPUT, retryable=retryable)
    shop = Shop(names_first=2, fails_to_deliver=deque([lost_delivery(), lost_delivery()]))
    execution = bench.execution(shop, max_retries=0)
    await bench.accept(images=4, max_paid_attempts=2)
    await bench.run(execution)
    shop.refuses.append(refused)
    task = await bench.run(execution)
    assert (task.state, task.images) == (TaskState.PENDING, {})
    assert {i: why.reason for i, why in task.failures.items()} == dict.fromkeys([2, 3], refused.reason)
    task = await bench.run(execution)
    assert (task.state, sorted(task.images), sorted(task.failures)) == (TaskState.COMPLETED, [0, 1], [2, 3])
    assert shop.sold == {0: 1, 1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("hopeless", [lost_delivery(retryable=False), lost_delivery(unlikely=True)])
async def test_the_receipt_with_the_most_hope_decides(bench: Bench, hopeless: ProviderError) -> None:
    """The newer receipt's storage is away, the older one's link is dead: the former is waited for."""
    shop = Shop(names_first=2, fails_to_deliver=deque([lost_delivery(), hopeless, lost_delivery()]))
    execution = bench.execution(shop)
    accepted = await bench.accept(images=4, max_paid_attempts=2)
    await bench.run(execution)  # two are named, and cannot be fetched
    shop.names_first = 0
    await bench.run(execution)  # they still cannot, and the others are bought, and cannot either
    assert set(shop.sold.values()) == {1, 2}
    shop.fails_to_deliver.extend([lost_delivery(), hopeless])
    bench.time_shift_ms = purchases.UNLIKELY_FOR_MS
    task = await bench.run(execution)
    assert (task.state, shop.fails_to_deliver) == (TaskState.PENDING, deque())
    task = await bench.run(execution)
    assert (task.id, task.state, sorted(task.images)) == (accepted.id, TaskState.COMPLETED, [0, 1, 2, 3])


async def test_fetches_that_hang_hold_up_no_purchase(bench: Bench) -> None:
    shop = Shop(names_first=2, breaks_off=deque([broken_off()]), fails_to_deliver=deque([lost_delivery()]))
    execution = bench.execution(shop, image_timeout_s=0.3)
    await bench.accept(images=4, max_paid_attempts=2)
    await bench.run(execution)
    shop.names_first = 0
    shop.delivering.clear()
    task = await bench.run(execution)
    assert (shop.sold[2], task.attempts[2].error is not None) == (2, True)
    assert task.attempts[2].error is not None
    assert task.attempts[2].error.reason is Reason.OUTPUT_FETCH_FAILED
    shop.delivering.set()
    assert_rest(await bench.run(execution), shop, 2)


@pytest.mark.parametrize("first", ["receipt", "failure"])
async def test_a_stop_while_several_things_are_written_down_loses_none(bench: Bench, first: str) -> None:
    """A receipt and a failure are on their way to the store at once, in either order; then comes the stop."""
    told = asyncio.Event()

    class Group(ScriptedProvider):
        async def generate(
            self,
            generation: Generation,
            *,
            timeout_s: float,
            progress: Progress,
            receipt: Receipt,
            resume: str = "",
        ) -> None:
            async def whole() -> None:
                await receipt("all that was made")

            async def refused() -> None:
                why = TaskError(reason=Reason.CONTENT_POLICY_OUTPUT, message="This image was refused.")
                await progress(ImageFailed(index=1, error=why))

            self.calls.append(generation)
            bench.store_faults.gates["write"] = asyncio.Event()
            steps = (whole, refused) if first == "receipt" else (refused, whole)
            async with asyncio.TaskGroup() as group:
                for step in steps:
                    group.create_task(step())
                told.set()

    provider = Group(paid=True)
    accepted = await bench.accept(images=3, max_paid_attempts=2)
    work = bench.start(bench.execution(provider), await bench.claim())
    await told.wait()
    await until(lambda: bench.store_faults.calls["write"] >= 2, within_s=5, what="the mark and one more")
    gate = bench.store_faults.gates.pop("write")
    work.cancel()
    await asyncio.wait({work}, timeout=5)
    gate.set()
    task = await bench.task(accepted.id)
    [call] = task.attempts[1].calls.values()
    assert (call.receipt, call.state) == ("all that was made", CallState.DONE)
    assert list(task.failures) == [1]
    assert [step.receipt for step in purchases.plan(task, groups=True)] == [call.receipt], (
        "nothing is for sale"
    )


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
    """What the provider named is charged, so the call stands; the rest fails with its words."""
    forbidden = refusal(reason=Reason.CONTENT_POLICY_INPUT, retryable=False)
    shop = Shop(names_first=2, breaks_off=deque([forbidden]))
    await bench.accept(images=4, max_paid_attempts=1)
    task = await bench.run(bench.execution(shop))
    assert (task.state, sorted(task.images)) == (TaskState.COMPLETED, [0, 1])
    assert {error.reason for error in task.failures.values()} == {Reason.CONTENT_POLICY_INPUT}
    assert [call.state for call in task.attempts[1].calls.values()] == [CallState.DONE]
    assert bench.count("imagegen_paid_calls_total", provider="local", end="in_doubt") == 1

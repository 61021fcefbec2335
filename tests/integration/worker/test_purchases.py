"""Money: what was bought is fetched, however often that takes, and never bought again."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from server.domain import purchases
from server.domain.errors import Reason
from server.domain.task import AttemptOutcome, CallState, Counts, Task, TaskState
from server.ports import Entry
from server.providers.contract import Sent
from server.store.outputs import result_key
from tests.integration.worker.bench import ME, OTHER, Bench
from tests.integration.worker.scripted import refusal
from tests.integration.worker.shop import Shop, lost_delivery
from tests.waiting import until, until_async


async def killed(bench: Bench, task: Task, work: asyncio.Task[None]) -> None:
    """OTHER is gone without a word: nothing of it reaches the stores any more, and they know."""
    bench.store_faults.away = bench.queue_faults.away = bench.output_faults.away = True
    work.cancel()
    await asyncio.wait({work}, timeout=5)
    for faults in (bench.store_faults, bench.queue_faults, bench.output_faults):
        faults.wake()
    await bench.store.remove_worker(OTHER)
    await bench.flush()
    await bench.queue.enqueue([Entry.of(task)])


async def held_by_other(
    bench: Bench, shop: Shop, *, images: int = 1, max_paid: int = 1
) -> tuple[Task, asyncio.Task[None]]:
    """A task that OTHER is making."""
    await bench.store.register_worker(OTHER, host="h", pid=1)
    accepted = await bench.accept(images=images, max_paid_attempts=max_paid)
    work = bench.start(bench.execution(shop), await bench.claim(worker=OTHER), worker=OTHER)
    await until(lambda: shop.sold, within_s=5, what="the sale")
    return accepted, work


async def with_receipt(bench: Bench, task_id: str) -> Task:
    """The task once its receipt is stored."""

    async def there() -> Task | None:
        task = await bench.task(task_id)
        calls = task.attempts[task.attempt].calls.values()
        return task if any(call.receipt for call in calls) else None

    task = await until_async(there, within_s=5, what="the receipt")
    assert task is not None
    return task


# --- receipts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [1, 3])
async def test_the_receipt_is_stored_before_anything_is_fetched(bench: Bench, images: int) -> None:
    shop = Shop()
    shop.delivering.clear()
    accepted, work = await held_by_other(bench, shop, images=images)
    task = await with_receipt(bench, accepted.id)
    [call] = task.attempts[1].calls.values()
    assert (call.state, call.paid, shop.fetched) == (CallState.DONE, True, {})
    shop.delivering.set()
    await work
    task = await bench.task(accepted.id)
    assert (task.state, len(task.images)) == (TaskState.COMPLETED, images)
    assert bench.count("imagegen_paid_calls_total", provider="local", end="charged") == 1


@pytest.mark.parametrize("max_paid", [1, 2])
@pytest.mark.parametrize("images", [1, 3])
async def test_a_worker_lost_after_its_receipt_costs_nothing(
    bench: Bench, max_paid: int, images: int
) -> None:
    shop = Shop()
    shop.delivering.clear()
    accepted, work = await held_by_other(bench, shop, images=images, max_paid=max_paid)
    await with_receipt(bench, accepted.id)
    await killed(bench, accepted, work)
    shop.delivering.set()
    task = await bench.run(bench.execution(shop))
    assert (task.state, sorted(task.images)) == (TaskState.COMPLETED, list(range(images)))
    assert set(shop.sold.values()) == {1}, "bought once"
    first, second = task.attempts.values()
    assert (first.outcome, first.paid) == (AttemptOutcome.IN_DOUBT, True)
    assert (second.outcome, second.calls) == (AttemptOutcome.SUCCEEDED, {})
    assert purchases.paid_or_open_calls(task) == 1
    assert bench.count("imagegen_results_recovered_total", source="receipt") == 1


async def test_what_was_bought_is_fetched_however_late(bench: Bench) -> None:
    """The ttl bounds when something may be bought, not when it may be fetched."""
    shop = Shop()
    shop.delivering.clear()
    accepted, work = await held_by_other(bench, shop)
    await with_receipt(bench, accepted.id)
    await killed(bench, accepted, work)
    bench.time_shift_ms = 7 * 86_400_000
    shop.delivering.set()
    assert (await bench.run(bench.execution(shop))).state is TaskState.COMPLETED
    assert shop.sold == {0: 1}


async def test_a_worker_lost_before_its_receipt_is_in_doubt(bench: Bench) -> None:
    shop = Shop()
    shop.selling.clear()
    accepted, work = await held_by_other(bench, shop)
    await killed(bench, accepted, work)
    task = await bench.run(bench.execution(shop))
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert task.error.reason is Reason.OUTCOME_UNKNOWN
    assert (task.attempts[1].paid, shop.sold) == (False, {0: 1})
    assert bench.count("imagegen_paid_calls_total", provider="local", end="in_doubt") == 1


async def test_a_stop_after_the_receipt_leaves_nothing_in_doubt(bench: Bench) -> None:
    shop = Shop()
    shop.delivering.clear()
    accepted, work = await held_by_other(bench, shop)
    await with_receipt(bench, accepted.id)
    work.cancel()
    await asyncio.wait({work}, timeout=5)
    task = await bench.task(accepted.id)
    assert (task.state, task.counts) == (TaskState.PENDING, Counts())
    shop.delivering.set()
    task = await bench.run(bench.execution(shop))
    assert (task.state, shop.sold) == (TaskState.COMPLETED, {0: 1})


@pytest.mark.parametrize("failures", [1, 5])
async def test_a_failed_fetch_is_repeated_and_buys_nothing(bench: Bench, failures: int) -> None:
    """Time bounds it, and not the number of retries."""
    shop = Shop(fails_to_deliver=deque([lost_delivery() for _ in range(failures)]))
    execution = bench.execution(shop, max_retries=1)
    await bench.accept(max_paid_attempts=1)
    for fetches in range(1, failures + 1):
        task = await bench.run(execution)
        assert (task.state, task.counts) == (TaskState.PENDING, Counts(fetches=fetches))
    task = await bench.run(execution)
    assert (task.state, shop.sold) == (TaskState.COMPLETED, {0: 1})
    assert task.attempts[1].paid
    assert [list(a.calls) for a in task.attempts.values()] == [[0]] + [[]] * failures


@pytest.mark.parametrize("retryable", [True, False])
async def test_a_result_that_cannot_be_fetched_is_told_and_not_bought_again(
    bench: Bench, retryable: bool
) -> None:
    shop = Shop(fails_to_deliver=deque([lost_delivery(retryable=retryable)] * 9))
    execution = bench.execution(shop, max_retries=1)
    await bench.accept(max_paid_attempts=5, ttl_ms=60_000)
    task = await bench.run(execution)
    if retryable:
        bench.time_shift_ms = 3_599_000  # also past the ttl an outage is waited out for an hour
        assert (await bench.run(execution)).state is TaskState.PENDING
        bench.time_shift_ms = 3_601_000
        task = await bench.run(execution)
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert (task.error.reason, shop.sold) == (Reason.OUTPUT_FETCH_FAILED, {0: 1})


@pytest.mark.parametrize("late", [False, True], ids=["before it", "with it"])
async def test_a_timeout_is_no_doubt_where_the_receipt_came(bench: Bench, late: bool) -> None:
    shop = Shop(tells_at_the_end=late)
    held_up = shop.selling if late else shop.delivering
    held_up.clear()
    execution = bench.execution(shop, image_timeout_s=0.2)
    await bench.accept(max_paid_attempts=1)
    task = await bench.run(execution)
    assert (task.state, task.counts) == (TaskState.PENDING, Counts(fetches=1))
    held_up.set()
    assert (await bench.run(execution)).state is TaskState.COMPLETED
    assert shop.sold == {0: 1}


async def test_a_store_that_is_away_holds_the_receipt_and_the_call(bench: Bench) -> None:
    shop = Shop()
    shop.selling.clear()
    accepted, work = await held_by_other(bench, shop)
    bench.store_faults.away = True
    before = bench.store_faults.calls["write"]
    shop.selling.set()
    await until(lambda: bench.store_faults.calls["write"] >= before + 2, within_s=5)
    assert shop.fetched == {}
    bench.store_faults.wake()
    await work
    assert ((await bench.task(accepted.id)).state, shop.sold) == (TaskState.COMPLETED, {0: 1})


@pytest.mark.parametrize("errors", [0, 3])
async def test_what_will_hardly_come_is_fetched_again_for_minutes_and_not_for_an_hour(
    bench: Bench, errors: int
) -> None:
    """A link that is refused, bytes that are no picture: IMAGE_MAX_RETRIES is for other things."""
    bad = lost_delivery(unlikely=True)
    shop = Shop(fails_to_deliver=deque([bad] * 99), refuses=deque([refusal() for _ in range(errors)]))
    execution = bench.execution(shop, max_retries=errors)
    await bench.accept(max_paid_attempts=5)
    for _ in range(errors + 9):
        task = await bench.run(execution)
    assert (task.state, task.counts) == (TaskState.PENDING, Counts(errors=errors, fetches=9, unlikely=9))
    bench.time_shift_ms = purchases.UNLIKELY_FOR_MS
    task = await bench.run(execution)
    assert (task.state, shop.sold) == (TaskState.FAILED, {0: 1})
    assert task.error is not None
    assert task.error.reason is Reason.OUTPUT_FETCH_FAILED


@pytest.mark.parametrize("before", [0, 4])
async def test_what_will_hardly_come_is_asked_for_thrice_however_late(bench: Bench, before: int) -> None:
    """Also when its storage was away before: those failures are others."""
    shop = Shop()
    shop.delivering.clear()
    accepted, work = await held_by_other(bench, shop)
    await with_receipt(bench, accepted.id)
    await killed(bench, accepted, work)
    shop.fails_to_deliver.extend(lost_delivery() for _ in range(before))
    shop.fails_to_deliver.extend(lost_delivery(unlikely=True) for _ in range(3))
    shop.delivering.set()
    execution = bench.execution(shop)
    for _ in range(before):
        await bench.run(execution)
    bench.time_shift_ms = 7 * 86_400_000
    for fetches in (before + 1, before + 2, before + 3):
        task = await bench.run(execution)
        assert (task.state, task.counts.fetches) == (TaskState.PENDING, fetches)
    assert (await bench.run(execution)).state is TaskState.COMPLETED


async def test_a_stop_between_the_note_and_the_end_is_found_by_the_next_claim(bench: Bench) -> None:
    """The attempt was closed in doubt by its own worker, with the picture stored and noted."""
    shop = Shop(gives_receipts=False)
    shop.delivering.clear()
    accepted, work = await held_by_other(bench, shop, max_paid=2)
    late = bench.output_faults.late["put"] = asyncio.Event()
    shop.delivering.set()
    await until(lambda: bench.output_faults.done["put"] >= 1, within_s=5)  # the bytes, answered late
    late.set()
    late = bench.output_faults.late["put"] = asyncio.Event()
    await until(lambda: bench.output_faults.done["put"] >= 2, within_s=5)  # the note
    work.cancel()
    await asyncio.wait({work}, timeout=5)
    late.set()
    del bench.output_faults.late["put"]
    assert (await bench.task(accepted.id)).attempts[1].outcome is AttemptOutcome.IN_DOUBT
    task = await bench.run(bench.execution(shop))
    assert (task.state, shop.sold, task.attempt) == (TaskState.COMPLETED, {0: 1}, 1)


async def test_an_end_whose_answer_was_lost_is_no_stale_write(bench: Bench) -> None:
    shop = Shop()
    shop.delivering.clear()
    accepted, work = await held_by_other(bench, shop)
    await with_receipt(bench, accepted.id)
    bench.store_faults.losing.add("write")  # carried out, and said not to be
    before = bench.store_faults.done["write"]
    shop.delivering.set()
    await until(lambda: bench.store_faults.done["write"] > before, within_s=5)
    bench.store_faults.losing.clear()
    await work
    assert (await bench.task(accepted.id)).state is TaskState.COMPLETED
    assert (bench.stale_writes(), bench.finished(TaskState.COMPLETED)) == (0, 1)
    assert await bench.place(accepted.id) == "gone"


# --- result files ------------------------------------------------------------------------------------


async def test_a_worker_lost_between_the_bytes_and_the_end_has_left_a_note(bench: Bench) -> None:
    """Vendors that send the bytes themselves have no links: the note beside the bytes stands for them."""
    shop = Shop(gives_receipts=False)
    shop.delivering.clear()
    accepted, work = await held_by_other(bench, shop)
    bench.store_faults.away = True  # the end never reaches the store
    before = bench.store_faults.calls["write"]
    shop.delivering.set()
    await until(lambda: bench.store_faults.calls["write"] > before, within_s=5)
    assert await bench.outputs.get(result_key(accepted.id, 1, 0)) is not None
    await killed(bench, accepted, work)

    task = await bench.run(bench.execution(shop))
    assert (task.state, shop.sold, shop.fetched) == (TaskState.COMPLETED, {0: 1}, {0: 1})
    assert task.attempt == 1, "there was nothing left to do"
    assert (task.attempts[1].outcome, task.attempts[1].paid) == (AttemptOutcome.IN_DOUBT, True)
    assert await bench.outputs.get(task.images[0].key) is not None
    assert bench.count("imagegen_results_recovered_total", source="file") == 1


# --- one call per image ------------------------------------------------------------------------------


async def test_a_vendor_without_groups_is_called_once_per_image(bench: Bench) -> None:
    shop = Shop(groups=False)
    await bench.accept(images=3, max_paid_attempts=1)
    task = await bench.run(bench.execution(shop))
    assert (task.state, shop.sold) == (TaskState.COMPLETED, {0: 1, 1: 1, 2: 1})
    calls = task.attempts[1].calls
    assert [(call.state, call.indexes) for call in calls.values()] == [
        (CallState.DONE, (0,)),
        (CallState.DONE, (1,)),
        (CallState.DONE, (2,)),
    ]
    assert bench.count("imagegen_paid_calls_total", provider="local", end="charged") == 3


@pytest.mark.parametrize("max_paid", [1, 2])
async def test_money_is_bounded_per_image(bench: Bench, max_paid: int) -> None:
    """The call for the second image is lost: that image alone may be out of money."""
    shop = Shop(groups=False)
    execution = bench.execution(shop)
    await bench.store.register_worker(OTHER, host="h", pid=1)
    accepted = await bench.accept(images=3, max_paid_attempts=max_paid)
    work = bench.start(execution, await bench.claim(worker=OTHER), worker=OTHER)

    def second_is_sold() -> bool:
        if shop.fetched[0]:
            shop.selling.clear()
        return bool(shop.sold[1])

    shop.delivering.clear()
    await until(lambda: shop.sold[0], within_s=5)
    shop.selling.clear()
    shop.delivering.set()
    await until(second_is_sold, within_s=5)
    await killed(bench, accepted, work)
    shop.selling.set()
    task = await bench.run(execution)
    assert task.state is TaskState.COMPLETED
    assert shop.sold == {0: 1, 1: max_paid, 2: 1}
    if max_paid == 1:
        assert sorted(task.images) == [0, 2]
        assert task.failures[1].reason is Reason.OUTCOME_UNKNOWN
    else:
        assert (sorted(task.images), task.failures) == ([0, 1, 2], {})


async def test_a_forbidden_image_ends_alone_where_each_has_its_own_call(bench: Bench) -> None:
    forbidden = refusal(reason=Reason.CONTENT_POLICY_OUTPUT, retryable=False)
    shop = Shop(groups=False, refuses=deque([forbidden]))
    await bench.accept(images=3, max_paid_attempts=1)
    task = await bench.run(bench.execution(shop))
    assert (task.state, sorted(task.images)) == (TaskState.COMPLETED, [1, 2])
    assert task.failures[0].reason is Reason.CONTENT_POLICY_OUTPUT
    assert shop.sold == {1: 1, 2: 1}
    assert purchases.paid_or_open_calls(task) == 2, "what was refused is not charged"
    assert bench.count("imagegen_paid_calls_total", provider="local", end="refused") == 1
    assert bench.count("imagegen_paid_calls_total", provider="local", end="charged") == 2


async def test_a_refused_image_is_tried_again_and_the_others_are_not(bench: Bench) -> None:
    shop = Shop(groups=False)
    execution = bench.execution(shop)
    await bench.accept(images=2, max_paid_attempts=1)
    shop.loses.append(refusal(sent=Sent.REJECTED))  # of the first: nothing was charged after all
    task = await bench.run(execution)
    assert (task.state, task.attempts[1].calls) == (TaskState.PENDING, {})
    task = await bench.run(execution)
    assert task.state is TaskState.COMPLETED


async def test_no_further_call_begins_once_the_worker_has_to_stop(bench: Bench) -> None:
    shop = Shop(groups=False)
    may = iter([True, True, False])
    await bench.accept(images=3, max_paid_attempts=1)
    execution = bench.execution(shop)
    task = await bench.run(execution, may_call=lambda: next(may, False))
    assert (task.state, sorted(task.images), shop.sold) == (TaskState.PENDING, [0], {0: 1})
    task = await bench.run(execution)
    assert (task.state, shop.sold) == (TaskState.COMPLETED, {0: 1, 1: 1, 2: 1})
    assert task.owner == ME

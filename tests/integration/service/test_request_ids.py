"""One request id, one task: whoever repeats, races or dies in between."""

from __future__ import annotations

import asyncio

import pytest

from server.domain import life
from server.domain.errors import (
    RequestIdReused,
    StoreUnavailable,
)
from server.domain.task import Task, TaskState
from server.ports import now_ms
from server.service.withdrawals import LATE_S
from tests.integration.service.desk import Desk
from tests.waiting import until, until_async


async def test_a_repeat_is_answered_with_the_first_task(desk: Desk) -> None:
    first = await desk.submit(request_id="mine")
    again = await desk.submit(request_id="mine")
    assert again == first
    assert len(await desk.live()) == 1
    assert desk.submitted() == 1
    assert desk.line.depth == 1


async def test_a_repeat_sees_how_far_its_task_is(desk: Desk) -> None:
    first = await desk.submit(request_id="mine")
    assert await desk.store.write(life.cancel_pending(first, now_ms()))
    again = await desk.submit(request_id="mine")
    assert (again.id, again.state) == (first.id, TaskState.CANCELLED)


async def test_another_request_under_the_same_id_is_refused(desk: Desk) -> None:
    first = await desk.submit(request_id="mine")
    with pytest.raises(RequestIdReused) as caught:
        await desk.submit(request_id="mine", fingerprint="other")
    assert caught.value.task_id == first.id
    assert len(await desk.live()) == 1


async def test_callers_do_not_share_request_ids(desk: Desk) -> None:
    tasks = [
        await desk.submit(caller=caller, request_id=request_id, fingerprint=caller)
        for caller, request_id in (("ann", "mine"), ("bob", "mine"), ("annm", "ine"))
    ]
    assert len({task.id for task in tasks}) == 3


async def test_without_a_request_id_every_call_is_a_task(desk: Desk) -> None:
    assert len({(await desk.submit()).id for _ in range(3)}) == 3


async def test_many_at_once_make_one_task(desk: Desk) -> None:
    async with desk.running():
        tasks = await asyncio.gather(*(desk.submit(request_id="mine") for _ in range(20)))
        assert len({task.id for task in tasks}) == 1
        assert len({task.request.seed for task in tasks}) == 1, "all see the same task"
        assert [task.id for task in await desk.live()] == [tasks[0].id]
        assert desk.submitted() == 1
        await until_async(lambda: desk.real_queue.depth(), within_s=5)
        assert await desk.real_queue.depth() == 1


async def test_many_at_once_of_two_requests_make_one_task_and_refuse_the_other(desk: Desk) -> None:
    async def submit(n: int) -> Task | RequestIdReused:
        try:
            return await desk.submit(request_id="mine", fingerprint=f"{n % 2}")
        except RequestIdReused as error:
            return error

    answers = await asyncio.gather(*(submit(n) for n in range(20)))
    accepted = [answer for answer in answers if isinstance(answer, Task)]
    refused = [answer for answer in answers if isinstance(answer, RequestIdReused)]
    assert (len(accepted), len(refused)) == (10, 10)
    assert len({task.id for task in accepted} | {error.task_id for error in refused}) == 1


async def test_a_row_without_its_task_gets_it_from_the_repeat(desk: Desk) -> None:
    """The process died between the row and the task: the repeat writes the task under that id."""
    desk.store_faults.failing.add("insert")
    with pytest.raises(StoreUnavailable):
        await desk.submit(request_id="mine")
    desk.store_faults.wake()
    with pytest.raises(RequestIdReused) as caught:
        await desk.submit(request_id="mine", fingerprint="other")
    tasks = await asyncio.gather(*(desk.submit(request_id="mine") for _ in range(5)))
    assert {task.id for task in tasks} == {caught.value.task_id}
    assert [task.id for task in await desk.live()] == [caught.value.task_id]
    assert desk.submitted() == 1


async def test_a_task_whose_acceptance_was_not_heard_is_found_by_the_repeat(desk: Desk) -> None:
    desk.store_faults.losing.add("insert")
    with pytest.raises(StoreUnavailable):
        await desk.submit(request_id="mine")
    desk.store_faults.wake()
    [accepted] = await desk.live()
    assert (await desk.submit(request_id="mine")).id == accepted.id
    assert len(await desk.live()) == 1


async def test_a_task_that_nobody_can_find_again_is_withdrawn(desk: Desk) -> None:
    """Without a request_id the caller sends another request: the unheard one must not run as well."""
    desk.store_faults.losing.add("insert")
    desk.store_faults.failing.add("write")
    with pytest.raises(StoreUnavailable):
        await desk.submit()
    [accepted] = await desk.live()
    await until(lambda: desk.store_faults.calls["write"], within_s=5)
    desk.store_faults.wake()

    async def withdrawn() -> bool:
        return (await desk.tasks.get(accepted.id)).state is TaskState.CANCELLED

    await until_async(withdrawn, within_s=5)
    assert desk.line.depth == 0


async def test_what_a_worker_was_first_to_claim_is_ended_by_that_worker(desk: Desk) -> None:
    """The caller was told that nothing was accepted: nobody wants, or fetches, what it would buy."""
    answer = desk.store_faults.late["insert"] = asyncio.Event()
    desk.store_faults.losing.add("insert")
    submit = asyncio.create_task(desk.submit())
    await until(lambda: desk.store_faults.done["insert"], within_s=5)
    await claimed(desk)
    answer.set()
    with pytest.raises(StoreUnavailable):
        await submit
    await asked_to_end(desk)


async def test_a_worker_that_claims_it_while_it_is_withdrawn_ends_it(desk: Desk) -> None:
    reading = desk.store_faults.late["get"] = asyncio.Event()
    desk.store_faults.losing.add("insert")
    with pytest.raises(StoreUnavailable):
        await desk.submit()
    await until(lambda: desk.store_faults.done["get"], within_s=5)
    await claimed(desk)
    reading.set()
    await asked_to_end(desk)


async def claimed(desk: Desk) -> None:
    """A worker begins with the only task."""
    [live] = await desk.live()
    task = (await desk.store.get_many([live.id]))[live.id]
    write, _ = life.mark(task, worker="worker-1", provider="local", paid=True, now_ms=now_ms())
    assert await desk.store.write(write)


async def asked_to_end(desk: Desk) -> None:
    """The worker of the only task will find that it is to end it, and is told so."""
    await until(lambda: desk.queue_faults.done["ask_to_cancel"], within_s=5)
    [live] = await desk.live()
    assert await desk.store.cancel_requested([live.id]) == {live.id}
    async with asyncio.timeout(5):
        await desk.submits.drain()
    assert desk.queue_faults.calls["ask_to_cancel"] == 1


@pytest.mark.parametrize("stopping", [False, True])
async def test_an_insert_that_lands_late_is_withdrawn_too(desk: Desk, stopping: bool) -> None:
    """As a database may go on with it whose answer nobody awaits any more."""
    landing = desk.store_faults.lagging["insert"] = asyncio.Event()
    with pytest.raises(StoreUnavailable):
        await desk.submit()
    await until(lambda: desk.store_faults.done["get"], within_s=5, what="nothing to withdraw yet")
    landing.set()
    await until(lambda: desk.store_faults.done["insert"], within_s=5)
    if stopping:
        async with asyncio.timeout(LATE_S / 2):
            await desk.submits.drain()

    async def withdrawn() -> bool:
        return not await desk.live()

    await until_async(withdrawn, within_s=LATE_S + 5)


async def test_the_end_of_the_process_waits_for_what_is_being_withdrawn(desk: Desk) -> None:
    desk.store_faults.losing.add("insert")
    desk.store_faults.failing.add("write")
    with pytest.raises(StoreUnavailable):
        await desk.submit()
    [accepted] = await desk.live()
    draining = asyncio.create_task(desk.submits.drain())
    await until(lambda: desk.store_faults.calls["write"] >= 2, within_s=5)
    assert not draining.done()
    desk.store_faults.wake()
    async with asyncio.timeout(5):
        await draining
    assert (await desk.tasks.get(accepted.id)).state is TaskState.CANCELLED

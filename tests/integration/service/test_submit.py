"""Submitting: accepted means durable, one request id makes one task, and a refusal leaves nothing behind."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from server.domain import life
from server.domain.admission import DraftReference
from server.domain.errors import (
    Draining,
    InvalidRequest,
    ModelNotFound,
    QueueFull,
    RequestIdReused,
    StoreUnavailable,
)
from server.domain.request import OutputFormat, Reference, ReferenceKind, Size
from server.domain.task import Priority, Task, TaskState
from server.ports import Lane, Pool, now_ms
from server.store.outputs import reference_key
from tests.integration.service.desk import Desk, open_desk
from tests.unit.domain.tasks import image
from tests.waiting import until, until_async

PICTURE = DraftReference(kind="data", data=b"picture")
POOL = Pool(code="lo", lanes=(Lane(name="local", limit=100),))


def key_of(data: bytes) -> str:
    return reference_key(hashlib.sha256(data).hexdigest())


async def nothing_was_kept(desk: Desk) -> bool:
    return not await desk.live() and desk.submitted() == 0 and await desk.real_queue.depth() == 0


# --- acceptance --------------------------------------------------------------------------------------


async def test_an_accepted_task_is_in_the_store_with_all_that_was_asked_for(desk: Desk) -> None:
    before = now_ms()
    task = await desk.submit(
        prompt="a dog",
        size="100x200",
        watermark=True,
        seed=5,
        guidance_scale=2.5,
        negative_prompt="cats",
        output_format=OutputFormat.WEBP,
        request_id="mine",
        user_id="u-1",
        priority=Priority.LOW,
        ttl_ms=90_000,
        labels={"team": "a.b$c"},
        max_paid_attempts=1,
        sequence=True,
        max_images=3,
    )
    assert await desk.store.get(task.id) == task
    assert before <= task.create_time_ms == task.update_time_ms <= now_ms()
    assert task.ttl_time_ms == task.create_time_ms + 90_000
    assert (task.state, task.revision, task.attempt, task.owner) == (TaskState.PENDING, 1, 0, "")
    assert (task.caller, task.user_id, task.request_id) == ("ann", "u-1", "mine")
    assert (task.provider, task.pool, task.model) == ("local", "lo", "local-canvas")
    assert (task.priority, task.labels, task.max_paid_attempts) == (Priority.LOW, {"team": "a.b$c"}, 1)
    request = task.request
    assert (request.prompt, request.negative_prompt) == ("a dog", "cats")
    assert request.size == Size(width_px=100, height_px=200)
    assert (request.watermark, request.seed, request.guidance_scale) == (True, 5, 2.5)
    assert (request.output_format, request.sequence, request.max_images) == (OutputFormat.WEBP, True, 3)
    assert desk.submitted() == 1


async def test_a_task_waits_in_its_line(desk: Desk) -> None:
    async with desk.running():
        low = await desk.submit(priority=Priority.LOW)
        critical = await desk.submit(priority=Priority.CRITICAL)
        await until_async(lambda: desk.real_queue.depth(), within_s=5)

        async def both() -> bool:
            return await desk.real_queue.depth() == 2

        await until_async(both, within_s=5)
    claims = await desk.real_queue.claim(worker="worker-1", free=2, pools=[POOL], lease_ms=1_000)
    assert [claimed.task_id for claimed in claims.tasks] == [critical.id, low.id]


async def test_ids_rise(desk: Desk) -> None:
    ids = []
    for _ in range(5):
        ids.append((await desk.submit()).id)
        await asyncio.sleep(0.002)
    assert ids == sorted(set(ids))


async def test_a_vendors_model_is_made_by_the_stand_in(desk: Desk) -> None:
    task = await desk.submit(model="doubao-seedream-4.0", size="2K", provider="volcengine")
    assert (task.model, task.provider, task.pool) == ("doubao-seedream-4-0-250828", "local", "lo")


async def test_a_random_seed_stays_with_the_task(desk: Desk) -> None:
    seeds = {(await desk.submit(seed=-1)).request.seed for _ in range(4)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**31 for seed in seeds)


async def test_a_caller_that_vanishes_leaves_its_task_whole(desk: Desk) -> None:
    gate = desk.store_faults.gates["insert"] = asyncio.Event()
    calling = asyncio.create_task(desk.submit(request_id="mine"))
    await until(lambda: desk.store_faults.calls["insert"], within_s=5)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    draining = asyncio.create_task(desk.tasks.drain())
    await asyncio.sleep(0)
    assert not draining.done(), "a stop waits for what was begun"
    gate.set()
    await draining
    [task] = await desk.live()
    assert desk.line.depth == 1
    assert (await desk.submit(request_id="mine")).id == task.id


async def test_a_vanished_caller_of_a_failed_submit_is_nobodys_error(desk: Desk) -> None:
    """Nobody looks at the exception any more; it must not come back as a warning."""
    gate = desk.store_faults.gates["insert"] = asyncio.Event()
    desk.store_faults.failing.add("insert")
    calling = asyncio.create_task(desk.submit())
    await until(lambda: desk.store_faults.calls["insert"], within_s=5)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    gate.set()
    await desk.tasks.drain()


# --- refusals ----------------------------------------------------------------------------------------


async def test_what_is_invalid_leaves_nothing_behind(desk: Desk) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await desk.submit(prompt="", seed=-5, references=(PICTURE,), request_id="mine")
    assert [v.field for v in caught.value.violations] == ["prompt", "seed"]
    with pytest.raises(ModelNotFound):
        await desk.submit(model="unknown", references=(PICTURE,), request_id="mine")
    with pytest.raises(InvalidRequest):
        await desk.submit(request_id="x" * 129)
    assert await nothing_was_kept(desk)
    assert desk.output_faults.calls["put"] == 0
    assert (await desk.submit(request_id="mine", fingerprint="other")).request_id == "mine", "still free"


async def test_a_draining_process_accepts_nothing(desk: Desk) -> None:
    desk.tasks.refuse()
    with pytest.raises(Draining) as caught:
        await desk.submit()
    assert caught.value.retry_after_s is not None
    assert await nothing_was_kept(desk)


@pytest.mark.parametrize("method", ["find_request_id", "claim_request_id", "insert"])
async def test_without_the_store_nothing_is_accepted(desk: Desk, method: str) -> None:
    desk.store_faults.failing.add(method)
    with pytest.raises(StoreUnavailable):
        await desk.submit(request_id="mine")
    assert await nothing_was_kept(desk)
    assert desk.line.depth == 0


async def test_a_full_queue_refuses(tmp_path: Path, redis_url: str, redis_prefix: str) -> None:
    async with open_desk(tmp_path, redis_url, redis_prefix, queue_max_depth=2) as desk:
        first = await desk.submit(request_id="first")
        await desk.submit()
        with pytest.raises(QueueFull) as caught:
            await desk.submit(request_id="third", references=(PICTURE,))
        assert caught.value.retry_after_s is not None
        assert len(await desk.live()) == 2
        assert desk.output_faults.calls["put"] == 0
        assert (await desk.submit(request_id="first")).id == first.id, "a repeat is no new task"
        assert desk.submitted() == 2


# --- request ids -------------------------------------------------------------------------------------


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


# --- references --------------------------------------------------------------------------------------


async def test_bytes_are_kept_before_the_task(desk: Desk) -> None:
    desk.store_faults.failing.add("insert")
    with pytest.raises(StoreUnavailable):
        await desk.submit(references=(PICTURE,))
    stored = await desk.outputs.get(key_of(b"picture"))
    assert stored is not None
    assert stored.data == b"picture"


async def test_without_the_output_store_nothing_is_accepted(desk: Desk) -> None:
    desk.output_faults.away = True
    with pytest.raises(StoreUnavailable):
        await desk.submit(references=(PICTURE,), request_id="mine")
    assert await nothing_was_kept(desk)
    desk.output_faults.wake()
    assert (await desk.submit(references=(PICTURE,), request_id="mine")).state is TaskState.PENDING


async def with_image(desk: Desk, *, caller: str = "ann") -> Task:
    """A task of this caller that has image 0."""
    task = await desk.submit(caller=caller)
    write, marked = life.mark(task, worker="worker-1", provider="local", paid=False, now_ms=now_ms())
    assert await desk.store.write(write)
    assert await desk.store.write(life.complete_with(marked, [image()], now_ms()))
    return task


async def test_references_keep_their_order(desk: Desk) -> None:
    earlier = await with_image(desk)
    output = DraftReference(kind="output", task_id=earlier.id, index=0)
    task = await desk.submit(references=(PICTURE, output, replace(PICTURE, data=b"other"), PICTURE))
    keys = [key_of(b"picture"), image().key, key_of(b"other"), key_of(b"picture")]
    assert task.request.references == tuple(Reference(kind=ReferenceKind.STORED, value=key) for key in keys)
    assert await desk.store.get(task.id) == task


async def test_outputs_that_cannot_be_used_are_all_named(desk: Desk) -> None:
    mine, theirs = await with_image(desk), await with_image(desk, caller="bob")

    def output(task_id: str, index: int) -> DraftReference:
        return DraftReference(kind="output", task_id=task_id, index=index)

    with pytest.raises(InvalidRequest) as caught:
        await desk.submit(
            references=(
                PICTURE,
                output(mine.id, 0),
                output(mine.id, 1),
                output(theirs.id, 0),
                output("01ARZ3NDEKTSV4RRFFQ69G5FAV", 0),
            )
        )
    assert [v.field for v in caught.value.violations] == [
        "reference_images[2].output.index",
        "reference_images[3].output.task_id",
        "reference_images[4].output.task_id",
    ]
    foreign, unknown = caught.value.violations[1:]
    assert foreign.description.replace(theirs.id, "X") == unknown.description.replace(
        "01ARZ3NDEKTSV4RRFFQ69G5FAV", "X"
    ), "another caller's task looks like none"
    assert desk.output_faults.calls["put"] == 0
    assert await desk.live() == []

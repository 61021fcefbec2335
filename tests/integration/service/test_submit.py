"""Submitting: accepted means durable, one request id makes one task, and a refusal leaves nothing behind."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from server.domain import attempt_writes, life
from server.domain.admission import DraftReference
from server.domain.errors import (
    Draining,
    InvalidRequest,
    ModelNotFound,
    QueueFull,
    StoreUnavailable,
)
from server.domain.request import OutputFormat, Size
from server.domain.task import Priority, Task, TaskState
from server.domain.writes import with_images
from server.ports import Entry, Lane, Pool, now_ms
from server.store.outputs import reference_key
from tests.integration.api.requests import flat
from tests.integration.service.desk import Desk, open_desk
from tests.unit.domain.tasks import image
from tests.waiting import until, until_async

PICTURE = DraftReference(kind="data", data=flat(64, 64))
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
    draining = asyncio.create_task(desk.submits.drain())
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
    with capture_logs() as logs:
        gate.set()
        await desk.submits.drain()
    assert logs == []


async def test_a_bug_that_a_vanished_caller_does_not_see_is_logged(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(_: Entry) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(desk.line, "put", put)
    with capture_logs() as logs:
        with pytest.raises(ZeroDivisionError):
            await desk.submit()
        assert logs == [], "who answers the caller logs it"
        gate = desk.store_faults.gates["insert"] = asyncio.Event()
        calling = asyncio.create_task(desk.submit())
        await until(lambda: desk.store_faults.calls["insert"] == 2, within_s=5)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        gate.set()
        await until(lambda: logs, within_s=5, what="a line in the log")
    [line] = logs
    assert line["log_level"] == "error"
    assert isinstance(line["exc_info"], ZeroDivisionError)


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
    desk.submits.refuse()
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


# --- references --------------------------------------------------------------------------------------


async def test_bytes_are_kept_before_the_task(desk: Desk) -> None:
    desk.store_faults.failing.add("insert")
    with pytest.raises(StoreUnavailable):
        await desk.submit(references=(PICTURE,))
    stored = await desk.outputs.get(key_of(flat(64, 64)))
    assert stored is not None
    assert stored.data == PICTURE.data


async def test_without_the_output_store_nothing_is_accepted(desk: Desk) -> None:
    desk.output_faults.away = True
    with pytest.raises(StoreUnavailable):
        await desk.submit(references=(PICTURE,), request_id="mine")
    assert await nothing_was_kept(desk)
    desk.output_faults.wake()
    assert (await desk.submit(references=(PICTURE,), request_id="mine")).state is TaskState.PENDING


async def test_a_task_stands_in_the_line_of_its_user(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted = [
        await desk.submit(caller=caller, user_id=user_id)
        for caller, user_id in (("ann", "x"), ("bob", "x"), ("x", ""), ("ann", ""))
    ]
    assert [task.queue_caller for task in submitted] == ["user:x", "user:x", "caller:x", "caller:ann"]
    offered: dict[str, str] = {}

    async def enqueue(batch: Sequence[Entry]) -> None:
        offered.update({entry.task_id: entry.caller for entry in batch})

    monkeypatch.setattr(desk.queue, "enqueue", enqueue)
    await desk.line.drain(timeout_s=5)
    assert offered == {task.id: task.queue_caller for task in submitted}
    assert {task.id: task.queue_caller for task in await desk.live()} == offered, "as the sweep has it"


async def with_image(desk: Desk, *, caller: str = "ann") -> Task:
    """A task of this caller that has image 0."""
    task = await desk.submit(caller=caller)
    write, marked = life.mark(task, worker="worker-1", provider="local", paid=False, now_ms=now_ms())
    assert await desk.store.write(write)
    assert await desk.store.write(with_images(attempt_writes.complete(marked, now_ms()), [image()]))
    return task


async def test_references_keep_their_order(desk: Desk) -> None:
    earlier = await with_image(desk)
    output = DraftReference(kind="output", task_id=earlier.id, index=0)
    task = await desk.submit(references=(PICTURE, output, replace(PICTURE, data=flat(32, 64)), PICTURE))
    keys = [key_of(flat(64, 64)), image().key, key_of(flat(32, 64)), key_of(flat(64, 64))]
    assert task.request.references == tuple(keys)
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

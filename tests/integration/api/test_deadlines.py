"""A caller that runs out of time never harms its task, and always learns its id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from image.v1.image_service_pb2 import RESPONSE_FORMAT_BYTES
from task.v1.task_pb2 import (
    TASK_STATE_COMPLETED,
    TASK_STATE_FAILED,
    TASK_STATE_PENDING,
    TASK_STATE_PROCESSING,
)
from task.v1.task_service_pb2 import GetTaskRequest, WaitTaskRequest

from server.domain import attempt_writes, life
from server.domain.writes import with_images
from server.ports import now_ms
from server.store.sqlite import SqliteTaskStore
from tests.integration.api.deployment import Deployment, called, deployed
from tests.integration.api.refusals import Refusal, refusal_of, refusal_of_stream
from tests.integration.api.requests import image, sequence, ttl
from tests.integration.api.synchronous import DEADLINE_S, started
from tests.s3_server import S3Server
from tests.stack import Calls
from tests.unit.domain.tasks import image as stored_image
from tests.waiting import until_async


async def state_of(calls: Calls, task_id: str) -> int:
    return (await calls.tasks.GetTask(GetTaskRequest(task_id=task_id))).task.state


@pytest.mark.xdist_group("api-deadlines")
async def test_a_task_that_takes_longer_than_the_deadline_is_fetched_afterwards() -> None:
    request = sequence(size="2K", max_images=8, request_id="slow")
    with deployed() as deployment:
        worker = deployment.stack.start("worker")
        async with called(deployment) as calls:
            call = started(calls, request, timeout_s=DEADLINE_S)
            task_id = str(dict(await call.initial_metadata())["task-id"])

            async def worked_on() -> bool:
                return await state_of(calls, task_id) == TASK_STATE_PROCESSING

            await until_async(worked_on, within_s=DEADLINE_S)
            worker.signal(signal.SIGSTOP)  # however fast it is
            refusal = await refusal_of_stream(call)
            worker.signal(signal.SIGCONT)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "WAIT_EXPIRED")
            assert refusal.trailers["task-id"] == task_id
            task = await calls.ended(task_id)
            assert task.state == TASK_STATE_COMPLETED
            assert len(task.image.images) == 8
            assert [attempt.number for attempt in task.attempts] == [1], "nobody cancelled or repeated it"
            assert (await calls.images.GenerateSequentialImages(request)).task_id == task_id


@pytest.mark.xdist_group("api-queueing")
async def test_a_stream_that_runs_out_of_time_names_its_task_too(calls: Calls) -> None:
    stream = calls.images.StreamSequentialImages(sequence(), timeout=DEADLINE_S)
    refusal = await refusal_of_stream(stream)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "WAIT_EXPIRED")
    assert await state_of(calls, refusal.trailers["task-id"]) == TASK_STATE_PENDING


@pytest.mark.xdist_group("api-deadlines")
async def test_without_a_deadline_the_server_sets_one() -> None:
    with deployed(SYNC_WAIT_MAX_SECONDS="1") as deployment:
        async with called(deployment) as calls:
            await all_waits_expire(calls, None, at_least_s=0.9)


@pytest.mark.xdist_group("api-deadlines")
async def test_a_deadline_counts_where_the_server_would_have_set_a_shorter_one() -> None:
    with deployed(SYNC_WAIT_MAX_SECONDS="1") as deployment:
        async with called(deployment) as calls:
            await all_waits_expire(calls, DEADLINE_S, at_least_s=DEADLINE_S * 0.8)


async def all_waits_expire(calls: Calls, deadline_s: float | None, *, at_least_s: float) -> None:
    """Each way to wait is answered with the id of a task that goes on, and not before."""

    async def timed(refusal: Awaitable[Refusal]) -> Refusal:
        start = time.monotonic()
        found = await refusal
        assert at_least_s <= time.monotonic() - start < 10
        return found

    for refusal in await asyncio.gather(
        timed(refusal_of(calls.images.GenerateImage(image(), timeout=deadline_s))),
        timed(refusal_of(calls.images.GenerateSequentialImages(sequence(), timeout=deadline_s))),
        timed(refusal_of_stream(calls.images.StreamSequentialImages(sequence(), timeout=deadline_s))),
    ):
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "WAIT_EXPIRED")
        assert await state_of(calls, refusal.trailers["task-id"]) == TASK_STATE_PENDING


@pytest.mark.xdist_group("api-queueing")
async def test_wait_task_answers_with_the_task_as_it_stands(calls: Calls) -> None:
    task_id = (await calls.images.GenerateImageAsync(image())).task_id

    async def waits(wait_s: int | None, *, timeout_s: float, at_least_s: float) -> None:
        request = WaitTaskRequest(task_id=task_id, wait=None if wait_s is None else Duration(seconds=wait_s))
        start = time.monotonic()
        task = (await calls.tasks.WaitTask(request, timeout=timeout_s)).task
        assert time.monotonic() - start >= at_least_s
        assert (task.task_id, task.state) == (task_id, TASK_STATE_PENDING)

    await asyncio.gather(
        waits(0, timeout_s=10.0, at_least_s=0.0),
        waits(1, timeout_s=10.0, at_least_s=0.9),
        waits(None, timeout_s=DEADLINE_S, at_least_s=DEADLINE_S * 0.8),
        waits(3600, timeout_s=DEADLINE_S, at_least_s=DEADLINE_S * 0.8),
    )


@pytest.mark.xdist_group("api-queueing")
async def test_a_ttl_that_ends_ends_the_task_and_every_wait_for_it(calls: Calls) -> None:
    task_id = (await calls.images.GenerateImageAsync(image(options=ttl(1)))).task_id
    waited, refusal = await asyncio.gather(
        calls.tasks.WaitTask(WaitTaskRequest(task_id=task_id), timeout=30),
        refusal_of(calls.images.GenerateImage(image(options=ttl(1)), timeout=30)),
    )
    assert waited.task.state == TASK_STATE_FAILED
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "TASK_EXPIRED")
    assert await state_of(calls, refusal.trailers["task-id"]) == TASK_STATE_FAILED


@pytest.mark.xdist_group("api-queueing")
async def test_a_stream_reports_progress_only_when_there_was_nothing_for_15_s(
    queueing: Deployment, calls: Calls
) -> None:
    stream = calls.images.StreamSequentialImages(sequence(options=ttl(2)), timeout=30)
    seen: list[str | None] = []

    async def events() -> AsyncIterator[str]:
        async for event in stream:
            seen.append(event.WhichOneof("event"))
            if event.task_id:
                await queueing.announce(event.task_id)  # wakes the stream, although nothing has changed
            yield seen[-1] or ""

    refusal = await refusal_of_stream(events())
    assert refusal.reason == "TASK_EXPIRED"
    assert seen == ["task_id", "task"]


@pytest.mark.xdist_group("s3")
async def test_bytes_that_cannot_be_read_before_the_deadline_are_left_to_the_links(
    s3_server: S3Server, s3_url: str
) -> None:
    request = image(response_format=RESPONSE_FORMAT_BYTES, request_id="bytes")
    with deployed(OUTPUT_URL=s3_url, **keys_of(s3_server)) as deployment:
        deployment.stack.start("worker")
        async with called(deployment) as calls:
            whole = await calls.images.GenerateImage(request, timeout=60)
            assert whole.images[0].data
            os.kill(s3_server.pid, signal.SIGSTOP)
            try:
                answer = await calls.images.GenerateImage(request, timeout=DEADLINE_S)
            finally:
                os.kill(s3_server.pid, signal.SIGCONT)
    assert answer.data_omitted
    assert [(made.sha256, made.data) for made in answer.images] == [(whole.images[0].sha256, b"")]


@pytest.mark.xdist_group("s3")
async def test_the_wait_and_the_bytes_have_one_time_together(s3_server: S3Server, s3_url: str) -> None:
    """Each after the other with a time of its own, they would end too late, or with too little margin."""
    request = image(response_format=RESPONSE_FORMAT_BYTES, request_id="bytes")
    with deployed(OUTPUT_URL=s3_url, SYNC_WAIT_MAX_SECONDS="4", **keys_of(s3_server)) as deployment:
        async with called(deployment) as calls:
            task_id = (await calls.images.GenerateImageAsync(request)).task_id
            os.kill(s3_server.pid, signal.SIGSTOP)
            try:
                start = time.monotonic()
                call = calls.images.GenerateImage(request)
                await calls.tasks.WaitTask(WaitTaskRequest(task_id=task_id, wait=Duration(seconds=2)))
                await complete(deployment, task_id)
                answer = await call
                assert time.monotonic() - start < 5.5, "and not a second wait after the first"
            finally:
                os.kill(s3_server.pid, signal.SIGCONT)
    assert answer.data_omitted
    assert [made.data for made in answer.images] == [b""]


def keys_of(s3_server: S3Server) -> dict[str, str]:
    """What a process that keeps its outputs there has in its environment."""
    return {
        "AWS_ACCESS_KEY_ID": s3_server.keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": s3_server.keys.secret_access_key,
    }


async def complete(deployment: Deployment, task_id: str) -> None:
    """End the task with a picture, as a worker does."""
    store = await SqliteTaskStore.open(deployment.store_path)
    async with contextlib.aclosing(store):
        task = await store.get(task_id)
        assert task is not None
        mark, marked = life.mark(task, worker="worker-1", provider="local", paid=False, now_ms=now_ms())
        assert await store.write(mark)
        end = attempt_writes.complete(marked, now_ms())
        assert await store.write(with_images(end, [stored_image()]))
    await deployment.announce(task_id)

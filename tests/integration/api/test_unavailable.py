"""When the service cannot take a request: nothing is accepted, and the caller learns when to come again."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import grpc
import grpc.aio
import pytest
from image.v1 import image_service_pb2 as pb
from task.v1 import task_pb2
from task.v1.error_reason_pb2 import ERROR_REASON_DRAINING
from task.v1.task_service_pb2 import GetTaskRequest, WaitTaskRequest

from tests.integration.api.deployment import Deployment, called, deployed
from tests.integration.api.refusals import refusal_of, refusal_of_stream, refusals_of_submit
from tests.integration.api.requests import image, sequence
from tests.integration.api.synchronous import early_task_id
from tests.stack import Calls
from tests.waiting import until_async

pytestmark = pytest.mark.xdist_group("api-unavailable")

ANSWER_WITHIN_S = 2.0
"""A submit promises its answer within this time, whatever the store does."""
RECOVER_WITHIN_S = 10.0


async def until_health(calls: Calls, status: pb.HealthStatus) -> None:
    """Return when HealthCheck says so; TimeoutError when it does not in time."""
    async with asyncio.timeout(RECOVER_WITHIN_S):
        while (await calls.images.HealthCheck(pb.HealthCheckRequest())).status != status:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def until_kept(deployment: Deployment, tasks: int) -> None:
    """Return when so many tasks are stored; TimeoutError when they are not in time."""
    async with asyncio.timeout(RECOVER_WITHIN_S):
        while len(deployment.kept().tasks) < tasks:  # noqa: ASYNC110 - nothing announces it to us
            await asyncio.sleep(0.01)


# --- a full queue ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full() -> Iterator[Deployment]:
    """A deployment whose queue holds one task, and has room for no other."""
    with deployed(QUEUE_MAX_DEPTH="1") as deployment:
        yield deployment


@pytest.fixture
async def calls(full: Deployment) -> AsyncIterator[Calls]:
    async with called(full) as calls:
        await calls.images.GenerateImageAsync(FIRST)
        yield calls


FIRST = image(request_id="first")


async def test_a_full_queue_takes_nothing(full: Deployment, calls: Calls) -> None:
    before = await full.settled()
    assert len(before.tasks) == 1
    for request in (image(), image(request_id="second"), sequence()):
        for refusal in await refusals_of_submit(calls, request):
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
            assert refusal.retry_after_s is not None
            assert refusal.retry_after_s > 0
            assert refusal.quotas
            assert "task-id" not in refusal.trailers
    assert full.kept() == before


async def test_a_full_queue_says_how_much_it_holds(calls: Calls) -> None:
    refusal = await refusal_of(calls.images.GenerateImageAsync(image()))
    assert refusal.metadata == {"max_depth": "1"}


async def test_a_full_queue_still_answers_repeats_and_readers(calls: Calls) -> None:
    first = await calls.images.GenerateImageAsync(FIRST)
    assert await early_task_id(calls, FIRST) == first.task_id
    await calls.tasks.GetTask(GetTaskRequest(task_id=first.task_id))
    reused = await refusal_of(calls.images.GenerateImageAsync(image(request_id="first", seed=1)))
    assert reused.reason == "REQUEST_ID_REUSED"
    invalid = await refusal_of(calls.images.GenerateImageAsync(image(seed=-5)))
    assert invalid.reason == "INVALID_FIELD", "what can never be accepted is not asked to come again"


# --- a provider that is not set up ------------------------------------------------------------------------


async def test_production_without_keys_makes_only_what_needs_none() -> None:
    with deployed(APP_ENVIRONMENT="production") as deployment:
        async with called(deployment) as calls:
            for model, name, provider in (
                ("", "doubao-seedream-4-0-250828", "ark"),
                ("doubao-seedream-3.0-t2i", "doubao-seedream-3-0-t2i-250415", "ark"),
                ("jimeng_high_aes_general_v21_L", "jimeng_high_aes_general_v21_L", "jimeng"),
                ("dall-e-3", "dall-e-3", "openai"),
            ):
                for refusal in await refusals_of_submit(calls, image(model=model, size="")):
                    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
                    assert refusal.reason == "PROVIDER_NOT_CONFIGURED"
                    assert refusal.metadata == {"model": name, "provider": provider}
            for refusal in await refusals_of_submit(calls, image(model="dall-e-3", size="", seed=-5)):
                assert refusal.reason == "INVALID_FIELD", "what is wrong with the request comes first"
            assert not deployment.kept().tasks
            accepted = await calls.images.GenerateImageAsync(image())
            assert (accepted.model, accepted.provider) == ("local-canvas", "local")


# --- a store that is away -----------------------------------------------------------------------------------


@pytest.mark.alone
async def test_while_the_store_takes_no_writes_nothing_is_accepted() -> None:
    request = image(request_id="while away")
    with deployed() as deployment:
        async with called(deployment) as calls:
            earlier = (await calls.images.GenerateImageAsync(image())).task_id
            before = await deployment.settled()
            with closing(sqlite3.connect(deployment.store_path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")  # holds the file's one write lock
                for call in (
                    calls.images.GenerateImageAsync(request),
                    calls.images.GenerateImage(image()),
                    calls.images.GenerateSequentialImagesAsync(sequence()),
                ):
                    start = time.monotonic()
                    refusal = await refusal_of(call)
                    assert time.monotonic() - start < ANSWER_WITHIN_S
                    assert (refusal.code, refusal.reason) == (
                        grpc.StatusCode.UNAVAILABLE,
                        "STORE_UNAVAILABLE",
                    )
                    assert refusal.retry_after_s is not None
                    assert refusal.retry_after_s > 0
                    assert refusal.metadata == {}
                await until_health(calls, pb.HEALTH_STATUS_NOT_SERVING)
                task = (await calls.tasks.GetTask(GetTaskRequest(task_id=earlier))).task
                assert task.task_id == earlier, "reading goes on"
                assert deployment.kept() == before
                other.execute("ROLLBACK")
            await until_health(calls, pb.HEALTH_STATUS_SERVING)
            accepted = await calls.images.GenerateImageAsync(request)
            assert (await deployment.settled()).tasks - before.tasks == {accepted.task_id}


# --- a server that stops ------------------------------------------------------------------------------------


async def submitted_until_refused(calls: Calls) -> set[str]:
    """The tasks that a server still accepts while it is on its way down, up to its first refusal."""
    ids: set[str] = set()
    async with asyncio.timeout(RECOVER_WITHIN_S):
        while True:
            try:
                ids.add((await calls.images.GenerateImageAsync(image())).task_id)
            except grpc.aio.AioRpcError as error:
                # Nothing was accepted: said by the service, by a port that is closed already, or by gRPC,
                # which ends a call that arrives before the client has seen its GOAWAY with CANCELLED.
                if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    return ids
                raise


async def test_a_server_that_stops_loses_nothing_and_says_what_becomes_of_what_waits() -> None:
    with_id, without_id = image(request_id="while stopping"), image()
    stream_with_id = sequence(request_id="stream while stopping")
    with deployed(SHUTDOWN_GRACE_SECONDS="2") as deployment:
        async with called(deployment) as calls:
            polled = (await calls.images.GenerateImageAsync(image())).task_id
            stream = calls.images.StreamSequentialImages(stream_with_id)
            assert (await anext(aiter(stream))).task_id
            async with asyncio.TaskGroup() as group:
                repeatable = group.create_task(refusal_of(calls.images.GenerateImage(with_id)))
                once = group.create_task(refusal_of(calls.images.GenerateImage(without_id)))
                poll = group.create_task(refusal_of(calls.tasks.WaitTask(WaitTaskRequest(task_id=polled))))
                streaming = group.create_task(refusal_of_stream(stream))
                await until_kept(deployment, 4)
                deployment.api.signal(signal.SIGTERM)
                await until_health(calls, pb.HEALTH_STATUS_NOT_SERVING)
                late = await submitted_until_refused(calls)
        assert deployment.api.wait() == 0
        kept = deployment.kept()
        assert late < kept.tasks
        assert len(kept.tasks) == len(late) + 4

        for ended in (repeatable.result(), streaming.result()):
            assert (ended.code, ended.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert ended.retry_after_s is not None
        assert (once.result().code, once.result().reason) == (grpc.StatusCode.ABORTED, "DRAINING")
        for ended in (repeatable.result(), streaming.result(), once.result()):
            assert ended.metadata == {"task_id": ended.trailers["task-id"]}
            assert ended.trailers["task-id"] in kept.tasks
        # Reading twice does no harm, whoever submitted the task and however.
        assert (poll.result().code, poll.result().reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")

        successor = Deployment(deployment.stack, deployment.stack.start("api"))
        async with called(successor) as calls:
            again = await calls.images.GenerateImageAsync(with_id)
            assert again.task_id == repeatable.result().trailers["task-id"]
        settled = await successor.settled()
        assert settled.tasks == kept.tasks
        assert settled.queued == kept.tasks, "what was accepted last is in line as well"


async def test_what_a_stopping_worker_gives_back_is_not_told_as_never_accepted() -> None:
    with deployed() as deployment:
        worker = deployment.stack.start("worker", SHUTDOWN_GRACE_SECONDS="0")
        async with called(deployment) as calls:
            request = sequence(size="4K", max_images=15)
            task_id = (await calls.images.GenerateSequentialImagesAsync(request)).task_id

            async def begun() -> bool:
                task = (await calls.tasks.GetTask(GetTaskRequest(task_id=task_id))).task
                return task.state == task_pb2.TASK_STATE_PROCESSING

            await until_async(begun, within_s=10)
            assert worker.stop() == 0
            [attempt] = (await calls.tasks.GetTask(GetTaskRequest(task_id=task_id))).task.attempts
    assert attempt.error.reason == ERROR_REASON_DRAINING
    assert attempt.error.code == grpc.StatusCode.ABORTED.value[0]

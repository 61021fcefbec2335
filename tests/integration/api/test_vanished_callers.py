"""Callers that give up, disconnect or vanish in the middle of a call: no task is harmed, none is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from image.v1.image_service_pb2_grpc import ImageServiceStub
from task.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_PENDING
from task.v1.task_service_pb2 import GetTaskRequest

from tests.integration.api.deployment import Deployment, Kept, called, deployed
from tests.integration.api.relay import relaying
from tests.integration.api.requests import MIB, data, image, sequence
from tests.stack import Calls

ARRIVE_WITHIN_S = 10.0


async def new_tasks(deployment: Deployment, before: Kept) -> frozenset[str]:
    """The tasks stored since then, once there are any; TimeoutError when none comes in time."""
    async with asyncio.timeout(ARRIVE_WITHIN_S):
        while not (new := deployment.kept().tasks - before.tasks):  # noqa: ASYNC110 - unannounced to us
            await asyncio.sleep(0.001)
    return new


async def code_of(call: grpc.aio.UnaryUnaryCall[Any, Any]) -> grpc.StatusCode:
    """How a call ends that has no chance to be answered."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code()


@pytest.mark.xdist_group("api-deadlines")
async def test_a_cancelled_call_leaves_its_task_alive() -> None:
    with deployed() as deployment:
        before = deployment.kept()
        async with called(deployment) as calls:
            call = calls.images.GenerateImage(image())
            ended = asyncio.ensure_future(call.code())
            (task_id,) = await new_tasks(deployment, before)
            assert call.cancel()
            assert await ended is grpc.StatusCode.CANCELLED

            stream = calls.images.StreamSequentialImages(sequence(max_images=1))
            streamed_id = (await anext(aiter(stream))).task_id
            stream.cancel()

            for left in (task_id, streamed_id):
                task = (await calls.tasks.GetTask(GetTaskRequest(task_id=left))).task
                assert task.state == TASK_STATE_PENDING
            deployment.stack.start("worker")
            for left in (task_id, streamed_id):
                task = await calls.ended(left)
                assert task.state == TASK_STATE_COMPLETED
                assert len(task.attempts) == 1


@pytest.mark.xdist_group("api-queueing")
async def test_a_submit_whose_answer_was_lost_is_found_by_its_repeat(
    queueing: Deployment, calls: Calls
) -> None:
    request = image(request_id="answer lost", reference_images=[data(1_000)])
    before = await queueing.settled()
    async with relaying(queueing.api.grpc_port) as relay, grpc.aio.insecure_channel(relay.target) as channel:
        await channel.channel_ready()
        relay.answers_lost = True
        submit = asyncio.create_task(code_of(ImageServiceStub(channel).GenerateImageAsync(request)))
        (task_id,) = await new_tasks(queueing, before)
        await relay.cut()
        assert await submit is grpc.StatusCode.UNAVAILABLE
    assert (await calls.images.GenerateImageAsync(request)).task_id == task_id
    kept = await queueing.settled()
    assert kept.tasks - before.tasks == {task_id}
    assert task_id in kept.queued


@pytest.mark.xdist_group("api-queueing")
async def test_a_submit_that_was_cut_in_its_middle_leaves_nothing(queueing: Deployment, calls: Calls) -> None:
    request = image(request_id="cut", reference_images=[data(10 * MIB - 1)])
    before = await queueing.settled()
    async with relaying(queueing.api.grpc_port) as relay, grpc.aio.insecure_channel(relay.target) as channel:
        await channel.channel_ready()
        submit = asyncio.create_task(code_of(ImageServiceStub(channel).GenerateImageAsync(request)))
        async with asyncio.timeout(ARRIVE_WITHIN_S):
            while relay.sent_bytes < MIB:  # noqa: ASYNC110 - no event tells how far it came
                await asyncio.sleep(0)
        await relay.cut()
        assert relay.sent_bytes < 9 * MIB, "else the whole request may have arrived"
        assert await submit is grpc.StatusCode.UNAVAILABLE
    assert queueing.kept() == before
    accepted = await calls.images.GenerateImageAsync(request)
    assert (await queueing.settled()).tasks - before.tasks == {accepted.task_id}


@pytest.mark.xdist_group("api-queueing")
async def test_submits_whose_client_vanishes_are_kept_whole_or_not_at_all(
    queueing: Deployment, calls: Calls
) -> None:
    requests = [
        image(request_id=f"vanish {n}", seed=n, reference_images=[data(1_000 + n)]) for n in range(60)
    ]
    before = await queueing.settled()
    async with relaying(queueing.api.grpc_port) as relay, grpc.aio.insecure_channel(relay.target) as channel:
        await channel.channel_ready()
        relay.answers_lost = True
        images = ImageServiceStub(channel)
        submits = [asyncio.create_task(code_of(images.GenerateImageAsync(r))) for r in requests]
        left = await new_tasks(queueing, before)
        await relay.cut()
        assert set(await asyncio.gather(*submits)) == {grpc.StatusCode.UNAVAILABLE}
    repeats = await asyncio.gather(*(calls.images.GenerateImageAsync(r) for r in requests))
    ids = {repeat.task_id for repeat in repeats}
    assert len(ids) == len(requests)
    assert left <= ids, "what was kept is what its repeat finds"
    kept = await queueing.settled()
    assert kept.tasks - before.tasks == ids
    assert kept.queued - before.queued == ids
    assert len(kept.request_ids - before.request_ids) == len(requests)

"""CancelTask through the whole service."""

from __future__ import annotations

import time

import pytest
from image.v1.image_service_pb2 import GenerateSequentialImagesRequest
from task.v1 import task_pb2
from task.v1.task_service_pb2 import (
    SENT_NOT_SENT,
    SENT_SENT,
    CancelTaskRequest,
    CancelTaskResponse,
    GetTaskRequest,
)

from tests.integration.api.refusals import refusal_of
from tests.stack import Calls
from tests.waiting import until_async

LONG = GenerateSequentialImagesRequest(prompt="to be cancelled", size="4K", max_images=15)


async def cancel(calls: Calls, task_id: str) -> CancelTaskResponse:
    return await calls.tasks.CancelTask(CancelTaskRequest(task_id=task_id))


@pytest.mark.xdist_group("api-queueing")
@pytest.mark.usefixtures("unharmed")
async def test_a_waiting_task_is_cancelled_at_once_and_again(calls: Calls) -> None:
    task_id = (await calls.images.GenerateSequentialImagesAsync(LONG)).task_id
    first = await cancel(calls, task_id)
    assert (first.task.task_id, first.task.state) == (task_id, task_pb2.TASK_STATE_CANCELLED)
    assert first.sent == SENT_NOT_SENT
    assert first.task.HasField("end_time")
    assert await cancel(calls, task_id) == first


@pytest.mark.xdist_group("api-working")
async def test_a_running_task_ends_within_a_second(worked: Calls) -> None:
    task_id = (await worked.images.GenerateSequentialImagesAsync(LONG)).task_id

    async def runs() -> bool:
        task = (await worked.tasks.GetTask(GetTaskRequest(task_id=task_id))).task
        return task.state == task_pb2.TASK_STATE_PROCESSING

    await until_async(runs, within_s=20, what="the worker's claim")
    began = time.monotonic()
    answer = await cancel(worked, task_id)
    took_s = time.monotonic() - began
    task = answer.task if answer.task.state != task_pb2.TASK_STATE_PROCESSING else await worked.ended(task_id)
    assert task.state == task_pb2.TASK_STATE_CANCELLED
    assert answer.task.cancel_requested
    assert answer.sent == SENT_SENT
    assert len(task.image.images) < LONG.max_images
    assert took_s < 2

    ended = await worked.ended(task_id)
    assert ended == task
    waited = GenerateSequentialImagesRequest(prompt="over", size="64x64", model="local-canvas", max_images=1)
    done = (await worked.images.GenerateSequentialImages(waited)).task_id
    refusal = await refusal_of(worked.tasks.CancelTask(CancelTaskRequest(task_id=done)))
    assert (refusal.code.name, refusal.reason) == ("FAILED_PRECONDITION", "TASK_ENDED")
    assert refusal.metadata["task_id"] == done
    assert refusal.metadata["state"] == "COMPLETED"

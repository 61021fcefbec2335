"""Each reason carries the metadata that `task/v1/error_reason.proto` promises for it."""

from __future__ import annotations

import grpc.aio
import pytest
from image.v1.image_source_pb2 import ImageSource
from task.v1.task_service_pb2 import GetTaskRequest

from tests.integration.api.refusals import Refusal, refusal_of
from tests.integration.api.requests import damaged, grain, image, ttl
from tests.integration.api.synchronous import DEADLINE_S
from tests.stack import Calls

DOES_NOT_END = b"\x0a\x7fcat"


def assert_metadata(refusal: Refusal, reason: str, promised: dict[str, str]) -> None:
    """Exactly the promised keys, and the id of the task if there is one."""
    assert refusal.reason == reason
    task_id = refusal.trailers.get("task-id")
    assert refusal.metadata == ({**promised, "task_id": task_id} if task_id else promised)


@pytest.mark.xdist_group("api-queueing")
async def test_invalid_field_names_the_fields(calls: Calls) -> None:
    refusal = await refusal_of(calls.images.GenerateImageAsync(image(prompt="", seed=-5)))
    assert_metadata(refusal, "INVALID_FIELD", {"fields": "prompt,seed"})


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("/image.v1.ImageService/GenerateImage", "image.v1.GenerateImageRequest"),
        ("/image.v1.ImageService/GenerateSequentialImagesAsync", "image.v1.GenerateSequentialImagesRequest"),
        ("/task.v1.TaskService/WaitTask", "task.v1.WaitTaskRequest"),
    ],
)
@pytest.mark.xdist_group("api-queueing")
async def test_malformed_request_names_the_message(calls: Calls, method: str, message: str) -> None:
    unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = calls.channel.unary_unary(method)
    refusal = await refusal_of(unary(DOES_NOT_END))
    assert_metadata(refusal, "MALFORMED_REQUEST", {"message": message})


@pytest.mark.xdist_group("api-queueing")
async def test_model_not_found_names_the_model(calls: Calls) -> None:
    refusal = await refusal_of(calls.images.GenerateImageAsync(image(model="dall-e-9")))
    assert_metadata(refusal, "MODEL_NOT_FOUND", {"model": "dall-e-9"})


@pytest.mark.xdist_group("api-queueing")
async def test_task_not_found_names_the_task(calls: Calls) -> None:
    refusal = await refusal_of(calls.tasks.GetTask(GetTaskRequest(task_id="task_1234567890")))
    assert_metadata(refusal, "TASK_NOT_FOUND", {"task_id": "task_1234567890"})


@pytest.mark.xdist_group("api-queueing")
async def test_wait_expired_names_the_state(calls: Calls) -> None:
    refusal = await refusal_of(calls.images.GenerateImage(image(), timeout=DEADLINE_S))
    assert_metadata(refusal, "WAIT_EXPIRED", {"state": "PENDING"})


@pytest.mark.xdist_group("api-queueing")
async def test_task_expired_names_the_ttl(calls: Calls) -> None:
    refusal = await refusal_of(calls.images.GenerateImage(image(options=ttl(1)), timeout=30))
    assert_metadata(refusal, "TASK_EXPIRED", {"ttl_seconds": "1"})


@pytest.mark.xdist_group("api-working")
async def test_reference_unavailable_names_the_field(worked: Calls) -> None:
    sources = [ImageSource(data=grain(64)), ImageSource(data=damaged())]
    refusal = await refusal_of(worked.images.GenerateImage(image(reference_images=sources)))
    assert refusal.metadata["field"] in {"reference_images[1]", "reference_images[1].data"}
    assert_metadata(refusal, "REFERENCE_UNAVAILABLE", {"field": refusal.metadata["field"]})

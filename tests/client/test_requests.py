"""What a caller's keyword arguments become on the wire."""

from __future__ import annotations

from typing import Any, cast

import pytest
from image.v1.image_service_pb2 import (
    GenerateImageAsyncResponse,
    GenerateImageRequest,
    GenerateImageResponse,
    GenerateSequentialImagesRequest,
    OutputFormat,
    ResponseFormat,
)
from task.v1.task_pb2 import TaskPriority

from imagegen import ImageClient, OutputRef, RequestFields
from tests.client.scripted_server import TASK_ID, Context, ScriptedService

EVERYTHING: RequestFields = {
    "model": "local-canvas",
    "size": "2K",
    "watermark": True,
    "seed": 0,
    "guidance_scale": 2.5,
    "references": [b"\x89PNG", "https://example.com/a.png", OutputRef(task_id="T", index=3)],
    "quality": "hd",
    "output_format": "webp",
    "provider": "local",
    "negative_prompt": "rain",
    "request_id": "order-17",
    "user_id": "anna",
    "priority": "low",
    "ttl_s": 90.5,
    "labels": {"team": "art"},
    "max_paid_attempts": 1,
}


def assert_everything(request: GenerateImageRequest | GenerateSequentialImagesRequest) -> None:
    assert (request.prompt, request.model, request.size, request.quality) == (
        "a cat",
        "local-canvas",
        "2K",
        "hd",
    )
    assert request.watermark
    assert request.HasField("seed")
    assert request.seed == 0
    assert request.guidance_scale == 2.5
    sources = [source.WhichOneof("source") for source in request.reference_images]
    assert sources == ["data", "url", "output"]
    assert request.reference_images[0].data == b"\x89PNG"
    assert request.reference_images[2].output == OutputRef(task_id="T", index=3)
    assert request.output_format == OutputFormat.OUTPUT_FORMAT_WEBP
    assert (request.provider, request.negative_prompt) == ("local", "rain")
    assert (request.request_id, request.user_id) == ("order-17", "anna")
    assert request.options.priority == TaskPriority.TASK_PRIORITY_LOW
    assert request.options.ttl.ToMilliseconds() == 90_500
    assert dict(request.options.labels) == {"team": "art"}
    assert request.options.max_paid_attempts == 1


async def test_every_field_of_a_single_picture_arrives(client: ImageClient, service: ScriptedService) -> None:
    service.on("GenerateImage", GenerateImageResponse(task_id=TASK_ID))
    answer = await client.generate("a cat", response_format="bytes", **EVERYTHING)
    assert answer.task_id == TASK_ID
    [request] = service.asked("GenerateImage")
    assert_everything(request)
    assert request.response_format == ResponseFormat.RESPONSE_FORMAT_BYTES


async def test_every_field_of_a_sequence_arrives(client: ImageClient, service: ScriptedService) -> None:
    service.on("GenerateSequentialImages", GenerateImageResponse(task_id=TASK_ID))
    await client.generate_sequence("a cat", images=7, **EVERYTHING)
    [request] = service.asked("GenerateSequentialImages")
    assert_everything(request)
    assert request.max_images == 7


async def test_what_is_left_out_stays_unset(client: ImageClient, service: ScriptedService) -> None:
    service.on("GenerateImage", GenerateImageResponse(task_id=TASK_ID))
    await client.generate("a cat")
    [request] = service.asked("GenerateImage")
    assert not request.HasField("seed")
    assert not request.HasField("guidance_scale")
    assert not request.HasField("options")
    assert not request.watermark


async def test_submit_takes_the_asynchronous_methods(client: ImageClient, service: ScriptedService) -> None:
    service.on("GenerateImageAsync", GenerateImageAsyncResponse(task_id="one"))
    service.on("GenerateSequentialImagesAsync", GenerateImageAsyncResponse(task_id="many"))
    assert await client.submit("a cat", **EVERYTHING) == "one"
    assert await client.submit("a cat", images=3, **EVERYTHING) == "many"
    assert_everything(service.asked("GenerateImageAsync")[0])
    assert service.asked("GenerateSequentialImagesAsync")[0].max_images == 3


async def test_each_call_has_a_request_id_of_its_own(client: ImageClient, service: ScriptedService) -> None:
    service.on("GenerateImageAsync", GenerateImageAsyncResponse(task_id=TASK_ID))
    await client.submit("a cat")
    await client.submit("a cat")
    await client.submit("a cat", request_id="")
    first, second, none = (request.request_id for request in service.asked("GenerateImageAsync"))
    assert len(first) == len(second) == 36
    assert first != second
    assert none == ""


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"sise": "2K"}, TypeError),
        ({"output_format": "gif"}, ValueError),
        ({"priority": "urgent"}, ValueError),
        ({"seed": 2**31}, ValueError),
    ],
)
async def test_what_the_contract_cannot_carry_is_never_sent(
    fields: dict[str, Any], error: type[Exception], client: ImageClient, service: ScriptedService
) -> None:
    service.on("GenerateImageAsync", GenerateImageAsyncResponse(task_id=TASK_ID))
    with pytest.raises(error):
        await client.submit("a cat", **cast(RequestFields, fields))
    assert service.asked("GenerateImageAsync") == []


async def test_a_request_beyond_32_mib_is_never_sent(client: ImageClient, service: ScriptedService) -> None:
    service.on("GenerateImageAsync", GenerateImageAsyncResponse(task_id=TASK_ID))
    service.on("GenerateSequentialImagesAsync", GenerateImageAsyncResponse(task_id=TASK_ID))
    for images in (None, 4):
        with pytest.raises(ValueError, match=r"bytes, references included; allowed: 32 MiB"):
            await client.submit("a cat", images=images, references=[b"x" * (8 << 20)] * 4)
    assert service.asked("GenerateImageAsync") == service.asked("GenerateSequentialImagesAsync") == []


async def test_an_answer_beyond_the_default_limit_of_grpc_is_read(
    client: ImageClient, service: ScriptedService
) -> None:
    answer = GenerateImageResponse(task_id=TASK_ID)
    answer.images.add(data=b"x" * 5_000_000)
    service.on("GenerateImage", answer)
    assert len((await client.generate("a cat")).images[0].data) == 5_000_000


@pytest.mark.parametrize("ttl_s", [float("inf"), 1e15])
async def test_a_ttl_beyond_all_measure_is_a_wrong_value(client: ImageClient, ttl_s: float) -> None:
    with pytest.raises(ValueError, match="ttl_s"):
        await client.submit("a cat", ttl_s=ttl_s)


async def test_a_large_request_has_the_time_that_a_slow_line_takes(
    client: ImageClient, service: ScriptedService
) -> None:
    left: list[float] = []

    async def accept(request: GenerateImageRequest, context: Context) -> GenerateImageAsyncResponse:
        left.append(context.time_remaining())
        return GenerateImageAsyncResponse(task_id=TASK_ID)

    service.on("GenerateImageAsync", accept)
    await client.submit("a cat")
    await client.submit("a cat", references=[bytes(3_000_000)])
    assert left[0] < 21
    assert 40 < left[1] < 51


async def test_an_endless_wait_is_no_deadline_in_the_past(
    client: ImageClient, service: ScriptedService
) -> None:
    service.on("GenerateImage", GenerateImageResponse(task_id=TASK_ID))
    assert (await client.generate("a cat", timeout_s=float("inf"))).task_id == TASK_ID

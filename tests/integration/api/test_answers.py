"""What callers get for their pictures, through every rpc, from a deployment that makes them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator, Sequence

import aiohttp
import grpc
import pytest
from google.protobuf import json_format
from image.v1 import image_service_pb2 as pb
from image.v1.image_source_pb2 import ImageSource
from PIL import Image as Picture
from task.v1 import task_pb2
from task.v1.attempt_pb2 import ATTEMPT_OUTCOME_SUCCEEDED
from task.v1.image_pb2 import Image
from task.v1.task_service_pb2 import TASK_VIEW_BASIC, TASK_VIEW_FULL, GetTaskRequest, WaitTaskRequest

from tests.integration.api.refusals import refusal_of, refusal_of_stream
from tests.integration.api.requests import MIB, damaged, grain, image, output, sequence
from tests.stack import Calls

pytestmark = pytest.mark.xdist_group("api-working")

MAX_BYTES_ANSWER = 3 * MIB


def kinds(events: Sequence[pb.StreamSequentialImagesResponse]) -> list[str | None]:
    """What each event is; signs of life, which a slow machine calls for, are left out."""
    return [kind for event in events if (kind := event.WhichOneof("event")) != "progress"]


async def assert_downloads(made: Image) -> None:
    """The link leads to the picture that the answer describes."""
    async with aiohttp.ClientSession() as http, http.get(made.url) as response:
        assert response.status == 200
        assert response.content_type == made.mime_type
        raw = await response.read()
    assert len(raw) == made.size_bytes
    assert hashlib.sha256(raw).hexdigest() == made.sha256
    with Picture.open(io.BytesIO(raw)) as picture:
        picture.load()
        assert picture.size == (made.width_px, made.height_px)
        assert Picture.MIME[picture.format or ""] == made.mime_type


# --- bodies as users paste them -------------------------------------------------------------------------

CAT = "一只可爱的小猫在花园里玩耍"
BODY = f'{{"prompt":"{CAT}","model":"doubao-seedream-4-0-250828","size":"2K","watermark":true}}'
BODY_WITH_IDS = (
    f'{{"prompt":"{CAT}","model":"doubao-seedream-3.0-t2i","size":"1024x1024","guidance_scale":2.5,"seed":12345,'
    '"watermark":true,"response_format":"RESPONSE_FORMAT_URL","request_id":"req_001","user_id":"user_123"}'
)
SEQUENCE_BODY = (
    '{"prompt":"一只小猫的一天","model":"doubao-seedream-4-0-250828","size":"1K","max_images":2,'
    '"watermark":false,"requestId":"req_002","userId":"user_123"}'
)


async def test_a_pasted_body_gives_a_picture(worked: Calls) -> None:
    answer = await worked.images.GenerateImage(json_format.Parse(BODY, pb.GenerateImageRequest()))
    assert (answer.model, answer.provider) == ("doubao-seedream-4-0-250828", "local")
    assert (answer.usage.images, answer.usage.paid_calls) == (1, 0)
    (made,) = answer.images
    assert (made.index, made.width_px, made.height_px, made.mime_type) == (0, 2048, 2048, "image/png")
    assert not made.data
    assert not answer.data_omitted
    assert not answer.failures
    await assert_downloads(made)


async def test_a_pasted_body_with_ids_submits_and_can_be_waited_for(worked: Calls) -> None:
    request = json_format.Parse(BODY_WITH_IDS, pb.GenerateImageRequest())
    accepted = await worked.images.GenerateImageAsync(request)
    assert (accepted.model, accepted.provider) == ("doubao-seedream-3-0-t2i-250415", "local")
    task = (await worked.tasks.WaitTask(WaitTaskRequest(task_id=accepted.task_id))).task
    assert task.state == task_pb2.TASK_STATE_COMPLETED
    assert (task.request_id, task.user_id, task.prompt) == ("req_001", "user_123", CAT)
    assert task.image.images[0].seed == 12345
    await assert_downloads(task.image.images[0])


async def test_a_pasted_sequence_gives_each_picture_as_it_is_made(worked: Calls) -> None:
    request = json_format.Parse(SEQUENCE_BODY, pb.GenerateSequentialImagesRequest())
    events = [event async for event in worked.images.StreamSequentialImages(request)]
    assert kinds(events) == ["task_id", "image", "image", "task"]
    first, last = events[0], events[-1]
    made = [event for event in events if event.HasField("image")]
    assert [event.image.index for event in made] == [0, 1]
    assert last.task.task_id == first.task_id
    assert last.task.state == task_pb2.TASK_STATE_COMPLETED
    assert list(last.task.image.images) == [event.image for event in made]
    for event in made:
        await assert_downloads(event.image)


async def test_a_pasted_id_of_nobodys_task_is_not_found(worked: Calls) -> None:
    request = json_format.Parse('{"task_id":"task_1234567890"}', pb.GetImageTaskRequest())
    refusal = await refusal_of(worked.images.GetImageTask(request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")


# --- fields ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("doubao-seedream-4.0", "volcengine", "doubao-seedream-4-0-250828"),
        ("doubao-seedream-3.0-t2i", "", "doubao-seedream-3-0-t2i-250415"),
        ("jimeng_high_aes_general_v21_L", "volcengine", "jimeng_high_aes_general_v21_L"),
        ("dall-e-3", "openai", "dall-e-3"),
        ("local-canvas", " LOCAL ", "local-canvas"),
    ],
)
async def test_answers_name_the_model_and_who_stood_in_for_its_provider(
    worked: Calls, model: str, provider: str, name: str
) -> None:
    request = image(model=model, provider=provider, size="", options={"priority": "TASK_PRIORITY_CRITICAL"})
    accepted = await worked.images.GenerateImageAsync(request)
    assert (accepted.model, accepted.provider) == (name, "local")
    assert accepted.state == task_pb2.TASK_STATE_PENDING
    task = await worked.ended(accepted.task_id)
    assert (task.model, task.provider, task.priority) == (name, "local", task_pb2.TASK_PRIORITY_CRITICAL)
    assert task.state == task_pb2.TASK_STATE_COMPLETED


@pytest.mark.parametrize(
    ("number", "mime_type"),
    [
        (pb.OUTPUT_FORMAT_UNSPECIFIED, "image/png"),
        (pb.OUTPUT_FORMAT_PNG, "image/png"),
        (pb.OUTPUT_FORMAT_JPEG, "image/jpeg"),
        (pb.OUTPUT_FORMAT_WEBP, "image/webp"),
    ],
)
async def test_output_formats(worked: Calls, number: pb.OutputFormat, mime_type: str) -> None:
    answer = await worked.images.GenerateImage(image(output_format=number))
    assert answer.images[0].mime_type == mime_type
    await assert_downloads(answer.images[0])


async def test_bytes_come_with_the_answer(worked: Calls) -> None:
    request = sequence(max_images=2, response_format=pb.RESPONSE_FORMAT_BYTES)
    answer = await worked.images.GenerateSequentialImages(request)
    assert answer.ByteSize() <= MAX_BYTES_ANSWER
    assert not answer.data_omitted
    assert [made.index for made in answer.images] == [0, 1]
    for made in answer.images:
        assert len(made.data) == made.size_bytes
        assert hashlib.sha256(made.data).hexdigest() == made.sha256
        await assert_downloads(made)
    task = (await worked.tasks.GetTask(GetTaskRequest(task_id=answer.task_id))).task
    assert not any(made.data for made in task.image.images), "tasks never carry bytes"


async def test_bytes_that_would_make_the_answer_too_large_are_left_to_the_links(worked: Calls) -> None:
    source = ImageSource(data=grain(512))
    request = sequence(
        size="1536x1536", max_images=2, reference_images=[source], response_format=pb.RESPONSE_FORMAT_BYTES
    )
    answer = await worked.images.GenerateSequentialImages(request)
    assert sum(made.size_bytes for made in answer.images) > MAX_BYTES_ANSWER, "else this shows nothing"
    assert answer.data_omitted
    assert not any(made.data for made in answer.images)
    for made in answer.images:
        await assert_downloads(made)


async def test_views(worked: Calls) -> None:
    request = image(options={"labels": {"shop": "7", "a.b$c": ""}}, user_id="u")
    task_id = (await worked.images.GenerateImageAsync(request)).task_id
    ended = await worked.ended(task_id)
    whole = (await worked.tasks.GetTask(GetTaskRequest(task_id=task_id))).task
    assert whole == (await worked.tasks.GetTask(GetTaskRequest(task_id=task_id, view=TASK_VIEW_FULL))).task
    assert whole == (await worked.images.GetImageTask(pb.GetImageTaskRequest(task_id=task_id))).task
    assert whole == ended
    (attempt,) = whole.attempts
    assert (attempt.number, attempt.provider, attempt.outcome) == (1, "local", ATTEMPT_OUTCOME_SUCCEEDED)
    assert attempt.worker
    assert not attempt.paid
    assert dict(whole.labels) == {"shop": "7", "a.b$c": ""}
    times = [
        moment.ToNanoseconds()
        for moment in (whole.create_time, whole.start_time, attempt.sent_time, attempt.end_time)
    ]
    assert times == sorted(times)
    assert times[0] > 0
    assert whole.end_time.ToNanoseconds() >= times[-1]

    basic = (await worked.tasks.GetTask(GetTaskRequest(task_id=task_id, view=TASK_VIEW_BASIC))).task
    assert not basic.attempts
    basic.attempts.extend(whole.attempts)
    assert basic == whole, "nothing else is missing"


async def test_an_earlier_picture_as_reference(worked: Calls) -> None:
    first = await worked.images.GenerateSequentialImages(sequence(max_images=2, prompt="a lighthouse"))
    plain = await worked.images.GenerateImage(image(seed=7))
    request = image(seed=7, reference_images=[output(first.task_id, 1)])
    answer = await worked.images.GenerateImage(request)
    assert answer.images[0].sha256 != plain.images[0].sha256, "the reference is seen in the picture"
    again = await worked.images.GenerateImage(request)
    assert again.images[0].sha256 == answer.images[0].sha256


async def test_a_repeat_of_an_ended_request_gets_the_first_answer(worked: Calls) -> None:
    request = sequence(max_images=2, request_id="ended", response_format=pb.RESPONSE_FORMAT_BYTES)
    first = await worked.images.GenerateSequentialImages(request)
    assert await worked.images.GenerateSequentialImages(request) == first
    accepted = await worked.images.GenerateSequentialImagesAsync(request)
    assert (accepted.task_id, accepted.state) == (first.task_id, task_pb2.TASK_STATE_COMPLETED)
    events = [event async for event in worked.images.StreamSequentialImages(request)]
    assert kinds(events) == ["task_id", "image", "image", "task"]
    assert events[0].task_id == first.task_id


# --- tasks that fail ------------------------------------------------------------------------------------


async def test_a_failed_task_is_an_error_with_its_id_and_can_be_read(worked: Calls) -> None:
    request = image(reference_images=[ImageSource(data=damaged())], request_id="no image")
    refusal = await refusal_of(worked.images.GenerateImage(request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "REFERENCE_UNAVAILABLE")
    task_id = refusal.trailers["task-id"]
    assert refusal.metadata["task_id"] == task_id
    task = (await worked.tasks.GetTask(GetTaskRequest(task_id=task_id))).task
    assert task.state == task_pb2.TASK_STATE_FAILED
    assert task.error.code == grpc.StatusCode.ABORTED.value[0]
    assert task.error.message == refusal.text
    assert not task.error.retryable
    repeated = await refusal_of(worked.images.GenerateImage(request))
    assert (repeated.code, repeated.text, repeated.metadata) == (refusal.code, refusal.text, refusal.metadata)


async def test_a_failed_sequence_ends_its_stream_with_the_task_and_its_error(worked: Calls) -> None:
    request = sequence(reference_images=[ImageSource(data=damaged())], max_images=2)
    seen: list[str | None] = []

    async def events() -> AsyncIterator[str | None]:
        async for event in worked.images.StreamSequentialImages(request):
            seen.append(event.WhichOneof("event"))
            yield seen[-1]

    refusal = await refusal_of_stream(events())
    assert (seen[0], seen[-1]) == ("task_id", "task")
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "REFERENCE_UNAVAILABLE")
    assert refusal.trailers["task-id"] == refusal.metadata["task_id"]

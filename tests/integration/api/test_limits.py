"""The last values that are allowed are accepted, stored and queued."""

from __future__ import annotations

import pytest
from image.v1.image_service_pb2 import GenerateImageRequest
from image.v1.image_source_pb2 import ImageSource
from task.v1.task_service_pb2 import GetTaskRequest

from tests.integration.api.deployment import Deployment
from tests.integration.api.refusals import CALL_TIMEOUT_S
from tests.integration.api.requests import (
    DAY_S,
    MIB,
    SMALLEST_BYTES,
    SubmitRequest,
    data,
    exactly,
    flat,
    image,
    options,
    sequence,
    ttl,
)
from tests.stack import Calls

pytestmark = [pytest.mark.xdist_group("api-queueing"), pytest.mark.usefixtures("unharmed")]

ALLOWED: dict[str, SubmitRequest] = {
    "prompt 1": image(prompt="x"),
    "prompt 4,000": image(prompt="x" * 4_000),
    "prompt 4,000 wide": image(prompt="猫" * 4_000),
    "negative prompt 4,000": image(negative_prompt="x" * 4_000),
    "user_id 128": image(user_id="猫" * 128),
    "16 labels of 63/63": image(options=options(labels={f"{i:063}": "v" * 63 for i in range(16)})),
    "label value empty": image(options=options(labels={"a": ""})),
    "14 references": image(reference_images=[data(SMALLEST_BYTES)] * 14),
    "reference 15 x 240": image(reference_images=[ImageSource(data=flat(15, 240))]),
    "reference 36 megapixels": image(reference_images=[ImageSource(data=flat(6_000, 6_000))]),
    "reference 10 MiB": image(reference_images=[data(10 * MIB)]),
    "size with blanks": image(size=" 2k "),
    "size in capitals": image(size="128X128"),
    "size empty": image(size=""),
    "model empty": image(model="", size=""),
    "seed -1": image(seed=-1),
    "seed 0": image(seed=0),
    "seed greatest": image(seed=2**31 - 1),
    "guidance 1": image(guidance_scale=1.0),
    "guidance 10": image(guidance_scale=10.0),
    "quality standard": image(quality="standard"),
    "provider local": image(provider="local"),
    "ttl 1 s": image(options=ttl(1)),
    "ttl 7 days": image(options=ttl(7 * DAY_S)),
    "max_paid_attempts 1": image(options=options(max_paid_attempts=1)),
    "max_paid_attempts 10": image(options=options(max_paid_attempts=10)),
    "1 image": sequence(max_images=1),
    "15 images": sequence(max_images=15),
    "14 references + 1 image": sequence(max_images=1, reference_images=[data(SMALLEST_BYTES)] * 14),
    "11 references + 4 by default": sequence(reference_images=[data(SMALLEST_BYTES)] * 11),
}


@pytest.mark.parametrize("case", ALLOWED)
async def test_what_is_just_allowed_is_accepted(queueing: Deployment, calls: Calls, case: str) -> None:
    await assert_accepted(queueing, calls, ALLOWED[case])


async def test_a_request_of_32_mib_is_accepted(queueing: Deployment, calls: Calls) -> None:
    """Not one of the cases above: every process that collects tests would make it."""
    await assert_accepted(queueing, calls, exactly(32 * MIB))


async def assert_accepted(queueing: Deployment, calls: Calls, request: SubmitRequest) -> None:
    if isinstance(request, GenerateImageRequest):
        accepted = await calls.images.GenerateImageAsync(request, timeout=CALL_TIMEOUT_S)
    else:
        accepted = await calls.images.GenerateSequentialImagesAsync(request, timeout=CALL_TIMEOUT_S)
    kept = await queueing.settled()
    assert accepted.task_id in kept.tasks
    assert accepted.task_id in kept.queued


async def test_no_max_images_means_four(calls: Calls) -> None:
    accepted = await calls.images.GenerateSequentialImagesAsync(sequence(max_images=0))
    task = (await calls.tasks.GetTask(GetTaskRequest(task_id=accepted.task_id))).task
    assert task.progress.images_wanted == 4


async def test_a_request_id_of_128_characters_is_kept(queueing: Deployment, calls: Calls) -> None:
    before = queueing.kept()
    request = image(request_id="\U0010ffff" * 128)
    first = await calls.images.GenerateImageAsync(request)
    assert (await calls.images.GenerateImageAsync(request)).task_id == first.task_id
    kept = queueing.kept()
    assert len(kept.tasks - before.tasks) == 1
    assert len(kept.request_ids - before.request_ids) == 1

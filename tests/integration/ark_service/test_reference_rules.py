"""References outside a model's own rules are refused to their sender: no task is made, no vendor is asked."""

from __future__ import annotations

import io

import pytest
from image.v1.image_service_pb2 import GenerateImageRequest
from image.v1.image_source_pb2 import ImageSource
from PIL import Image

from tests.integration.api.deployment import Deployment
from tests.integration.api.refusals import assert_invalid, refusal_of
from tests.integration.api.requests import link, output
from tests.integration.picture_server import PictureServer
from tests.stack import Calls
from tests.upstreams import ArkUpstream

pytestmark = pytest.mark.xdist_group("ark-service")  # one service for all

SEEDEDIT = "doubao-seededit-3-0-i2i-250628"
SEEDREAM = "doubao-seedream-4-5-251128"


def picture(kind: str, width_px: int = 64, height_px: int = 48) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width_px, height_px), "teal").save(file, kind)
    return file.getvalue()


WRONG = {
    "webp": (picture("WEBP"), "is WEBP; allowed: JPEG, PNG"),
    "too long": (picture("PNG", 91, 30), "has 91x30 pixels; one side is at most 3 times the other"),
}


def edit(prompt: str, reference: ImageSource, model: str = SEEDEDIT) -> GenerateImageRequest:
    return GenerateImageRequest(prompt=prompt, model=model, reference_images=[reference])


@pytest.mark.parametrize(("data", "told"), WRONG.values(), ids=WRONG)
async def test_bytes_that_the_model_does_not_take(
    service: Deployment, calls: Calls, ark: ArkUpstream, data: bytes, told: str
) -> None:
    prompt = f"edit what {told}"
    before = await service.settled()
    refusal = await refusal_of(calls.images.GenerateImage(edit(prompt, ImageSource(data=data)), timeout=30))
    assert_invalid(refusal, {"reference_images[0].data": told})
    assert await service.settled() == before
    await calls.images.GenerateImage(edit(prompt, ImageSource(data=data), SEEDREAM), timeout=30)
    assert (ark.arrived[prompt], ark.last_body[prompt]["model"]) == (1, SEEDREAM), "another model takes it"


@pytest.mark.parametrize(("data", "told"), WRONG.values(), ids=WRONG)
async def test_a_link_to_what_the_model_does_not_take(
    service: Deployment, calls: Calls, ark: ArkUpstream, data: bytes, told: str
) -> None:
    prompt = f"edit what a link leads to, which {told}"
    before = await service.settled()
    async with PictureServer(heron=data) as server:
        request = edit(prompt, link(server.link("heron")))
        refusal = await refusal_of(calls.images.GenerateImage(request, timeout=30))
    assert_invalid(refusal, {"reference_images[0].url": f"leads to what {told}"})
    assert await service.settled() == before
    assert ark.arrived[prompt] == 0


async def test_what_is_just_within_the_rules_is_sent(calls: Calls, ark: ArkUpstream) -> None:
    prompt = "edit a long picture, and then the result"
    reference = ImageSource(data=picture("JPEG", 90, 30))
    made = await calls.images.GenerateImage(edit(prompt, reference), timeout=30)
    again = await calls.images.GenerateImage(edit(prompt, output(made.task_id)), timeout=30)
    assert len(again.images) == 1
    assert ark.billed[prompt] == 2

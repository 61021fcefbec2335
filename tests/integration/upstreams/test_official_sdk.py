"""The vendor's own client before the loopback Ark: what it sends is understood, what it reads is there."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image

from tests.integration.worker.scripted import picture
from tests.upstreams import ArkUpstream, PartlyFailed, Refusal

SEEDREAM_4 = "doubao-seedream-4-0-250828"
SEEDREAM_5 = "doubao-seedream-5-0-260128"
SEEDEDIT = "doubao-seededit-3-0-i2i-250628"
PROMPT = "a heron in the reeds"


@pytest.fixture
async def sdk(upstream: ArkUpstream) -> AsyncIterator[Any]:
    """The client; what goes wrong is told and not tried again."""
    # Here, because it takes most of a second, and every process that runs tests imports this module.
    from volcenginesdkarkruntime import AsyncArk

    client = AsyncArk(api_key="any", base_url=f"{upstream.base_url}/api/v3", max_retries=0)
    yield client
    await client.close()


def ark_error(name: str = "APIError") -> Any:
    """The class of one of its exceptions."""
    from volcenginesdkarkruntime import _exceptions

    return getattr(_exceptions, f"Ark{name}")


def group(images: int) -> Any:
    """Its way of asking for several images."""
    from volcenginesdkarkruntime.types.images import SequentialImageGenerationOptions

    return SequentialImageGenerationOptions(max_images=images)


def inline(kind: str = "PNG") -> str:
    """A reference image as a data URI."""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(picture(kind)).decode()}"


async def test_a_generation(upstream: ArkUpstream, sdk: Any) -> None:
    answer = await sdk.images.generate(
        model=SEEDREAM_4, prompt=PROMPT, size="2K", response_format="url", watermark=False
    )
    [made] = answer.data
    assert made.url.startswith(upstream.base_url)
    assert (answer.model, made.size, made.b64_json) == (SEEDREAM_4, "2048x2048", None)
    assert (answer.usage.generated_images, answer.usage.output_tokens) == (1, 16_384)
    assert upstream.pictures[PROMPT] == 1
    assert None in upstream.last_body[PROMPT].values(), "it sends what is not asked for as null"


async def test_bytes_in_the_answer(sdk: Any) -> None:
    answer = await sdk.images.generate(
        model=SEEDREAM_5, prompt=PROMPT, size="2K", response_format="b64_json", output_format="png"
    )
    with Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json))) as made:
        assert made.format == "PNG"


@pytest.mark.parametrize(
    ("model", "size", "image"),
    [
        (SEEDREAM_4, "2K", inline()),
        (SEEDREAM_4, "2K", [inline("JPEG"), inline("WEBP"), "https://images.example/heron.png"]),
        (SEEDEDIT, "adaptive", inline("JPEG")),
    ],
    ids=["one", "several", "SeedEdit"],
)
async def test_an_edit(upstream: ArkUpstream, sdk: Any, model: str, size: str, image: Any) -> None:
    answer = await sdk.images.generate(model=model, prompt=PROMPT, size=size, image=image)
    assert answer.data[0].url
    assert answer.usage.input_images == (len(image) if isinstance(image, list) else 1)
    assert upstream.last_body[PROMPT]["image"] == image


async def test_a_group_in_one_answer(sdk: Any) -> None:
    answer = await sdk.images.generate(
        model=SEEDREAM_4,
        prompt=PROMPT,
        sequential_image_generation="auto",
        sequential_image_generation_options=group(3),
    )
    assert len({made.url for made in answer.data}) == answer.usage.generated_images == 3


async def test_a_group_as_a_stream(upstream: ArkUpstream, sdk: Any) -> None:
    events = [event async for event in await _streamed(sdk)]
    assert [event.type.removeprefix("image_generation.") for event in events] == [
        *["partial_succeeded"] * 4,
        "completed",
    ]
    assert [event.image_index for event in events[:4]] == [0, 1, 2, 3]
    assert all(event.url and event.size == "2048x2048" for event in events[:4])
    assert events[4].usage["generated_images"] == 4
    assert upstream.billed[PROMPT] == 1


async def test_a_picture_that_failed_is_an_error_to_it(upstream: ArkUpstream, sdk: Any) -> None:
    """It gives the whole stream up then, with the pictures that were still to come: why we do not use it."""
    upstream.script(PROMPT, PartlyFailed((1,)))
    stream = await _streamed(sdk)
    assert (await anext(stream)).image_index == 0
    with pytest.raises(ark_error()) as caught:
        await anext(stream)
    assert caught.value.code == "OutputImageSensitiveContentDetected"
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert upstream.pictures[PROMPT] == 3


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "InputTextSensitiveContentDetected", "BadRequestError"),
        (401, "AuthenticationError", "AuthenticationError"),
        (403, "AccountOverdueError", "PermissionDeniedError"),
        (404, "ModelNotOpen", "NotFoundError"),
        (429, "ModelAccountIpmRateLimitExceeded", "RateLimitError"),
        (500, "InternalServiceError", "InternalServerError"),
    ],
)
async def test_a_failure(upstream: ArkUpstream, sdk: Any, status: int, code: str, error: str) -> None:
    upstream.script(PROMPT, Refusal(status, code))
    with pytest.raises(ark_error(error)) as caught:
        await sdk.images.generate(model=SEEDREAM_4, prompt=PROMPT)
    told: Any = caught.value
    assert (told.status_code, told.code) == (status, code)
    assert told.type == upstream_type(status)
    assert upstream.arrived[PROMPT] == 1


def upstream_type(status: int) -> str:
    """The envelope's `type`, the vendor's name of the HTTP class."""
    names = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound"}
    return {**names, 429: "TooManyRequests", 500: "InternalServerError"}[status]


async def test_what_the_model_does_not_take(sdk: Any) -> None:
    with pytest.raises(ark_error("BadRequestError")) as caught:
        await sdk.images.generate(model=SEEDREAM_4, prompt=PROMPT, seed=7)
    assert (caught.value.code, caught.value.param) == ("InvalidParameter.UnsupportedParameter", "seed")


async def _streamed(sdk: Any) -> Any:
    return await sdk.images.generate(
        model=SEEDREAM_4,
        prompt=PROMPT,
        size="2K",
        sequential_image_generation="auto",
        sequential_image_generation_options=group(4),
        stream=True,
    )

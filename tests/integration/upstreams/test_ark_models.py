"""The loopback Ark's rules, model by model, against the vendor's parameter table; and its streams."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from PIL import Image

from server.providers.sse import EventParser
from tests.upstreams import (
    ArkUpstream,
    CutMidResponse,
    Fault,
    Fewer,
    PartlyFailed,
    StreamCut,
    StreamFails,
)
from tests.upstreams.ark_models import MODELS

PROMPT = "a heron in the reeds"
GENERATIONS = "/api/v3/images/generations"
SEEDREAM_3 = "doubao-seedream-3-0-t2i-250415"
SEEDEDIT = "doubao-seededit-3-0-i2i-250628"
SEEDREAM_4 = "doubao-seedream-4-0-250828"
SEEDREAM_45 = "doubao-seedream-4-5-251128"
LITE = "doubao-seedream-5-0-260128"
PRO = "doubao-seedream-5-0-pro-260628"


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A plain HTTP client."""
    headers = {"Authorization": "Bearer any"}
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        yield session


def reference(width_px: int = 64, height_px: int = 48, *, kind: str = "png", said: str = "") -> str:
    """A picture as a data URI; of one bit a pixel and in runs of equal bytes: 36 megapixels are soon made."""
    file = io.BytesIO()
    Image.new("1", (width_px, height_px)).save(file, kind, compress_type=zlib.Z_RLE)
    return f"data:image/{said or kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def group(images: int) -> dict[str, Any]:
    return {
        "sequential_image_generation": "auto",
        "sequential_image_generation_options": {"max_images": images},
    }


# --- what each model takes ---------------------------------------------------------------------------

FIELDS: dict[str, dict[str, Any]] = {
    "seed": {"seed": 7},
    "scale": {"guidance_scale": 4.0},
    "image": {"image": reference()},
    "group": group(2),
    "stream": {"stream": True},
    "format": {"output_format": "png"},
    "search": {"tools": [{"type": "web_search"}]},
    "fast": {"optimize_prompt_options": {"mode": "fast"}},
    "1K": {"size": "1K"},
    "2K": {"size": "2K"},
    "3K": {"size": "3K"},
    "4K": {"size": "4K"},
    "1280x720": {"size": "1280x720"},
    "4096x4096": {"size": "4096x4096"},
    "adaptive": {"size": "adaptive"},
}
TAKEN = {
    SEEDREAM_3: {"seed", "scale", "1280x720"},
    SEEDEDIT: {"seed", "scale", "image", "adaptive"},
    SEEDREAM_4: {"image", "group", "stream", "fast", "1K", "2K", "4K", "1280x720", "4096x4096"},
    SEEDREAM_45: {"image", "group", "stream", "2K", "4K", "4096x4096"},
    LITE: {"image", "group", "stream", "format", "search", "2K", "3K", "4K", "4096x4096"},
    PRO: {"image", "format", "1K", "2K", "1280x720"},
}


@pytest.mark.parametrize("model", TAKEN)
@pytest.mark.parametrize("field", FIELDS)
async def test_a_model_takes_what_its_column_says(
    upstream: ArkUpstream, client: aiohttp.ClientSession, model: str, field: str
) -> None:
    body = {"model": model, "prompt": PROMPT, **FIELDS[field]}
    if model == SEEDEDIT:  # it edits: without an image there is nothing to do
        body.setdefault("image", reference())
    async with client.post(upstream.base_url + GENERATIONS, json=body) as answer:
        text = await answer.text()
        assert (answer.status == 200) is (field in TAKEN[model]), text
    assert upstream.billed[PROMPT] == (field in TAKEN[model])


def test_the_table_speaks_of_every_model() -> None:
    assert set(MODELS) == {*TAKEN, "doubao-seedream-5-0-lite-260128"}
    assert MODELS["doubao-seedream-5-0-lite-260128"] == MODELS[LITE]


@pytest.mark.parametrize(
    ("model", "images", "status"),
    [
        (SEEDREAM_4, [reference()] * 14, 200),
        (SEEDREAM_4, [reference()] * 15, 400),
        (PRO, [reference()] * 10, 200),
        (PRO, [reference()] * 11, 400),
        (SEEDEDIT, [], 400),
        (SEEDEDIT, [reference()] * 2, 400),
        (SEEDEDIT, reference(kind="webp"), 400),
        (SEEDEDIT, reference(90, 30), 200),
        (SEEDEDIT, reference(91, 30), 400),
        (SEEDREAM_4, reference(15, 240), 200),
        (SEEDREAM_4, reference(15, 241), 400),
        (SEEDREAM_4, reference(14, 64), 400),
        (SEEDREAM_4, reference(6_000, 6_000), 200),
        (SEEDREAM_4, reference(6_000, 6_001), 400),
        (SEEDREAM_4, reference(kind="tiff"), 200),
        (SEEDREAM_4, reference(kind="bmp"), 200),
        (SEEDREAM_4, reference(kind="gif"), 200),
        (SEEDREAM_4, reference(kind="png", said="jpeg"), 400),
        (SEEDREAM_4, reference(kind="png", said="PNG"), 400),
        (SEEDREAM_4, "data:image/png;base64," + base64.b64encode(b"no picture").decode(), 400),
        (SEEDREAM_4, "https://images.example/heron.png", 200),
        (SEEDREAM_4, "http://images.example/heron.png", 400),
        (SEEDREAM_4, [7], 400),
    ],
)
async def test_reference_images_have_limits(
    upstream: ArkUpstream, client: aiohttp.ClientSession, model: str, images: Any, status: int
) -> None:
    body = {"model": model, "prompt": PROMPT, "image": images}
    async with client.post(upstream.base_url + GENERATIONS, json=body) as answer:
        assert answer.status == status, await answer.text()


async def test_newer_models_say_which_format_a_picture_has(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    for model, wanted in ((LITE, "png"), (PRO, "jpeg"), (SEEDREAM_4, None)):
        body = {"model": model, "prompt": PROMPT, "output_format": wanted, "image": reference()}
        async with client.post(upstream.base_url + GENERATIONS, json=body) as answer:
            document = await answer.json()
        assert document["data"][0].get("output_format") == wanted
        assert document["usage"]["input_images"] == 1


# --- streams -----------------------------------------------------------------------------------------


async def streamed(
    client: aiohttp.ClientSession, upstream: ArkUpstream, images: int = 4, **fields: Any
) -> list[dict[str, Any]]:
    """The events of a streamed group; `[DONE]` is an empty one."""
    body = {"model": SEEDREAM_4, "prompt": PROMPT, "stream": True, **group(images), **fields}
    parser = EventParser(max_bytes=1_000_000)
    events: list[dict[str, Any]] = []
    async with client.post(upstream.base_url + GENERATIONS, json=body) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        assert answer.headers["X-Request-Id"]
        async for piece in answer.content.iter_any():
            for event in parser.feed(piece):
                events.append({} if event.data == "[DONE]" else json.loads(event.data))
                assert not events[-1] or event.name == events[-1]["type"]
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event.get("type", "DONE").removeprefix("image_generation.") for event in events]


async def test_a_stream_tells_every_picture_then_what_was_used(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    events = await streamed(client, upstream, size="2304x1728")
    assert kinds(events) == [*["partial_succeeded"] * 4, "completed", "DONE"]
    assert [event["image_index"] for event in events[:4]] == [0, 1, 2, 3]
    assert all(event["model"] == SEEDREAM_4 and event["size"] == "2304x1728" for event in events[:4])
    assert events[4]["usage"] == {
        "generated_images": 4,
        "output_tokens": 62_208,
        "total_tokens": 62_208,
    }
    async with client.get(events[3]["url"]) as picture:
        assert picture.status == 200
    assert (upstream.billed[PROMPT], upstream.pictures[PROMPT]) == (1, 4)
    assert len(upstream.event_times[PROMPT]) == 5


async def test_one_picture_may_be_streamed_too(upstream: ArkUpstream, client: aiohttp.ClientSession) -> None:
    single: dict[str, Any] = {
        "sequential_image_generation": "disabled",
        "sequential_image_generation_options": None,
    }
    events = await streamed(client, upstream, response_format="b64_json", **single)
    assert kinds(events) == ["partial_succeeded", "completed", "DONE"]
    assert base64.b64decode(events[0]["b64_json"]).startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("fault", "told", "pictures"),
    [
        (Fewer(2), [*["partial_succeeded"] * 2, "completed", "DONE"], 2),
        (
            PartlyFailed((1,)),
            ["partial_succeeded", "partial_failed", *["partial_succeeded"] * 2, "completed", "DONE"],
            3,
        ),
        (
            PartlyFailed((1,), "InternalServiceError"),
            ["partial_succeeded", "partial_failed", "completed", "DONE"],
            1,
        ),
        (StreamFails(2), ["partial_succeeded", "partial_succeeded", "error", "DONE"], 2),
        (StreamCut(2, clean=True), ["partial_succeeded"] * 2, 4),
    ],
    ids=lambda value: str(value) if isinstance(value, Fewer | PartlyFailed | StreamFails | StreamCut) else "",
)
async def test_a_stream_fails_as_told(
    upstream: ArkUpstream, client: aiohttp.ClientSession, fault: Fault, told: list[str], pictures: int
) -> None:
    upstream.script(PROMPT, fault)
    assert kinds(await streamed(client, upstream)) == told
    assert (upstream.billed[PROMPT], upstream.pictures[PROMPT]) == (1, pictures)


@pytest.mark.parametrize("fault", [StreamCut(2), StreamCut(0), CutMidResponse()], ids=str)
async def test_a_stream_is_reset_as_told(
    upstream: ArkUpstream, client: aiohttp.ClientSession, fault: Fault
) -> None:
    upstream.script(PROMPT, fault)
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
        await streamed(client, upstream)
    assert (upstream.billed[PROMPT], upstream.pictures[PROMPT]) == (1, 4)

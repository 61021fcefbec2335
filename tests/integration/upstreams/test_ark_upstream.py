"""The loopback Ark: bills what it accepts, fails as told, hands out working links."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from PIL import Image

from tests.upstreams import (
    ArkUpstream,
    CutAfterAccept,
    CutAfterBody,
    CutBeforeBody,
    CutMidResponse,
    Empty,
    Fault,
    Fewer,
    Gateway,
    LinkFails,
    NeverAnswers,
    PartlyFailed,
    Refusal,
    Unreadable,
)
from tests.waiting import until

MODEL = "doubao-seedream-4-0-250828"
PROMPT = "a heron in the reeds"
KEY = {"Authorization": "Bearer any"}


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A plain HTTP client; a connection per request."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(20)) as session:
        yield session


async def post(
    client: aiohttp.ClientSession,
    upstream: ArkUpstream,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> tuple[int, dict[str, Any]]:
    """Status and body of one call."""
    body = {"model": MODEL, "prompt": PROMPT, **fields}
    url = upstream.base_url + "/api/v3/images/generations"
    async with client.post(url, json=body, headers=KEY if headers is None else headers) as answer:
        return answer.status, await answer.json()


async def get(client: aiohttp.ClientSession, link: str) -> tuple[int, bytes]:
    async with client.get(link) as answer:
        return answer.status, await answer.read()


def group(images: int) -> dict[str, Any]:
    return {
        "sequential_image_generation": "auto",
        "sequential_image_generation_options": {"max_images": images},
    }


# --- answers -----------------------------------------------------------------------------------------


async def test_an_accepted_call_is_billed_and_its_picture_can_be_fetched(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    status, answer = await post(client, upstream, size="2K", watermark=False, seed=None, stream=None)
    assert status == 200
    assert answer["model"] == MODEL
    assert answer["usage"] == {"generated_images": 1, "output_tokens": 16384, "total_tokens": 16384}
    [entry] = answer["data"]
    assert entry["size"] == "2048x2048"
    status, data = await get(client, entry["url"])
    assert status == 200
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        assert picture.format == "JPEG"
    assert (upstream.billed, upstream.arrived, upstream.fetched) == ({PROMPT: 1}, {PROMPT: 1}, {PROMPT: 1})
    assert upstream.last_body[PROMPT]["watermark"] is False


async def test_a_group_has_its_pictures_in_one_call(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    _, answer = await post(client, upstream, **group(4))
    pictures = {(await get(client, entry["url"]))[1] for entry in answer["data"]}
    assert len(pictures) == 4
    assert answer["usage"]["generated_images"] == 4
    assert upstream.billed[PROMPT] == 1
    upstream.script(PROMPT, Fewer(2), PartlyFailed((1,), "OutputImageSensitiveContentDetected"))
    _, fewer = await post(client, upstream, **group(4))
    _, partly = await post(client, upstream, **group(3))
    assert len(fewer["data"]) == 2
    assert [sorted(entry) for entry in partly["data"]] == [["size", "url"], ["error"], ["size", "url"]]
    assert partly["usage"]["generated_images"] == 2


async def test_pictures_come_as_base64_when_asked(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    _, answer = await post(
        client,
        upstream,
        model="doubao-seedream-5-0-260128",
        response_format="b64_json",
        output_format="png",
    )
    [entry] = answer["data"]
    assert base64.b64decode(entry["b64_json"]).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": None}, 400, "MissingParameter"),
        ({"prompt": ""}, 400, "MissingParameter"),
        ({"model": "doubao-none"}, 404, "InvalidEndpointOrModel.NotFound"),
        ({"size": "8K"}, 400, "InvalidParameter"),
        ({"size": "64x64"}, 400, "InvalidParameter"),
        ({"size": "8192x256"}, 400, "InvalidParameter"),
        ({"seed": 7}, 400, "InvalidParameter.UnsupportedParameter"),
        ({"guidance_scale": 3.0}, 400, "InvalidParameter.UnsupportedParameter"),
        ({"output_format": "png"}, 400, "InvalidParameter.UnsupportedParameter"),
        ({"stream": "yes"}, 400, "InvalidParameter"),
        ({"watermark": "no"}, 400, "InvalidParameter"),
        ({"image": ["file:///etc/passwd"]}, 400, "InvalidImageURL.InvalidFormat"),
        ({"image": ["data:image/PNG;base64,AAAA"]}, 400, "InvalidImageURL.InvalidFormat"),
        ({"image": ["https://images.example/a.png"] * 15}, 400, "InvalidParameter"),
        (group(16), 400, "InvalidParameter"),
        ({**group(15), "image": ["data:image/png;base64,AAAA"]}, 400, "InvalidParameter"),
        ({"sequential_image_generation_options": {"max_images": 2}}, 400, "InvalidParameter"),
    ],
)
async def test_what_ark_does_not_take_is_refused_with_its_envelope(
    upstream: ArkUpstream, client: aiohttp.ClientSession, fields: dict[str, Any], status: int, code: str
) -> None:
    answered, answer = await post(client, upstream, **fields)
    assert (answered, answer["error"]["code"]) == (status, code)
    assert set(answer["error"]) == {"code", "message", "param", "type"}
    assert upstream.billed.total() == 0
    assert upstream.arrived.total() == 1


async def test_the_first_model_takes_a_seed_and_makes_no_groups(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    old: dict[str, Any] = {"model": "doubao-seedream-3-0-t2i-250415", "size": "864x1152"}
    assert (await post(client, upstream, **old, seed=7, guidance_scale=2.5))[0] == 200
    for fields in ({"seed": 2**31}, {"guidance_scale": 10.5}, {"size": "2K"}, group(2)):
        assert (await post(client, upstream, **{**old, **fields}))[0] == 400


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer "}, {"Authorization": "Basic any"}])
async def test_a_call_without_a_key_is_refused(
    upstream: ArkUpstream, client: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    status, answer = await post(client, upstream, headers)
    assert (status, answer["error"]["code"]) == (401, "AuthenticationError")
    assert upstream.billed.total() == 0


# --- faults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "arrived", "billed"),
    [(CutBeforeBody(), 0, 0), (CutAfterBody(), 1, 0), (CutAfterAccept(), 1, 1), (CutMidResponse(), 1, 1)],
    ids=lambda value: type(value).__name__ if isinstance(value, CutBeforeBody | CutAfterBody) else None,
)
@pytest.mark.parametrize("scripted", [True, False])
async def test_a_cut_is_a_broken_connection(
    upstream: ArkUpstream,
    client: aiohttp.ClientSession,
    fault: Fault,
    arrived: int,
    billed: int,
    scripted: bool,
) -> None:
    if scripted:
        upstream.script(PROMPT, fault)
    else:
        upstream.always(fault)
    with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError)):
        await post(client, upstream)
    assert (upstream.arrived[PROMPT], upstream.billed[PROMPT]) == (arrived, billed)
    upstream.always(None)
    assert (await post(client, upstream))[0] == 200


@pytest.mark.parametrize("billed", [True, False])
@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_gateway_answers_with_a_page(
    upstream: ArkUpstream, client: aiohttp.ClientSession, status: int, billed: bool
) -> None:
    upstream.script(PROMPT, Gateway(status, billed=billed))
    with pytest.raises(aiohttp.ContentTypeError) as caught:
        await post(client, upstream)
    assert caught.value.status == status
    assert upstream.billed[PROMPT] == billed


@pytest.mark.parametrize("billed", [True, False])
async def test_an_unreadable_answer_is_broken_json(
    upstream: ArkUpstream, client: aiohttp.ClientSession, billed: bool
) -> None:
    upstream.script(PROMPT, Unreadable(billed=billed))
    with pytest.raises(json.JSONDecodeError):
        await post(client, upstream)
    assert upstream.billed[PROMPT] == billed


async def test_an_answer_may_be_empty(upstream: ArkUpstream, client: aiohttp.ClientSession) -> None:
    upstream.script(PROMPT, Empty())
    status, answer = await post(client, upstream)
    assert (status, answer["data"]) == (200, [])
    assert upstream.billed[PROMPT] == 1


async def test_a_refusal_is_an_envelope_and_not_billed(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    upstream.script(PROMPT, Refusal(429, "ModelAccountIpmRateLimitExceeded", retry_after="7"))
    url = upstream.base_url + "/api/v3/images/generations"
    async with client.post(url, json={"model": MODEL, "prompt": PROMPT}, headers=KEY) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
        assert answer.headers["X-Request-Id"] in error["message"]
    assert (error["code"], error["type"]) == ("ModelAccountIpmRateLimitExceeded", "TooManyRequests")
    assert (upstream.billed[PROMPT], upstream.arrived[PROMPT]) == (0, 1)


async def test_faults_of_a_prompt_come_in_order_and_leave_others_alone(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    upstream.script(PROMPT, Refusal(500, "InternalServiceError"), Refusal(429, "ServerOverloaded"))
    upstream.always(Refusal(403, "AccessDenied"))
    statuses = [(await post(client, upstream))[0] for _ in range(3)]
    assert statuses == [500, 429, 403]
    upstream.always(None)
    assert (await post(client, upstream))[0] == 200
    assert (await post(client, upstream, prompt="another"))[0] == 200


# --- time --------------------------------------------------------------------------------------------


async def test_a_call_is_billed_before_its_answer_comes(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    upstream.hold(PROMPT)
    call = asyncio.create_task(post(client, upstream))
    await upstream.until_billed(PROMPT)
    assert (await post(client, upstream, prompt="another"))[0] == 200, "only its own calls are held"
    assert not call.done()
    upstream.release(PROMPT)
    assert (await call)[0] == 200
    with pytest.raises(AssertionError):
        await upstream.until_billed(PROMPT, 2, within_s=0.01)


async def test_a_slow_answer_takes_its_time(upstream: ArkUpstream, client: aiohttp.ClientSession) -> None:
    upstream.delay_s = 0.2
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert (await post(client, upstream))[0] == 200
    assert loop.time() - started >= 0.2


async def test_the_server_ends_although_calls_and_downloads_hang(client: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(10):
        async with ArkUpstream() as upstream:
            upstream.script(PROMPT, NeverAnswers())
            upstream.hold("held")
            upstream.hold_links("links")
            _, answer = await post(client, upstream, prompt="links")
            hanging = [
                asyncio.create_task(post(client, upstream)),
                asyncio.create_task(post(client, upstream, prompt="held")),
                asyncio.create_task(get(client, answer["data"][0]["url"])),
            ]
            await upstream.until_billed(PROMPT)
            await upstream.until_billed("held")
            await until(lambda: upstream.link_requests["links"], within_s=5)
        await asyncio.wait(hanging)
    assert isinstance(hanging[0].exception(), aiohttp.ClientError)


async def test_refused_calls_find_no_server_and_the_port_stays(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    address = upstream.base_url
    for _ in range(3):
        await upstream.refuse()
        await upstream.refuse()
        with pytest.raises(aiohttp.ClientConnectorError):
            await post(client, upstream)
        await upstream.accept()
        await upstream.accept()
        assert (await post(client, upstream))[0] == 200
    assert upstream.base_url == address
    assert upstream.arrived[PROMPT] == 3


async def test_a_call_under_way_lives_on_while_new_ones_are_refused(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    upstream.hold(PROMPT)
    call = asyncio.create_task(post(client, upstream))
    await upstream.until_billed(PROMPT)
    await upstream.refuse()
    upstream.release(PROMPT)
    assert (await call)[0] == 200


async def test_connections_that_carry_a_second_call_are_counted(upstream: ArkUpstream) -> None:
    async with aiohttp.ClientSession() as keeping:
        for _ in range(3):
            assert (await post(keeping, upstream))[0] == 200
    assert upstream.reused_connections == 2


# --- links -------------------------------------------------------------------------------------------


async def link_of(client: aiohttp.ClientSession, upstream: ArkUpstream) -> str:
    _, answer = await post(client, upstream)
    return str(answer["data"][0]["url"])


async def test_a_link_works_again_and_for_get_alone(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    link = await link_of(client, upstream)
    assert await get(client, link) == await get(client, link)
    async with client.head(link) as answer:
        assert answer.status == 405
    assert (await get(client, link[:-1]))[0] == 403
    assert (await get(client, upstream.base_url + "/outputs/none.png"))[0] == 403
    assert upstream.fetched[PROMPT] == 2


async def test_a_link_expires(upstream: ArkUpstream, client: aiohttp.ClientSession) -> None:
    upstream.link_life_s = 0.0
    assert (await get(client, await link_of(client, upstream)))[0] == 403


async def test_a_link_fails_as_often_as_told(upstream: ArkUpstream, client: aiohttp.ClientSession) -> None:
    upstream.script(PROMPT, LinkFails(503, times=2))
    link = await link_of(client, upstream)
    assert [(await get(client, link))[0] for _ in range(3)] == [503, 503, 200]
    assert (upstream.fetched[PROMPT], upstream.link_requests[PROMPT]) == (1, 3)


async def test_a_held_link_hangs_until_it_is_released(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    upstream.hold_links(PROMPT)
    download = asyncio.create_task(get(client, await link_of(client, upstream)))
    await until(lambda: upstream.link_requests[PROMPT], within_s=5)
    assert not download.done()
    assert upstream.fetched[PROMPT] == 0
    upstream.release_links(PROMPT)
    assert (await download)[0] == 200


async def test_a_key_that_goes_to_a_link_is_noticed(
    upstream: ArkUpstream, client: aiohttp.ClientSession
) -> None:
    link = await link_of(client, upstream)
    async with client.get(link, headers=KEY):
        pass
    assert upstream.keys_at_links == 1

"""What the Ark provider asks for, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
from typing import Any

import pytest

from server.domain.catalogue import Model
from server.domain.errors import Reason
from server.domain.request import MAX_SEED, OutputFormat
from server.providers import ark_request
from server.providers.ark import ArkProvider
from server.providers.catalogue import load_catalogue
from server.providers.contract import Generation, Sent
from server.providers.fetch import OutputFetcher
from tests.integration.providers.ark_calls import (
    KEY,
    PROMPT,
    SEEDREAM_3,
    SEEDREAM_4,
    Call,
    order,
)
from tests.integration.worker.scripted import picture
from tests.upstreams import ArkUpstream

GROUP = {"sequential_image_generation": "auto"}


# --- the request -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (order(), {"model": SEEDREAM_4, "size": "2048x2048", "watermark": False, "response_format": "url"}),
        (order(size_label="2K", watermark=True), {"size": "2K", "watermark": True}),
        (order(seed=9, guidance_scale=4.0), {"seed": None, "guidance_scale": None, "output_format": None}),
        (
            order(model=SEEDREAM_3, size=(864, 1152), seed=9, guidance_scale=4.0),
            {"model": SEEDREAM_3, "size": "864x1152", "seed": 9, "guidance_scale": 4.0},
        ),
        (order(model=SEEDREAM_3, size=(864, 1152)), {"seed": 7, "guidance_scale": None}),
        (order(model="doubao-seedream-5-0-260128"), {"output_format": "png", "seed": None}),
        (
            order(model="doubao-seedream-5-0-260128", output_format=OutputFormat.WEBP),
            {"output_format": None},
        ),
        (
            order(images=4, indexes=(0, 1, 2, 3)),
            {**GROUP, "stream": True, "sequential_image_generation_options": {"max_images": 4}},
        ),
        (order(images=4, indexes=(1, 3)), {"sequential_image_generation_options": {"max_images": 2}}),
        (order(), {"sequential_image_generation": None, "image": None, "stream": None}),
    ],
    ids=["pixels", "label", "no sampling", "sampling", "seed", "png", "webp", "group", "rest", "one image"],
)
async def test_the_request_says_what_the_model_takes(
    upstream: ArkUpstream, provider: ArkProvider, asked: Any, sent: dict[str, Any]
) -> None:
    call = Call()
    await call.make(provider, asked)
    body = upstream.last_body[PROMPT]
    assert {name: body.get(name) for name in sent} == sent
    assert None not in body.values(), "what is not asked for is left out"
    assert sorted(call.images) == list(asked.indexes)


async def test_reference_images_go_along_in_order(upstream: ArkUpstream, provider: ArkProvider) -> None:
    pictures = (picture("PNG"), picture("JPEG"), picture("WEBP"), picture("BMP"), picture("GIF"))
    await Call().make(provider, order(references=pictures))
    sources = upstream.last_body[PROMPT]["image"]
    heads = [source.split(";")[0] for source in sources]
    assert heads == [f"data:image/{name}" for name in ("png", "jpeg", "webp", "bmp", "gif")]
    assert [base64.b64decode(source.split(",")[1]) for source in sources] == list(pictures)
    await Call().make(provider, order(references=pictures[:1]))
    assert upstream.last_body[PROMPT]["image"] == sources[0], "a single one is no list"


async def test_a_reference_that_is_no_picture_is_never_sent(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    error = await Call().failure(provider, order(references=(picture(), b"<svg/>")))
    assert (error.sent, error.reason) == (Sent.NOT_SENT, Reason.REFERENCE_UNAVAILABLE)
    assert not error.retryable
    assert error.metadata == {"field": "reference_images[1]"}
    assert upstream.arrived.total() == 0


async def test_what_the_picture_is_not_to_show_is_said_in_words(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    await Call().make(provider, order(negative_prompt="people"))
    [prompt] = upstream.billed
    assert prompt == f"{PROMPT}\nDo not show: people"


async def test_requests_with_references_are_encoded_one_at_a_time(
    upstream: ArkUpstream, provider: ArkProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes several times the memory of its pictures for a moment."""
    real = ark_request.encoded
    both = threading.Barrier(2)
    met: list[int] = []

    def encoded(generation: Generation) -> bytes:
        with contextlib.suppress(threading.BrokenBarrierError):
            met.append(both.wait(timeout=0.2))
        return real(generation)

    monkeypatch.setattr(ark_request, "encoded", encoded)
    await asyncio.gather(*(Call().make(provider, order(references=(picture(),))) for _ in range(3)))
    assert not met, "two were being encoded"
    assert upstream.billed[PROMPT] == 3


async def test_a_request_may_be_large(upstream: ArkUpstream, provider: ArkProvider) -> None:
    large = picture() + b"\0" * (8 * 1024 * 1024)
    await Call().make(provider, order(references=(large, large)))
    assert upstream.billed[PROMPT] == 1


@pytest.mark.parametrize("path", ["", "/", "/api/v3", "/api/v3/"])
async def test_the_address_gets_its_path(upstream: ArkUpstream, path: str) -> None:
    fetcher = OutputFetcher(allow_private=True)
    provider = ArkProvider(api_key=f" {KEY}\n", base_url=upstream.base_url + path, fetcher=fetcher)
    await Call().make(provider, order())
    await provider.aclose()
    assert upstream.billed[PROMPT] == 1


async def test_every_call_has_a_connection_of_its_own(upstream: ArkUpstream, provider: ArkProvider) -> None:
    for _ in range(3):
        await Call().make(provider, order())
    assert upstream.billed[PROMPT] == 3
    assert upstream.reused_connections == 0


async def test_proxies_of_the_environment_are_not_used(
    upstream: ArkUpstream, provider: ArkProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    await Call().make(provider, order())
    assert upstream.fetched[PROMPT] == 1


# --- the catalogue -----------------------------------------------------------------------------------


def orders_of(model: Model) -> list[Generation]:
    """The largest orders that the catalogue admits of a model, in every size that it names."""
    route = model.route("ark")
    assert route is not None
    sizes = [(size, label) for label, size in model.sizes.labels.items()]
    sizes += [(size, "") for size in model.sizes.listed]
    default = model.sizes.resolve(model.sizes.default)
    assert default is not None
    sizes.append(default)
    return [
        order(
            model=route.upstream_model,
            size=(size.width_px, size.height_px),
            size_label=label,
            images=images,
            indexes=tuple(range(images)),
            references=(picture(),) * references,
            guidance_scale=10.0,
            seed=MAX_SEED,
        )
        for size, label in sizes
        for images in {1, model.max_images if route.parameters.groups else 1}
        for references in {model.min_references, min(model.max_references, 15 - images)}
    ]


@pytest.mark.parametrize(
    "asked",
    [asked for model in load_catalogue().models if model.route("ark") for asked in orders_of(model)],
    ids=lambda asked: f"{asked.upstream_model} {asked.request.size_label or asked.request.size}",
)
async def test_what_the_catalogue_admits_is_what_ark_takes(
    upstream: ArkUpstream, provider: ArkProvider, asked: Generation
) -> None:
    call = Call()
    await call.make(provider, asked)
    assert (call.failures, len(call.images)) == ([], asked.request.max_images)

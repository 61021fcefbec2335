"""What a call to Ark bought: the receipt, fetching again without buying, and how calls end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from server.domain.errors import Reason
from server.providers.ark import ArkProvider
from server.providers.contract import ImageFailed, MadeImage, ProviderError, Sent
from server.providers.fetch import OutputFetcher
from tests.integration.providers.ark_calls import (
    KEY,
    PROMPT,
    SEEDREAM_3,
    SEEDREAM_4,
    Call,
    ark,
    ended,
    order,
)
from tests.integration.providers.web_server import answering
from tests.upstreams import ArkUpstream, Fewer, LinkFails, PartlyFailed
from tests.waiting import until

# --- what was bought ---------------------------------------------------------------------------------


async def test_the_receipt_is_kept_before_anything_is_fetched(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    asked, kept = asyncio.Event(), asyncio.Event()

    async def keep_slowly() -> None:
        asked.set()
        await kept.wait()

    call = Call(before_receipt=keep_slowly)
    making = asyncio.create_task(call.make(provider, order(images=2, indexes=(0, 1))))
    await asked.wait()
    assert (upstream.billed[PROMPT], upstream.link_requests[PROMPT]) == (1, 0)
    kept.set()
    await making
    assert call.steps[0] == "receipt 0"
    assert sorted(call.steps[1:]) == ["image 0", "image 1", "receipt"]
    assert upstream.keys_at_links == 0


async def test_a_receipt_that_cannot_be_kept_ends_the_call(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    class Overtaken(Exception):
        pass

    async def refuse() -> None:
        raise Overtaken

    with pytest.raises(Overtaken):
        await Call(before_receipt=refuse).make(provider, order())
    assert upstream.link_requests[PROMPT] == 0


async def test_a_group_may_be_shorter_than_wanted(upstream: ArkUpstream, provider: ArkProvider) -> None:
    upstream.script(PROMPT, Fewer(2))
    call = Call()
    await call.make(provider, order(images=4, indexes=(0, 1, 2, 3)))
    assert (sorted(call.images), call.failures) == ([0, 1], [])


async def test_images_of_a_group_fail_on_their_own(upstream: ArkUpstream, provider: ArkProvider) -> None:
    upstream.script(PROMPT, PartlyFailed((1,), "OutputImageSensitiveContentDetected"))
    call = Call()
    await call.make(provider, order(images=5, indexes=(0, 2, 4)))
    assert sorted(call.images) == [0, 4]
    [failed] = call.failures
    assert (failed.index, failed.error.reason) == (2, Reason.CONTENT_POLICY_OUTPUT)
    assert not failed.error.retryable
    assert "This picture was not made" not in failed.error.message
    again = Call()
    await again.make(provider, order(images=5, indexes=(2, 4)), resume=call.receipt)
    assert again.failures == [failed], "the receipt remembers it"


@pytest.mark.parametrize(
    ("code", "reason", "retryable"),
    [
        ("OutputImageRiskDetection", Reason.CONTENT_POLICY_OUTPUT, False),
        ("InternalServiceError", Reason.PROVIDER_UNAVAILABLE, True),
        ("NewerThanTheTable", Reason.PROVIDER_UNAVAILABLE, True),
        ("", Reason.PROVIDER_UNAVAILABLE, True),
    ],
)
async def test_an_answer_of_failures_alone_is_a_refusal(
    upstream: ArkUpstream, provider: ArkProvider, code: str, reason: Reason, retryable: bool
) -> None:
    """Inside a 200 as outside: nothing was made, so nothing is charged."""
    upstream.script(PROMPT, PartlyFailed((0,), code))
    call = Call()
    error = await call.failure(provider, order())
    assert (error.sent, error.reason, error.retryable) == (Sent.REJECTED, reason, retryable)
    assert (call.steps, upstream.pictures[PROMPT]) == ([], 0)


@pytest.mark.parametrize("answer", [{"data": [{"url": ""}]}, {"data": [{"url": None}], "usage": {}}])
async def test_a_picture_without_a_link_is_in_doubt(answer: dict[str, object]) -> None:
    """It was made, and charged: that its link is missing makes no refusal of it."""
    call = Call()
    async with before(answer) as provider:
        error = await call.failure(provider, order())
    assert (error.sent, error.retryable, call.steps) == (Sent.IN_DOUBT, True, [])


async def test_more_charged_than_named_is_in_doubt_and_what_was_named_is_noted() -> None:
    call = Call()
    answer = {"data": [{"url": "http://127.0.0.1:9/0.png"}], "usage": {"generated_images": 2}}
    async with before(answer) as provider:
        await call.failure(provider, order(model=SEEDREAM_3, images=2, indexes=(0, 1)))
    assert call.steps == ["receipt 0"], "the other one is in doubt"


@asynccontextmanager
async def before(answer: Mapping[str, object]) -> AsyncIterator[ArkProvider]:
    """The provider before a server that answers every call so."""

    async def answered(_: web.Request) -> web.Response:
        return web.json_response(answer)

    async with answering(answered) as base_url:
        fetcher = OutputFetcher(allow_private=True)
        provider = ArkProvider(api_key=KEY, base_url=base_url, fetcher=fetcher)
        async with aclosing(provider):
            yield provider


@pytest.mark.parametrize(("model", "seed"), [(SEEDREAM_3, 7), (SEEDREAM_4, -1)])
async def test_a_seed_is_told_where_the_model_takes_one(provider: ArkProvider, model: str, seed: int) -> None:
    call = Call()
    await call.make(provider, order(model=model, size=(1280, 720)))
    assert call.images[0].seed == seed


# --- resuming ----------------------------------------------------------------------------------------


async def test_resuming_fetches_what_was_bought_and_buys_nothing(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    bought = Call()
    asked = order(images=3, indexes=(0, 1, 2))
    await bought.make(provider, asked)
    later = ark(upstream)  # another process
    await upstream.until_billed(PROMPT)
    resumed = Call()
    await resumed.make(later, order(images=3, indexes=(1, 2)), resume=bought.receipt)
    await later.aclose()
    assert upstream.billed[PROMPT] == upstream.arrived[PROMPT] == 1
    assert sorted(resumed.steps) == ["image 1", "image 2"], "no other image, no second receipt"
    assert resumed.images[2].data == bought.images[2].data


@pytest.mark.parametrize("receipt", ["nonsense", "{}", '{"links":[],"failures":[]}', "[1]"])
async def test_a_receipt_of_somebody_else_buys_nothing(
    upstream: ArkUpstream, provider: ArkProvider, receipt: str
) -> None:
    error = await Call().failure(provider, order(), resume=receipt)
    assert (error.reason, error.retryable) == (Reason.OUTPUT_FETCH_FAILED, False)
    assert upstream.arrived.total() == 0


@pytest.mark.parametrize(("status", "unlikely"), [(503, False), (429, False), (404, True), (403, True)])
async def test_a_link_that_fails_holds_up_no_other_and_costs_nothing(
    upstream: ArkUpstream, provider: ArkProvider, status: int, unlikely: bool
) -> None:
    upstream.script(PROMPT, LinkFails(status))
    call, asked = Call(), order(images=2, indexes=(0, 1))
    error = await call.failure(provider, asked)
    assert (error.sent, error.reason) == (Sent.IN_DOUBT, Reason.OUTPUT_FETCH_FAILED)
    assert (error.retryable, error.unlikely) == (True, unlikely)
    assert call.steps == ["receipt 0", "receipt"]
    assert upstream.link_requests[PROMPT] == 2
    await call.make(provider, asked, resume=call.receipt)
    assert sorted(call.images) == [0, 1]
    assert upstream.billed[PROMPT] == 1


async def test_bytes_that_are_no_picture_hold_up_no_other(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    """The worker cannot use the first image: the ones after it are handed over all the same."""
    kept: list[int] = []

    async def receipt(text: str, /, *, so_far: tuple[int, ...] = ()) -> None:
        assert text

    async def keep(image: MadeImage | ImageFailed) -> None:
        if image.index == 0:
            raise ProviderError(
                "It cannot be decoded.", sent=Sent.IN_DOUBT, reason=Reason.OUTPUT_FETCH_FAILED, retryable=True
            )
        kept.append(image.index)

    asked = order(images=3, indexes=(0, 1, 2))
    with pytest.raises(ProviderError, match="cannot be decoded"):
        await provider.generate(asked, timeout_s=20, progress=keep, receipt=receipt)
    assert sorted(kept) == [1, 2]


async def test_one_link_that_may_still_work_makes_the_failure_a_retryable_one(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    call = Call()
    await call.make(provider, order(images=3, indexes=(0, 1, 2)))
    document = json.loads(call.receipt)
    asked, again = order(images=3, indexes=(0, 1, 2)), Call()

    async def hope(index: int, link: str) -> tuple[bool, bool]:
        document["links"][str(index)] = link
        error = await again.failure(provider, asked, resume=json.dumps(document))
        assert error.reason is Reason.OUTPUT_FETCH_FAILED
        return error.retryable, error.unlikely

    assert await hope(2, "ftp://nowhere.example/2.png") == (False, False)
    assert sorted(again.images) == [0, 1]
    assert await hope(0, document["links"]["0"][:-1]) == (True, True), "its signature is wrong: 403"
    assert await hope(1, "http://127.0.0.1:9/1.png") == (True, False), "nobody listens there"


async def test_a_link_that_hangs_ends_with_the_call(upstream: ArkUpstream, provider: ArkProvider) -> None:
    upstream.hold_links(PROMPT)
    call = Call()
    error = await call.failure(provider, order(), timeout_s=2.0)
    assert (error.reason, error.retryable) == (Reason.OUTPUT_FETCH_FAILED, True)
    upstream.release_links(PROMPT)
    await call.make(provider, order(), resume=call.receipt)
    assert upstream.billed[PROMPT] == 1


async def test_the_time_to_keep_an_image_is_not_the_providers(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    loop, kept = asyncio.get_running_loop(), []

    async def keep(image: MadeImage | ImageFailed) -> None:
        end = loop.time() + 0.8
        await until(lambda: loop.time() > end, within_s=5)
        kept.append(image.index)

    async def note(receipt: str, /, *, so_far: tuple[int, ...] = ()) -> None:
        pass

    asked = order(images=3, indexes=(0, 1, 2))
    await provider.generate(asked, timeout_s=2.0, progress=keep, receipt=note)
    assert sorted(kept) == [0, 1, 2]


# --- ends --------------------------------------------------------------------------------------------


async def test_a_cancelled_call_ends_at_once_and_stays_billed(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    upstream.hold(PROMPT)
    making = asyncio.create_task(Call().make(provider, order()))
    await upstream.until_billed(PROMPT)
    making.cancel()
    async with asyncio.timeout(2):
        assert await _cancelled(making)
    assert upstream.billed[PROMPT] == 1


async def _cancelled(making: asyncio.Task[Any]) -> bool:
    await asyncio.wait({making})
    return making.cancelled()


async def test_closing_it_ends_calls_under_way_in_doubt(upstream: ArkUpstream, provider: ArkProvider) -> None:
    upstream.hold(PROMPT)
    making = asyncio.create_task(Call().make(provider, order()))
    await upstream.until_billed(PROMPT)
    await provider.aclose()
    upstream.release(PROMPT)
    async with asyncio.timeout(5):
        error = await ended(making)
    assert isinstance(error, ProviderError)
    assert error.sent is Sent.IN_DOUBT


async def test_many_calls_at_once_do_not_mix(upstream: ArkUpstream, provider: ArkProvider) -> None:
    upstream.delay_s = 0.05
    calls = {f"prompt {n}": Call() for n in range(100)}
    async with asyncio.TaskGroup() as group:
        for prompt, call in calls.items():
            group.create_task(call.make(provider, order(prompt=prompt)))
    assert all(upstream.billed[prompt] == upstream.fetched[prompt] == 1 for prompt in calls)
    assert len({call.images[0].data for call in calls.values()}) == 100


async def test_nothing_wanted_buys_nothing(upstream: ArkUpstream, provider: ArkProvider) -> None:
    call = Call()
    await call.make(provider, order(images=4, indexes=()))
    assert (call.steps, call.failures) == ([], [])
    assert upstream.arrived.total() == 0

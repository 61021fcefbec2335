"""Groups: one streamed call, every image on its own, and what a stream that breaks off leaves behind."""

from __future__ import annotations

import asyncio
import json

import pytest
import structlog
from structlog.testing import capture_logs

from server.domain.errors import Reason
from server.domain.request import MAX_SEED
from server.providers.ark import ArkProvider
from server.providers.catalogue import load_catalogue
from server.providers.contract import ImageFailed, MadeImage, Sent
from tests.integration.providers.ark_calls import KEY, PROMPT, SEEDREAM_3, TIMEOUT_S, Call, order
from tests.upstreams import (
    ArkUpstream,
    CutMidResponse,
    Fault,
    Fewer,
    LinkFails,
    PartlyFailed,
    Refusal,
    StreamCut,
    StreamFails,
)
from tests.waiting import until

FOUR = order(images=4, indexes=(0, 1, 2, 3))


async def test_an_image_is_handed_over_while_the_others_are_made(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    upstream.hold_stream(PROMPT, after=2)
    call = Call()
    making = asyncio.create_task(call.make(provider, FOUR))
    await until(lambda: sorted(call.images) == [0, 1], within_s=5)
    assert call.steps[0] == "receipt 0", "noted first"
    assert "receipt" not in call.steps, "the call may still buy more"
    assert not making.done()
    upstream.release_stream(PROMPT)
    await making
    assert call.failures == []
    assert (sorted(call.images), call.steps.count("receipt")) == ([0, 1, 2, 3], 1)
    assert (upstream.billed[PROMPT], upstream.pictures[PROMPT]) == (1, 4)


async def test_a_slow_download_keeps_nobody_from_reading_on(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    upstream.hold_links(PROMPT)
    call = Call()
    making = asyncio.create_task(call.make(provider, FOUR))
    await until(lambda: "receipt" in call.steps, within_s=5, what="the end of the stream")
    assert call.images == {}
    upstream.release_links(PROMPT)
    await making
    assert sorted(call.images) == [0, 1, 2, 3]


async def test_a_slow_store_keeps_nobody_from_reading_on(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    kept = asyncio.Event()

    async def keep_slowly() -> None:
        await kept.wait()

    call = Call(before_receipt=keep_slowly)
    making = asyncio.create_task(call.make(provider, FOUR))
    await until(lambda: len(upstream.event_times[PROMPT]) >= 4, within_s=5, what="the whole stream")
    assert upstream.link_requests[PROMPT] == 0, "nothing is fetched before it is noted"
    kept.set()
    await making
    assert sorted(call.images) == [0, 1, 2, 3]


async def test_everything_is_noted_while_an_image_is_being_kept(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    """The output store is away: what Ark has named is in the receipt all the same."""
    named: list[tuple[int, ...]] = []
    back = asyncio.Event()

    async def note(receipt: str, /, *, so_far: tuple[int, ...] = ()) -> None:
        named.append(so_far)

    async def keep(image: MadeImage | ImageFailed) -> None:
        await back.wait()

    making = asyncio.create_task(
        provider.generate(FOUR, timeout_s=TIMEOUT_S, progress=keep, receipt=note), name="call"
    )
    await until(lambda: named and named[-1] == (), within_s=5, what="the last word of the receipt")
    assert named == [(0,), (0, 1), (0, 1, 2), ()]
    back.set()
    await making


async def test_what_failed_is_told_although_a_link_is_dead(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    upstream.script(PROMPT, PartlyFailed((1,)))
    upstream.link_life_s = -1.0
    call = Call()
    error = await call.failure(provider, FOUR)
    assert error.reason is Reason.OUTPUT_FETCH_FAILED
    assert [(failed.index, failed.error.reason) for failed in call.failures] == [
        (1, Reason.CONTENT_POLICY_OUTPUT)
    ]


async def test_one_that_is_stopped_loses_no_other(upstream: ArkUpstream, provider: ArkProvider) -> None:
    upstream.script(PROMPT, PartlyFailed((1,)))
    call = Call()
    await call.make(provider, FOUR)
    [failed] = call.failures
    assert (failed.index, failed.error.reason) == (1, Reason.CONTENT_POLICY_OUTPUT)
    assert sorted(call.images) == [0, 2, 3]
    assert upstream.pictures[PROMPT] == 3


async def test_the_model_may_decide_on_fewer(upstream: ArkUpstream, provider: ArkProvider) -> None:
    upstream.script(PROMPT, Fewer(2))
    call = Call()
    await call.make(provider, FOUR)
    assert call.failures == []
    assert sorted(call.images) == [0, 1]
    assert "receipt" in call.steps, "that is all: nothing is in doubt"


@pytest.mark.parametrize(
    "fault", [StreamCut(2), StreamCut(2, clean=True), CutMidResponse()], ids=["reset", "end", "half"]
)
async def test_a_stream_that_breaks_off_is_in_doubt_and_what_came_is_kept(
    upstream: ArkUpstream, provider: ArkProvider, fault: Fault
) -> None:
    upstream.script(PROMPT, fault)
    call = Call()
    error = await call.failure(provider, FOUR)
    assert (error.sent, error.reason) == (Sent.IN_DOUBT, Reason.PROVIDER_UNAVAILABLE)
    assert error.retryable
    assert sorted(call.images) == [0, 1]
    assert "receipt" not in call.steps, "nobody knows what else was made"
    again = Call()
    await again.make(provider, order(images=4, indexes=(0, 1)), resume=call.receipt)
    assert again.images == call.images
    assert upstream.arrived[PROMPT] == 1


async def test_a_failure_that_was_told_is_not_asked_for_again(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    """The stream breaks off after the second image was stopped: its receipt says so."""
    upstream.hold_stream(PROMPT, after=2)
    upstream.script(PROMPT, PartlyFailed((1,)))
    call = Call()
    making = asyncio.create_task(call.make(provider, FOUR))
    await until(lambda: "receipt 0 1" in call.steps, within_s=5)
    making.cancel()
    await asyncio.wait({making})
    again = Call()
    await again.make(provider, order(images=4, indexes=(0, 1)), resume=call.receipt)
    assert ([one.index for one in again.failures], sorted(again.images)) == ([1], [0])


async def test_an_error_that_nothing_mends_is_the_error_of_the_rest(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    """Also when what came before it cannot be fetched yet: the answer is whole, and its receipt says so."""
    upstream.script(PROMPT, StreamFails(2, "OutputImageSensitiveContentDetected"))
    upstream.hold_links(PROMPT)
    call = Call()
    error = await call.failure(provider, FOUR, timeout_s=1.0)
    assert (error.reason, error.retryable) == (Reason.OUTPUT_FETCH_FAILED, True)
    assert call.steps[-1] == "receipt", "that is all"
    assert {one.index: one.error.reason for one in call.failures} == dict.fromkeys(
        [2, 3], Reason.CONTENT_POLICY_OUTPUT
    )
    upstream.release_links(PROMPT)
    await call.make(provider, FOUR, resume=call.receipt)
    assert (sorted(call.images), upstream.arrived[PROMPT]) == ([0, 1], 1)


@pytest.mark.parametrize(
    "code", ["InternalServiceError", "ServerOverloaded", "ContentSecurityDetectionError"]
)
async def test_an_error_that_may_pass_leaves_the_rest_of_a_half_made_group_in_doubt(
    upstream: ArkUpstream, provider: ArkProvider, code: str
) -> None:
    """A picture was in work: it is not free to be asked for again, and no wait for capacity either."""
    upstream.script(PROMPT, StreamFails(2, code))
    call = Call()
    error = await call.failure(provider, FOUR)
    assert (error.sent, error.reason, error.retryable) == (Sent.IN_DOUBT, Reason.PROVIDER_UNAVAILABLE, True)
    assert not error.no_capacity
    assert (sorted(call.images), "receipt" in call.steps) == ([0, 1], False)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("InternalServiceError", Reason.PROVIDER_UNAVAILABLE),
        ("OutputImageSensitiveContentDetected", Reason.CONTENT_POLICY_OUTPUT),
    ],
)
async def test_an_error_before_anything_was_made_is_a_refusal(
    upstream: ArkUpstream, provider: ArkProvider, code: str, reason: Reason
) -> None:
    upstream.script(PROMPT, StreamFails(0, code))
    call = Call()
    error = await call.failure(provider, FOUR)
    assert (error.sent, error.reason, call.steps) == (Sent.REJECTED, reason, [])


async def test_a_group_of_failures_alone_is_a_refusal(upstream: ArkUpstream, provider: ArkProvider) -> None:
    """Nothing was made, so nothing is charged: `usage` counts the pictures that were."""
    upstream.script(PROMPT, PartlyFailed((0, 1, 2, 3)))
    call = Call()
    error = await call.failure(provider, FOUR)
    assert (error.sent, error.reason, error.retryable) == (Sent.REJECTED, Reason.CONTENT_POLICY_OUTPUT, False)
    assert (call.steps, upstream.pictures[PROMPT]) == ([], 0)


async def test_a_group_is_refused_like_any_call(upstream: ArkUpstream, provider: ArkProvider) -> None:
    upstream.script(PROMPT, Refusal(429, "ModelAccountIpmRateLimitExceeded", retry_after="2"))
    error = await Call().failure(provider, FOUR)
    assert (error.no_capacity, error.retry_after_s, error.sent) == (True, 2.0, Sent.REJECTED)


async def test_links_of_a_group_fail_on_their_own(upstream: ArkUpstream, provider: ArkProvider) -> None:
    upstream.script(PROMPT, LinkFails(503))
    call = Call()
    assert (await call.failure(provider, FOUR)).reason is Reason.OUTPUT_FETCH_FAILED
    assert upstream.link_requests[PROMPT] == 4
    await call.make(provider, FOUR, resume=call.receipt)
    assert (sorted(call.images), upstream.billed[PROMPT]) == ([0, 1, 2, 3], 1)


async def test_neither_key_nor_links_get_into_logs_or_errors(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    with capture_logs() as logs:
        for fault in (StreamCut(2), StreamCut(2, clean=True), StreamFails(2, "Odd code\n"), StreamFails(1)):
            upstream.script(PROMPT, fault)
            error = await Call().failure(provider, FOUR)
            structlog.get_logger().error("the worker's own line", exc_info=error, error=repr(error))
    text = json.dumps(logs, default=repr)
    for secret in (KEY, "X-Tos-Signature", "/outputs/", "Odd code", "The stream was ended"):
        assert secret not in text
    told = [line for line in logs if line["event"].startswith("Ark's stream")]
    assert len(told) == 3, "the reset is a broken connection, and told as such"
    assert all(line["upstream_request_id"] for line in told), "operators can ask the vendor"


@pytest.mark.parametrize(
    ("model", "groups"),
    [
        ("doubao-seedream-3-0-t2i-250415", False),
        ("doubao-seededit-3-0-i2i-250628", False),
        ("doubao-seedream-4-0-250828", True),
        ("doubao-seedream-4-5-251128", True),
        ("doubao-seedream-5-0-260128", True),
        ("doubao-seedream-5-0-lite-260128", True),
        ("doubao-seedream-5-0-pro-260628", False),
    ],
)
def test_groups_are_the_models_matter(model: str, groups: bool) -> None:
    assert load_catalogue().find(model).routes[0].parameters.groups is groups


@pytest.mark.parametrize(("seed", "seeds"), [(7, [7, 8]), (MAX_SEED, [MAX_SEED, 0])])
async def test_images_that_are_calls_of_their_own_have_seeds_of_their_own(
    upstream: ArkUpstream, provider: ArkProvider, seed: int, seeds: list[int]
) -> None:
    sent = []
    for index in (0, 1):
        call = Call()
        asked = order(model=SEEDREAM_3, size=(1280, 720), images=2, indexes=(index,), seed=seed)
        await call.make(provider, asked)
        sent.append(upstream.last_body[PROMPT]["seed"])
        assert call.images[index].seed == sent[-1]
        assert "sequential_image_generation" not in upstream.last_body[PROMPT]
    assert sent == seeds

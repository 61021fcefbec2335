"""What the worker relies on in every provider of sequences: groups, single images, failures, resuming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from server.domain.errors import Reason
from server.providers.ark import ArkProvider
from server.providers.contract import Generation, ImageFailed, MadeImage, Provider, ProviderError, Sent
from server.providers.fetch import OutputFetcher
from server.providers.local import LocalProvider
from tests.contract.test_providers import Receipts, fit, order
from tests.upstreams import ArkUpstream, Fault, PartlyFailed, Refusal, StreamCut
from tests.waiting import until

PROMPT = "four seasons of one mountain"
TIMEOUT_S = 30.0


@dataclass(kw_only=True)
class Maker:
    """A provider, a model of it, and whether one call makes a whole sequence there."""

    provider: Provider
    groups: bool
    model: str = ""
    upstream: ArkUpstream | None = None
    images: dict[int, bytes] = field(default_factory=dict)
    """What it handed over."""
    failures: list[ImageFailed] = field(default_factory=list)
    receipts: Receipts = field(default_factory=Receipts)

    def calls(self, *indexes: int) -> list[Generation]:
        """The calls by which the worker has these images of a sequence of four made."""
        steps = [indexes] if self.groups else [(index,) for index in indexes]
        asked = [fit(self.provider, order(prompt=PROMPT, indexes=step, images=4)) for step in steps]
        return [replace(one, upstream_model=self.model) for one in asked] if self.model else asked

    async def make(self, call: Generation, *, resume: str = "") -> None:
        """Make one call."""

        async def keep(image: MadeImage | ImageFailed) -> None:
            if isinstance(image, ImageFailed):
                self.failures.append(image)
                return
            assert image.index not in self.images, "handed over twice"
            self.images[image.index] = image.data

        await self.provider.generate(
            call, timeout_s=TIMEOUT_S, progress=keep, receipt=self.receipts.note, resume=resume
        )

    async def failure(self, call: Generation) -> ProviderError:
        """Make one call that fails; its error."""
        with pytest.raises(ProviderError) as caught:
            await self.make(call)
        return caught.value

    def fails(self, *faults: Fault) -> None:
        """What its next calls meet."""
        assert self.upstream is not None
        self.upstream.script(PROMPT, *faults)

    @property
    def bought(self) -> int:
        """How many calls were charged."""
        return self.upstream.billed[PROMPT] if self.upstream else 0


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What is to be closed at the end."""
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def groups(stack: AsyncExitStack) -> Maker:
    """A model of Ark that makes groups."""
    return await ark(stack, "doubao-seedream-4-0-250828", groups=True)


@pytest.fixture
async def singles(stack: AsyncExitStack) -> Maker:
    """A model of Ark that makes one image per call."""
    return await ark(stack, "doubao-seedream-3-0-t2i-250415", groups=False)


@pytest.fixture
async def local(stack: AsyncExitStack) -> Maker:
    """The local provider."""
    provider = LocalProvider()
    stack.push_async_callback(provider.aclose)
    return Maker(provider=provider, groups=True)


async def ark(stack: AsyncExitStack, model: str, *, groups: bool) -> Maker:
    """Ark's adapter with this model, before a loopback Ark."""
    upstream = await stack.enter_async_context(ArkUpstream())
    fetcher = OutputFetcher(allow_private=True)
    provider = ArkProvider(api_key="any", base_url=upstream.base_url, fetcher=fetcher)
    stack.push_async_callback(provider.aclose)
    return Maker(provider=provider, groups=groups, model=model, upstream=upstream)


@pytest.fixture(params=["local", "groups", "singles"])
def maker(request: pytest.FixtureRequest) -> Maker:
    """Each of them in turn."""
    made: Maker = request.getfixturevalue(request.param)
    return made


@pytest.mark.parametrize("indexes", [(0, 1, 2, 3), (1, 3), (3,)])
async def test_the_wanted_images_of_a_sequence_are_made_and_no_two_are_alike(
    maker: Maker, indexes: tuple[int, ...]
) -> None:
    calls = maker.calls(*indexes)
    for call in calls:
        await maker.make(call)
    assert maker.failures == []
    assert sorted(maker.images) == list(indexes)
    assert len(set(maker.images.values())) == len(indexes)
    assert maker.bought == (len(calls) if maker.provider.paid else 0)
    assert len(maker.receipts) == maker.bought, "each call has one receipt that says: that is all"


async def test_a_crash_in_between_leaves_only_the_missing_images_to_be_made(maker: Maker) -> None:
    """The worker is gone after two images: whoever takes over asks for the other two."""
    for call in maker.calls(0, 1):
        await maker.make(call)
    first = dict(maker.images)
    for call in maker.calls(*(index for index in range(4) if index not in maker.images)):
        await maker.make(call)
    assert sorted(maker.images) == [0, 1, 2, 3]
    assert {index: maker.images[index] for index in first} == first


async def test_one_image_that_is_refused_fails_alone_in_a_group(groups: Maker) -> None:
    groups.fails(PartlyFailed((1,)))
    [call] = groups.calls(0, 1, 2, 3)
    await groups.make(call)
    [failed] = groups.failures
    assert (failed.index, failed.error.reason, failed.error.retryable) == (
        1,
        Reason.CONTENT_POLICY_OUTPUT,
        False,
    )
    assert failed.error.message
    assert sorted(groups.images) == [0, 2, 3]
    groups.images.clear()
    await groups.make(call, resume=groups.receipts[0])
    assert groups.failures == [failed, failed], "the receipt remembers it"
    assert (sorted(groups.images), groups.bought) == ([0, 2, 3], 1)


async def test_one_image_that_is_refused_is_a_refused_call_where_each_has_its_own(singles: Maker) -> None:
    singles.fails(Refusal(400, "OutputImageSensitiveContentDetected"))
    refused, *others = singles.calls(0, 1, 2)
    error = await singles.failure(refused)
    assert (error.sent, error.reason, error.retryable) == (
        Sent.REJECTED,
        Reason.CONTENT_POLICY_OUTPUT,
        False,
    )
    for call in others:
        await singles.make(call)
    assert (sorted(singles.images), singles.bought) == ([1, 2], 2)


async def test_what_a_broken_call_named_is_handed_over_once_more_and_not_bought_again(
    groups: Maker,
) -> None:
    groups.fails(StreamCut(2))
    [call] = groups.calls(0, 1, 2, 3)
    error = await groups.failure(call)
    assert (error.sent, error.retryable) == (Sent.IN_DOUBT, True)
    assert list(groups.receipts) == [], "nobody said that this is all"
    so_far, receipt = groups.receipts.early[-1]
    assert so_far == tuple(sorted(groups.images)) == (0, 1)
    first, groups.images = groups.images, {}
    await groups.make(replace(call, indexes=so_far), resume=receipt)
    assert (groups.images, groups.bought) == (first, 1)
    [rest] = groups.calls(2, 3)
    await groups.make(rest)
    assert (sorted(groups.images), groups.bought) == ([0, 1, 2, 3], 2)


async def test_a_call_that_is_cancelled_half_way_has_named_what_it_gave(groups: Maker) -> None:
    assert groups.upstream is not None
    groups.upstream.hold_stream(PROMPT, after=1)
    [call] = groups.calls(0, 1, 2, 3)
    making = asyncio.create_task(groups.make(call))
    await until(lambda: groups.images, within_s=5, what="the first image")
    making.cancel()
    async with asyncio.timeout(2):
        await asyncio.wait({making})
    assert making.cancelled()
    [(so_far, receipt)] = groups.receipts.early
    first, groups.images = groups.images, {}
    await groups.make(replace(call, indexes=so_far), resume=receipt)
    assert (groups.images, groups.bought) == (first, 1)

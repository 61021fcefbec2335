"""What the worker relies on in every provider: one suite, run over each."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from PIL import Image

from server.domain.catalogue import Parameters
from server.domain.errors import Reason
from server.domain.request import ImageRequest, OutputFormat, Size
from server.providers.ark import ArkProvider
from server.providers.contract import Generation, ImageFailed, MadeImage, Provider, ProviderError, Sent
from server.providers.fetch import OutputFetcher
from server.providers.local import LocalProvider
from tests.upstreams import ArkUpstream

TIMEOUT_S = 30.0
STORED = "references/" + "0" * 64


@pytest.fixture
async def local() -> AsyncIterator[Provider]:
    """The local provider: what it draws depends on the order alone."""
    made = LocalProvider()
    yield made
    await made.aclose()


@pytest.fixture
async def ark() -> AsyncIterator[Provider]:
    """Ark's adapter before a loopback Ark."""
    async with ArkUpstream() as upstream:
        made = ArkProvider(
            api_key="any", base_url=upstream.base_url, fetcher=OutputFetcher(allow_private=True)
        )
        yield made
        await made.aclose()


@pytest.fixture(params=["local", "ark"])
def provider(request: pytest.FixtureRequest) -> Provider:
    """Each provider in turn."""
    made: Provider = request.getfixturevalue(request.param)
    return made


def order(
    *,
    prompt: str = "a desert at noon",
    indexes: tuple[int, ...] = (0,),
    images: int = 1,
    width_px: int = 96,
    height_px: int = 64,
    seed: int = 7,
    output_format: OutputFormat = OutputFormat.PNG,
    watermark: bool = False,
    references: tuple[bytes, ...] = (),
) -> Generation:
    """A small picture, or a sequence of them."""
    return Generation(
        task_id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
        upstream_model="local-canvas",
        request=ImageRequest(
            prompt=prompt,
            size=Size(width_px=width_px, height_px=height_px),
            seed=seed,
            output_format=output_format,
            watermark=watermark,
            references=(STORED,) * len(references),
            sequence=images > 1,
            max_images=images,
        ),
        references=references,
        indexes=indexes,
    )


def fit(provider: Provider, generation: Generation) -> Generation:
    """The order in words of the provider: its own model, of a size that this makes."""
    if provider.name != "ark":
        return generation
    request = replace(generation.request, size=Size(width_px=1280, height_px=720))
    takes = Parameters(watermark=True, groups=True)
    return replace(generation, upstream_model="doubao-seedream-4-0-250828", parameters=takes, request=request)


class Receipts(list[str]):
    """The receipts of answered calls; in `early` those that were given while more was to come."""

    def __init__(self) -> None:
        super().__init__()
        self.early: list[tuple[tuple[int, ...], str]] = []

    async def note(self, receipt: str, /, *, so_far: tuple[int, ...] = ()) -> None:
        if so_far:
            self.early.append((so_far, receipt))
        else:
            self.append(receipt)


async def made_by(provider: Provider, generation: Generation) -> list[MadeImage]:
    """What arrives, in order."""
    arrived: list[MadeImage] = []

    async def keep(image: MadeImage | ImageFailed) -> None:
        assert isinstance(image, MadeImage)
        arrived.append(image)

    receipts = Receipts()
    await provider.generate(
        fit(provider, generation), timeout_s=TIMEOUT_S, progress=keep, receipt=receipts.note
    )
    assert len(receipts) == (provider.paid and len(generation.indexes) > 0), "one that says: that is all"
    return arrived


async def one(provider: Provider, generation: Generation) -> bytes:
    [image] = await made_by(provider, generation)
    return image.data


def a_picture(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (80, 60), colour).save(buffer, "PNG")
    return buffer.getvalue()


# --- itself ------------------------------------------------------------------------------------------


def test_it_says_who_it_is(provider: Provider) -> None:
    assert provider.name
    assert provider.name == provider.name.lower()
    assert provider.capacity >= 1
    assert isinstance(provider.paid, bool)


async def test_it_may_be_closed_twice(provider: Provider) -> None:
    await one(provider, order())
    await provider.aclose()
    await provider.aclose()


async def test_it_may_be_closed_unused(provider: Provider) -> None:
    await provider.aclose()


# --- images ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indexes", [(0,), (2,), (0, 1, 2, 3), (3, 1), ()])
async def test_every_wanted_image_arrives_once_and_no_other(
    provider: Provider, indexes: tuple[int, ...]
) -> None:
    arrived = await made_by(provider, order(indexes=indexes, images=4))
    assert sorted(image.index for image in arrived) == sorted(indexes)
    assert len({image.data for image in arrived}) == len(indexes), "no two alike"


@pytest.mark.parametrize("output_format", list(OutputFormat))
@pytest.mark.parametrize(("width_px", "height_px"), [(96, 64), (65, 201), (256, 256)])
async def test_an_image_is_a_whole_picture_of_the_size_and_format_asked_for(
    local: Provider, output_format: OutputFormat, width_px: int, height_px: int
) -> None:
    data = await one(local, order(width_px=width_px, height_px=height_px, output_format=output_format))
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        assert picture.size == (width_px, height_px)
        assert Image.MIME[picture.format or ""] == output_format.mime_type
        assert len(picture.convert("RGB").getcolors(maxcolors=2**24) or ()) > 50, "no flat colour"


async def test_the_seed_comes_back_with_the_image(local: Provider) -> None:
    [image] = await made_by(local, order(seed=2**31 - 1))
    assert image.seed == 2**31 - 1


async def test_an_image_is_kept_before_the_next_is_handed_over(provider: Provider) -> None:
    keeping = 0

    async def keep(image: MadeImage | ImageFailed) -> None:
        nonlocal keeping
        keeping += 1
        assert keeping == 1
        await asyncio.sleep(0.01)
        keeping -= 1

    asked = fit(provider, order(indexes=(0, 1, 2), images=3))
    await provider.generate(asked, timeout_s=TIMEOUT_S, progress=keep, receipt=Receipts().note)
    assert keeping == 0


async def test_an_image_that_cannot_be_kept_ends_the_call(provider: Provider) -> None:
    """The worker's own exception comes through as it is, and nothing more is made."""

    class Overtaken(Exception):
        pass

    kept: list[int] = []

    async def keep(image: MadeImage | ImageFailed) -> None:
        kept.append(image.index)
        raise Overtaken

    asked = fit(provider, order(indexes=(0, 1, 2), images=3))
    with pytest.raises(Overtaken):
        await provider.generate(asked, timeout_s=TIMEOUT_S, progress=keep, receipt=Receipts().note)
    assert len(kept) == 1


@pytest.mark.parametrize("images", [1, 3])
async def test_what_a_receipt_stands_for_is_handed_over_again(provider: Provider, images: int) -> None:
    """A provider that charges names every image before it comes; with a receipt the same images come."""
    named: set[int] = set()
    arrived: dict[int, bytes] = {}
    receipts = Receipts()

    async def keep(image: MadeImage | ImageFailed) -> None:
        assert isinstance(image, MadeImage)
        assert image.index in named or not provider.paid, "handed over before it was noted"
        arrived[image.index] = image.data

    async def note(receipt: str, /, *, so_far: tuple[int, ...] = ()) -> None:
        named.update(so_far or asked.indexes)
        await receipts.note(receipt, so_far=so_far)

    asked = fit(provider, order(indexes=tuple(range(images)), images=images))
    await provider.generate(asked, timeout_s=TIMEOUT_S, progress=keep, receipt=note)
    assert len(receipts) == provider.paid, "one that says: that is all"
    first = dict(arrived)
    for indexes, receipt in [*receipts.early, *((asked.indexes, receipt) for receipt in receipts)]:
        arrived.clear()
        wanted = replace(asked, indexes=indexes)
        await provider.generate(wanted, timeout_s=TIMEOUT_S, progress=keep, receipt=note, resume=receipt)
        assert arrived == {index: first[index] for index in indexes}
    assert len(receipts) == provider.paid, "fetching gives no receipt"


async def test_calls_at_once_do_not_mix(local: Provider) -> None:
    orders = [order(seed=seed) for seed in range(6)]
    alone = [await one(local, generation) for generation in orders]
    together = await asyncio.gather(*(one(local, generation) for generation in orders))
    assert together == alone


async def test_a_cancelled_call_ends_at_once(provider: Provider) -> None:
    call = asyncio.create_task(made_by(provider, order(indexes=(0, 1, 2), images=3)))
    await asyncio.sleep(0)
    call.cancel()
    async with asyncio.timeout(2):
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_the_event_loop_stays_free(local: Provider) -> None:
    call = asyncio.create_task(made_by(local, order(width_px=640, height_px=480)))
    turns = 0
    while not call.done():
        await asyncio.sleep(0.001)
        turns += 1
    await call
    assert turns >= 5


# --- determinism -------------------------------------------------------------------------------------


async def test_the_same_order_gives_the_same_bytes(local: Provider) -> None:
    generation = order(indexes=(1,), images=3)
    assert await one(local, generation) == await one(local, generation)


async def test_a_retry_of_missing_images_gives_the_same_ones(local: Provider) -> None:
    """The images still wanted do not depend on which were asked for together."""
    whole = {i.index: i.data for i in await made_by(local, order(indexes=(0, 1, 2), images=3))}
    rest = {i.index: i.data for i in await made_by(local, order(indexes=(2,), images=3))}
    assert rest == {2: whole[2]}


@pytest.mark.parametrize(
    "other",
    [
        order(seed=8),
        order(prompt="a lighthouse by the sea"),
        order(watermark=True),
        order(references=(a_picture(),)),
        order(indexes=(1,), images=2),
    ],
    ids=["seed", "prompt", "watermark", "reference", "index"],
)
async def test_what_is_asked_for_shows(local: Provider, other: Generation) -> None:
    assert await one(local, order()) != await one(local, other)


# --- references --------------------------------------------------------------------------------------


async def test_references_are_used_in_every_form(local: Provider) -> None:
    pictures = [await one(local, order(references=(a_picture(c),))) for c in ("red", "blue")]
    assert pictures[0] != pictures[1]
    fourteen = order(references=(a_picture(),) * 14)
    assert await one(local, fourteen)


@pytest.mark.parametrize(
    "bad",
    [b"no picture", a_picture()[:60], b"\x89PNG\r\n\x1a\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>"],
    ids=["text", "half a picture", "a signature", "svg"],
)
@pytest.mark.parametrize("place", [0, 1])
async def test_an_unreadable_reference_is_refused_for_good(local: Provider, bad: bytes, place: int) -> None:
    references = [a_picture(), a_picture()]
    references[place] = bad
    arrived: list[MadeImage | ImageFailed] = []

    async def keep(image: MadeImage | ImageFailed) -> None:
        arrived.append(image)

    with pytest.raises(ProviderError) as caught:
        await local.generate(
            order(references=tuple(references)), timeout_s=TIMEOUT_S, progress=keep, receipt=Receipts().note
        )
    error = caught.value
    assert (error.sent, error.reason) == (Sent.REJECTED, Reason.REFERENCE_UNAVAILABLE)
    assert not error.retryable
    assert not error.no_capacity
    assert error.message
    assert "Traceback" not in error.message
    assert "PIL" not in error.message
    assert arrived == []


async def test_after_a_refusal_it_goes_on(provider: Provider) -> None:
    bad = order(references=(b"no picture",))
    with pytest.raises(ProviderError):
        await made_by(provider, bad)
    assert await one(provider, replace(bad, references=(a_picture(),)))

"""References by link over gRPC: the same picture as from bytes, and an answer before the deadline."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import pytest
from image.v1.image_source_pb2 import ImageSource

from tests.integration.api.deployment import Deployment, called, deployed
from tests.integration.api.refusals import assert_invalid, refusal_of
from tests.integration.api.requests import grain, image, link
from tests.integration.api.synchronous import DEADLINE_S
from tests.integration.picture_server import SIGNATURE, PictureServer
from tests.stack import Calls

pytestmark = pytest.mark.xdist_group("api-reading")

PICTURE = grain(64)


@pytest.fixture(scope="module")
def reading() -> Iterator[Deployment]:
    """A deployment with a worker, that reads links to the loopback."""
    with deployed(OUTPUT_FETCH_ALLOW_PRIVATE="true") as deployment:
        deployment.stack.start("worker")
        yield deployment


@pytest.fixture
async def read(reading: Deployment) -> AsyncIterator[Calls]:
    async with called(reading) as calls:
        yield calls


async def test_a_link_gives_what_its_bytes_give(reading: Deployment, read: Calls) -> None:
    async with PictureServer(picture=PICTURE) as server:
        by_link = await read.images.GenerateImage(
            image(seed=7, reference_images=[link(server.link("to/picture"))])
        )
        assert server.asked["picture"] == 1
    by_bytes = await read.images.GenerateImage(image(seed=7, reference_images=[ImageSource(data=PICTURE)]))
    assert by_link.images[0].sha256 == by_bytes.images[0].sha256
    logs = [log.read_text() for log in reading.stack.directory.glob("*.log")]
    assert len(logs) == 2
    assert not any(SIGNATURE in log for log in logs)


async def test_a_slow_server_costs_no_deadline_and_leaves_no_task(reading: Deployment, read: Calls) -> None:
    before = await reading.settled()
    async with PictureServer(picture=PICTURE) as server:
        server.open.clear()
        started = time.monotonic()
        refusal = await refusal_of(
            read.images.GenerateImage(
                image(reference_images=[link(server.link("picture"))]), timeout=DEADLINE_S
            )
        )
        assert time.monotonic() - started < DEADLINE_S
    assert_invalid(refusal, {"reference_images[0].url": "send a link that works now, or the picture"})
    assert await reading.settled() == before

"""Settings left as they are: no link leads a process to an inner address, while its vendor may have one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

import pytest
from image.v1.image_service_pb2 import GenerateImageRequest
from task.v1.error_reason_pb2 import ERROR_REASON_OUTPUT_FETCH_FAILED
from task.v1.task_pb2 import TASK_STATE_FAILED
from task.v1.task_service_pb2 import GetTaskRequest

from tests.integration.api.deployment import Deployment, called, deployed
from tests.integration.api.refusals import assert_invalid, refusal_of
from tests.integration.api.requests import image, link
from tests.stack import Calls
from tests.upstreams import ArkUpstream
from tests.upstreams.wire import HOST, bound

pytestmark = pytest.mark.xdist_group("links-inward")

NOT_PUBLIC = "leads to an address that is not public"
INWARD = [
    ("http://127.0.0.1", "is not one of the form https://host/"),
    ("https://127.0.0.1", NOT_PUBLIC),
    ("https://localhost", NOT_PUBLIC),
]
"""Where links lead, the port left out, and what is said of them."""


class Door:
    """A listening port of the loopback that counts who connects; an async context manager."""

    def __init__(self) -> None:
        self.port = 0
        self._connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, HOST, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()

    async def _connected(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        writer.close()

    async def others(self) -> int:
        """How many have connected before. Who asks connects as well, and so knows that it is counted."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        assert await reader.read() == b"", "it has been its turn, and so that of all before it"
        writer.close()
        assert self._connections >= 1
        return self._connections - 1


@pytest.fixture(scope="module")
def ark_port() -> Iterator[int]:
    """A port that nobody else gets."""
    place = bound(0)
    yield int(place.getsockname()[1])
    place.close()


@pytest.fixture(scope="module")
def careful(ark_port: int) -> Iterator[Deployment]:
    """An API process and a worker that know a vendor on the loopback, and are told nothing of links."""
    with deployed(IMAGE_API_KEY="any", IMAGE_BASE_URL=f"http://{HOST}:{ark_port}") as deployment:
        deployment.stack.start("worker")
        yield deployment


@pytest.fixture
async def calls(careful: Deployment) -> AsyncIterator[Calls]:
    async with called(careful) as stubs:
        yield stubs


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with Door() as listening:
        yield listening


@pytest.mark.parametrize(("host", "told"), INWARD)
async def test_a_worker_buys_from_its_vendor_and_fetches_nothing_from_inside(
    calls: Calls, door: Door, ark_port: int, host: str, told: str
) -> None:
    prompt = f"results at {host}"
    async with ArkUpstream(port=ark_port) as ark:
        ark.links_at = f"{host}:{door.port}"
        request = GenerateImageRequest(prompt=prompt, model="doubao-seedream-4-5-251128")
        refusal = await refusal_of(calls.images.GenerateImage(request, timeout=30))
        assert ark.billed[prompt] == 1, "the vendor is where IMAGE_BASE_URL says, and is asked once"
    assert refusal.reason == "OUTPUT_FETCH_FAILED"
    assert f"The vendor's link to a made image {told}" in refusal.text
    task = (await calls.tasks.GetTask(GetTaskRequest(task_id=refusal.metadata["task_id"]))).task
    assert (task.state, task.error.reason) == (TASK_STATE_FAILED, ERROR_REASON_OUTPUT_FETCH_FAILED)
    assert [attempt.paid for attempt in task.attempts] == [True]
    assert await door.others() == 0


@pytest.mark.parametrize(("host", "told"), INWARD)
async def test_an_api_process_reads_no_reference_from_inside(
    careful: Deployment, calls: Calls, door: Door, host: str, told: str
) -> None:
    before = await careful.settled()
    inward = link(f"{host}:{door.port}/picture.png")
    request = image(reference_images=[inward])
    refusal = await refusal_of(calls.images.GenerateImage(request, timeout=30))
    assert_invalid(refusal, {"reference_images[0].url": told})
    assert await careful.settled() == before, "nothing was accepted"
    assert await door.others() == 0

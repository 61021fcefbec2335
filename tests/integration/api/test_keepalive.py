"""Waits of more than a minute, with clients that ping: gRPC's defaults cut them off, this server does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import grpc.aio
import pytest
from image.v1.image_service_pb2 import GenerateImageResponse, StreamSequentialImagesResponse
from image.v1.image_service_pb2_grpc import ImageServiceStub

from tests.integration.api.deployment import deployed
from tests.integration.api.requests import image, sequence

WAIT_S = 70.0
"""Longer than the minute after which much on the way cuts what is silent."""
SILENCE_S = 18.0
"""A stream says something every 15 s, give or take what a busy machine takes."""


def pinging(target: str, *, every_s: int) -> grpc.aio.Channel:
    """A channel that pings so often, with calls under way and without."""
    return grpc.aio.insecure_channel(
        target,
        options=[
            ("grpc.keepalive_time_ms", every_s * 1000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        ],
    )


async def never(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    """A handler that does not answer."""
    await asyncio.Event().wait()
    return b""


@asynccontextmanager
async def plain_server() -> AsyncIterator[str]:
    """A server with gRPC's defaults; its target."""
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(never)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("image.v1.ImageService", {"GenerateImage": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@pytest.mark.long
# Groups start in the order of their size: in a small one of its own this test would begin last.
@pytest.mark.xdist_group("api-working")
@pytest.mark.timeout(180)
async def test_calls_of_70_s_survive_and_streams_are_never_silent_for_long() -> None:
    with deployed() as deployment:
        async with AsyncExitStack() as stack:
            plain = await stack.enter_async_context(plain_server())
            images = {
                name: ImageServiceStub(await stack.enter_async_context(pinging(target, every_s=every_s)))
                for name, target, every_s in (
                    ("every 30 s", deployment.api.target, 30),
                    ("every 10 s", deployment.api.target, 10),
                    ("every 10 s, plain server", plain, 10),
                )
            }
            calls = {name: asyncio.create_task(_answer(stub)) for name, stub in images.items()}
            stream = images["every 30 s"].StreamSequentialImages(sequence(max_images=1))
            hearing = asyncio.create_task(_longest_silence_s(aiter(stream)))
            ours = {calls["every 30 s"], calls["every 10 s"]}
            ended, _ = await asyncio.wait(ours, timeout=WAIT_S)
            assert not ended, [call.exception() for call in ended]

            cut = calls["every 10 s, plain server"]
            assert cut.done(), "these pings are what a server has to bear"
            assert isinstance(error := cut.exception(), grpc.aio.AioRpcError)
            assert error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}

            await asyncio.to_thread(deployment.stack.start, "worker")
            for answer in await asyncio.gather(*ours):
                assert len(answer.images) == 1
            assert await hearing < SILENCE_S


async def _answer(images: ImageServiceStub) -> GenerateImageResponse:
    return await images.GenerateImage(image())


async def _longest_silence_s(events: AsyncIterator[StreamSequentialImagesResponse]) -> float:
    """The longest time between two events of a stream, from its first to its last."""
    await anext(events)
    longest_s, before = 0.0, time.monotonic()
    async for _ in events:
        longest_s = max(longest_s, time.monotonic() - before)
        before = time.monotonic()
    return longest_s

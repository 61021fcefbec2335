"""Callers that wait: `python -m benchmarks.waiting_callers TARGET CALLS` keeps GenerateImage calls open.

So many come at a steady rate, over several connections, and stay until the input is closed. The answer is one
line: how many of them had come to an end by then, and how one of them did.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

import grpc.aio
from image.v1 import image_service_pb2_grpc

from benchmarks.service import request

CALLS_PER_CONNECTION = 200
CALLS_PER_S = 500


async def main(target: str, count: int) -> None:
    """Open them, hold them, tell."""
    ended: list[str] = []

    async def caller(images: image_service_pb2_grpc.ImageServiceStub, number: int) -> None:
        try:
            await images.GenerateImage(request(number))
        except grpc.aio.AioRpcError as error:
            ended.append(error.code().name)
        else:
            ended.append("OK")

    async with AsyncExitStack() as stack:
        callers = []
        for number in range(count):
            if number % CALLS_PER_CONNECTION == 0:
                options = [("grpc.use_local_subchannel_pool", 1)]
                channel = await stack.enter_async_context(grpc.aio.insecure_channel(target, options=options))
                images = image_service_pb2_grpc.ImageServiceStub(channel)
            callers.append(asyncio.create_task(caller(images, number), name=f"caller-{number}"))
            await asyncio.sleep(1 / CALLS_PER_S)
        await asyncio.to_thread(sys.stdin.read)
        print(len(ended), *ended[:1], flush=True)
        for waiting in callers:
            waiting.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))

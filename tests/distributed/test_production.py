"""The service as production runs it: api and workers apart, a real Redis, MongoDB with GridFS."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import re

import pytest
from image.v1 import image_service_pb2, image_source_pb2
from PIL import Image
from task.v1 import attempt_pb2, task_pb2

from imagegen import ImageClient
from tests.mongo import MongoServer, database_url, new_database_name
from tests.side_port import fetch
from tests.stack import ServiceProcess, calling, no_leaked_keys, running_stack

TASKS = 500
READ_BACK = 20
PROMPT = "a desert at noon, picture {}"
"""Deserts are drawn fastest, without stars and long shadows."""
NOTHING_IN_IT = "clouds, sun, birds, trees, a wanderer"
"""Left out, which halves the time again."""
MODEL, SIZE = "local-canvas", "64x64"


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_two_workers_make_each_of_500_pictures_exactly_once(mongo_server: MongoServer) -> None:
    url = database_url(mongo_server.url, new_database_name())
    with running_stack(store_url=url) as stack:
        files = f"file://{stack.directory}/outputs"
        grid_api, file_api = stack.start("api"), stack.start("api", OUTPUT_URL=files)
        # FerretDB reads all chunks for every GridFS read: the first twenty go there, the rest to files.
        grid_workers = [stack.start("worker") for _ in range(2)]
        async with ImageClient(grid_api.target) as client:  # as callers do: it repeats what was not accepted
            first = [
                await client.generate(PROMPT.format(n), negative_prompt=NOTHING_IN_IT, model=MODEL, size=SIZE)
                for n in range(READ_BACK)
            ]
            for answer in first:
                (image,) = answer.images
                got = await fetch(f"{grid_api.http}/outputs/{image.url.split('/outputs/')[1]}")
                assert got.status == 200
                assert got.headers["Content-Type"] == image.mime_type == "image/png"
                assert len(got.body) == image.size_bytes
                assert hashlib.sha256(got.body).hexdigest() == image.sha256
        made = sum([await calls_made(worker) for worker in grid_workers])
        for worker in grid_workers:
            assert worker.stop() == 0
        file_workers = [stack.start("worker", OUTPUT_URL=files) for _ in range(2)]
        async with ImageClient(file_api.target) as client:
            at_once = asyncio.Semaphore(16)  # the gate lets one command through at a time

            async def submit(n: int) -> str:
                async with at_once:
                    return await client.submit(
                        PROMPT.format(n), negative_prompt=NOTHING_IN_IT, model=MODEL, size=SIZE
                    )

            ids = await asyncio.gather(*(submit(n) for n in range(READ_BACK, TASKS)))
            tasks = [await client.wait(task_id, timeout_s=240) for task_id in ids]
            tasks += [await client.get(answer.task_id) for answer in first]
        assert len({task.task_id for task in tasks}) == TASKS
        made += sum([await calls_made(worker) for worker in file_workers])
        assert made == TASKS
        for task in tasks:
            assert task.state == task_pb2.TASK_STATE_COMPLETED
            assert [a.outcome for a in task.attempts] == [attempt_pb2.ATTEMPT_OUTCOME_SUCCEEDED]
            assert len(task.image.images) == 1
        assert len({task.attempts[0].worker for task in tasks[: -len(first)]}) == 2
        await no_leaked_keys(stack)


async def calls_made(worker: ServiceProcess) -> int:
    """How many calls to the provider the worker has made, by its own count."""
    text = (await fetch(f"{worker.http}/metrics")).body.decode()
    counts = re.findall(r"^imagegen_provider_requests_total\{.*\} ([0-9.]+)$", text, re.MULTILINE)
    return round(sum(map(float, counts)))


@pytest.mark.timeout(120)
async def test_inline_references_of_10_mib_travel_through_gridfs(mongo_server: MongoServer) -> None:
    url = database_url(mongo_server.url, new_database_name())
    with running_stack(store_url=url) as stack:
        api = stack.start("api")
        stack.start("worker")
        request = image_service_pb2.GenerateImageRequest(
            prompt="like this one",
            model="local-canvas",
            size="256x256",
            reference_images=[image_source_pb2.ImageSource(data=_noise_of(10 * 1024 * 1024))],
        )
        async with calling(api) as calls:
            answer = await calls.images.GenerateImage(request, timeout=90)
        assert answer.images[0].width_px == 256


def _noise_of(size: int) -> bytes:
    """A PNG of exactly so many bytes: noise does not compress, the rest is padding behind the picture."""
    side = 1_800
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(buffer, "PNG", compress_level=0)
    data = buffer.getvalue()
    assert len(data) <= size
    return data + bytes(size - len(data))

"""`imagegen sequence`: pictures appear as they arrive."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from image.v1.image_service_pb2 import (
    GenerateImageAsyncResponse,
    GenerateSequentialImagesRequest,
    StreamSequentialImagesResponse,
)
from task.v1.image_pb2 import ImageFailure

from tests.client.command_line import PATIENCE_S, finished, imagegen, imagegen_process
from tests.client.example_tasks import FORBIDDEN, completed, failed
from tests.client.scripted_server import TASK_ID, Context, Fault, ScriptedService

Event = StreamSequentialImagesResponse


async def test_each_picture_is_saved_when_it_arrives(service: ScriptedService, tmp_path: Path) -> None:
    """The service holds the second picture back until the first one is on disk and on screen."""
    first, second = service.pictures.add(index=0), service.pictures.add(index=1, colour="plum")
    seen = asyncio.Event()

    async def stream(request: GenerateSequentialImagesRequest, context: Context) -> AsyncIterator[Event]:
        yield Event(task_id=TASK_ID)
        yield Event(image=first)
        await seen.wait()
        yield Event(image=second)
        yield Event(task=completed(first, second))

    service.on("StreamSequentialImages", stream)
    arguments = ("sequence", "a story", "-n", "2", "-o", "out", "--target", service.target)
    async with imagegen_process(*arguments, cwd=tmp_path) as process:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = await process.stdout.readline()
        assert f"out/{TASK_ID}-0.png" in line.decode()
        assert (tmp_path / "out" / f"{TASK_ID}-0.png").exists()
        assert not (tmp_path / "out" / f"{TASK_ID}-1.png").exists()
        seen.set()
        outcome = await finished(process)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"out/{TASK_ID}-1.png" in outcome.out
    assert "2 of 2 images" in outcome.out
    for image in (first, second):
        saved = tmp_path / "out" / f"{TASK_ID}-{image.index}.png"
        assert saved.read_bytes() == service.pictures.answers[service.pictures.path_of(image)][1]


async def test_pictures_are_saved_when_nobody_reads_on(service: ScriptedService, tmp_path: Path) -> None:
    """As in `imagegen sequence ... | head -1`."""
    images = [service.pictures.add(index=index) for index in range(3)]
    closed = asyncio.Event()

    async def stream(request: GenerateSequentialImagesRequest, context: Context) -> AsyncIterator[Event]:
        yield Event(task_id=TASK_ID)
        yield Event(image=images[0])
        await closed.wait()
        for image in images[1:]:
            yield Event(image=image)
        yield Event(task=completed(*images))

    service.on("StreamSequentialImages", stream)
    reader, writer = os.pipe()
    arguments = ("sequence", "a story", "-n", "3", "--target", service.target)
    async with imagegen_process(*arguments, cwd=tmp_path, stdout=writer) as process:
        os.close(writer)
        async with asyncio.timeout(PATIENCE_S):
            assert f"{TASK_ID}-0.png" in (await asyncio.to_thread(os.read, reader, 4096)).decode()
        os.close(reader)
        closed.set()
        outcome = await finished(process)
    assert (outcome.code, outcome.err) == (0, "")
    assert sorted(os.listdir(tmp_path)) == [f"{TASK_ID}-{index}.png" for index in range(3)]


async def test_one_failure_leaves_the_others(service: ScriptedService, tmp_path: Path) -> None:
    image, failure = service.pictures.add(index=1), ImageFailure(index=0, error=FORBIDDEN)

    async def stream(request: object, context: Context) -> AsyncIterator[Event]:
        yield Event(task_id=TASK_ID)
        yield Event(failure=failure)
        yield Event(image=image)
        yield Event(task=completed(image, failures=(failure,)))

    service.on("StreamSequentialImages", stream)
    outcome = await imagegen("sequence", "a story", "-n", "2", "--target", service.target, cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert "image 0 was not made: CONTENT_POLICY_INPUT" in outcome.out
    assert os.listdir(tmp_path) == [f"{TASK_ID}-1.png"]


async def test_a_download_that_fails_is_tried_again_at_the_end(
    service: ScriptedService, tmp_path: Path
) -> None:
    image = service.pictures.add(index=0)
    path = service.pictures.path_of(image)
    service.pictures.failing_once.add(path)

    async def stream(request: object, context: Context) -> AsyncIterator[Event]:
        yield Event(task_id=TASK_ID)
        yield Event(image=image)
        yield Event(task=completed(image, service.pictures.add(index=1)))

    service.on("StreamSequentialImages", stream)
    outcome = await imagegen("sequence", "a story", "-n", "2", "--target", service.target, cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert (tmp_path / f"{TASK_ID}-0.png").read_bytes() == service.pictures.answers[path][1]
    assert not service.pictures.failing_once


async def test_a_sequence_without_any_picture(service: ScriptedService, tmp_path: Path) -> None:
    fault = Fault(code=grpc.StatusCode.FAILED_PRECONDITION, reason="CONTENT_POLICY_INPUT", task_id=TASK_ID)

    async def stream(request: object, context: Context) -> AsyncIterator[Event]:
        yield Event(task_id=TASK_ID)
        yield Event(task=failed())
        await fault.raise_in(context)

    service.on("StreamSequentialImages", stream)
    outcome = await imagegen("sequence", "a story", "--json", "--target", service.target, cwd=tmp_path)
    assert outcome.code == 1
    document = outcome.document()
    assert (document["state"], document["files"]) == ("TASK_STATE_FAILED", [])
    assert "CONTENT_POLICY_INPUT" in outcome.err


async def test_the_end_of_the_wait(service: ScriptedService, tmp_path: Path) -> None:
    image = service.pictures.add(index=0)
    fault = Fault(code=grpc.StatusCode.DEADLINE_EXCEEDED, reason="WAIT_EXPIRED", task_id=TASK_ID)

    async def stream(request: object, context: Context) -> AsyncIterator[Event]:
        yield Event(task_id=TASK_ID)
        yield Event(image=image)
        await fault.raise_in(context)

    service.on("StreamSequentialImages", stream)
    outcome = await imagegen("sequence", "a story", "--target", service.target, cwd=tmp_path)
    assert outcome.code == 4
    assert f"imagegen task {TASK_ID} --wait -o ." in outcome.err
    assert (tmp_path / f"{TASK_ID}-0.png").exists()


async def test_async_submits_a_sequence(service: ScriptedService, tmp_path: Path) -> None:
    service.on("GenerateSequentialImagesAsync", GenerateImageAsyncResponse(task_id=TASK_ID))
    outcome = await imagegen(
        "sequence", "a story", "-n", "7", "--async", "--target", service.target, cwd=tmp_path
    )
    assert outcome.code == 0
    assert TASK_ID in outcome.out
    assert service.asked("GenerateSequentialImagesAsync")[0].max_images == 7

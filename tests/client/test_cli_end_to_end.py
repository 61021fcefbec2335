"""Client and command line against the real service: `python -m server all`, as `make run` starts it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image as Picture
from task.v1.image_pb2 import OutputRef
from task.v1.task_pb2 import TaskState

from imagegen import Health, ImageClient, InvalidRequest, NotFound, RequestIdReused, StillRunning, result_of
from tests.client.command_line import Outcome, imagegen
from tests.ports import free_port
from tests.stack import ServiceProcess

SMALL = ("-m", "local-canvas", "-s", "256x192")
DESERT = "a desert at noon"
"""Drawn ten times as fast as a cat."""


pytestmark = pytest.mark.xdist_group("cli-end-to-end")  # one service for all


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    directory = tmp_path_factory.mktemp("service")
    process = start(directory)
    yield process
    process.kill()


def start(directory: Path, *, grpc_port: int = 0, http_port: int = 0) -> ServiceProcess:
    environment = {
        "GRPC_PORT": str(grpc_port),
        "HTTP_PORT": str(http_port),
        "DATA_DIR": str(directory / "var"),
        "LEASE_SECONDS": "3",
    }
    return ServiceProcess("all", directory=directory, environment=environment)


async def cli(server: ServiceProcess, *arguments: str, cwd: Path) -> Outcome:
    return await imagegen(*arguments, cwd=cwd, IMAGEGEN_TARGET=server.target)


def pixels(path: Path) -> tuple[str | None, tuple[int, int]]:
    with Picture.open(path) as picture:
        picture.load()
        return picture.format, picture.size


async def test_a_picture_and_one_made_from_it(server: ServiceProcess, tmp_path: Path) -> None:
    first = await cli(server, "generate", "a lighthouse at dusk", *SMALL, "-o", "first.jpg", cwd=tmp_path)
    assert (first.code, first.err) == (0, "")
    assert pixels(tmp_path / "first.jpg") == ("JPEG", (256, 192))
    for step in ("accepted", "waited", "attempt 1", "succeeded", "stored", "completed"):
        assert step in first.out
    task_id = first.out.partition("task ")[2].split()[0]

    second = await cli(
        server,
        *("generate", "the same in winter", *SMALL, "-o", "second.png", "--json"),
        *("--reference", f"{task_id}:0", "--reference", "first.jpg"),
        cwd=tmp_path,
    )
    assert (second.code, second.err) == (0, "")
    assert pixels(tmp_path / "second.png") == ("PNG", (256, 192))
    assert second.document()["provider"] == "local"


async def test_a_sequence(server: ServiceProcess, tmp_path: Path) -> None:
    outcome = await cli(server, "sequence", "four seasons", "-n", "3", *SMALL, "-o", "seq", cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert "3 of 3 images" in outcome.out
    names = sorted(os.listdir(tmp_path / "seq"))
    assert [name.rpartition("-")[2] for name in names] == ["0.png", "1.png", "2.png"]
    assert {pixels(tmp_path / "seq" / name) for name in names} == {("PNG", (256, 192))}
    assert len({(tmp_path / "seq" / name).read_bytes() for name in names}) == 3


async def test_submit_now_and_fetch_later(server: ServiceProcess, tmp_path: Path) -> None:
    submitted = await cli(
        server, "generate", DESERT, *SMALL, "--async", "--json", "--label", "team=art", cwd=tmp_path
    )
    task_id = submitted.document()["task_id"]
    fetched = await cli(server, "task", task_id, "--wait", "-o", "cat.png", cwd=tmp_path)
    assert (fetched.code, fetched.err) == (0, "")
    assert "team=art" in fetched.out
    assert pixels(tmp_path / "cat.png") == ("PNG", (256, 192))
    shown = await cli(server, "task", task_id, "--json", cwd=tmp_path)
    assert shown.document()["attempts"][0]["outcome"] == "ATTEMPT_OUTCOME_SUCCEEDED"


async def test_a_wait_that_is_too_short_says_how_to_go_on(server: ServiceProcess, tmp_path: Path) -> None:
    late = await cli(server, "generate", "a story", "-s", "2K", "--timeout", "0", cwd=tmp_path)
    assert late.code == 4
    command = late.err.partition("Fetch it: ")[2].strip()
    fetched = await imagegen(*shlex.split(command)[1:], cwd=tmp_path)
    assert fetched.code == 0
    assert len(os.listdir(tmp_path)) == 1


async def test_what_the_service_refuses(server: ServiceProcess, tmp_path: Path) -> None:
    invalid, model, task, health = await asyncio.gather(
        cli(server, "generate", "a cat", "-s", "0x0", "--ttl", "30d", cwd=tmp_path),
        cli(server, "generate", "a cat", "-m", "no-such-model", cwd=tmp_path),
        cli(server, "task", "task_1234567890", cwd=tmp_path),
        cli(server, "health", "--json", cwd=tmp_path),
    )
    assert invalid.code == 2
    assert "size: " in invalid.err
    assert "--ttl: is 2,592,000 s; allowed: 1 s to 604,800 s (7 days)" in invalid.err
    assert (model.code, task.code, health.code) == (1, 1, 0)
    assert "MODEL_NOT_FOUND" in model.err
    assert "TASK_NOT_FOUND" in task.err
    assert json.loads(health.out)["status"] == "SERVING"
    assert all(outcome.err.count("\n") == 1 for outcome in (invalid, model, task))


async def test_the_client_from_first_to_last(server: ServiceProcess) -> None:
    async with ImageClient(server.target, timeout_s=60) as client:
        assert await client.health() is Health.SERVING

        answer = await client.generate(
            DESERT, model="local-canvas", size="256x256", seed=1, request_id="order-1"
        )
        data = await client.download(answer.images[0])
        with Picture.open(io.BytesIO(data)) as picture:
            assert picture.size == (256, 256)
        again = await client.submit(
            DESERT, model="local-canvas", size="256x256", seed=1, request_id="order-1"
        )
        assert again == answer.task_id
        with pytest.raises(RequestIdReused) as reused:
            await client.submit("a dog", model="local-canvas", request_id="order-1")
        assert reused.value.task_id == answer.task_id

        inline = await client.generate_sequence(
            DESERT, images=2, response_format="bytes", model="local-canvas", size="256x256"
        )
        assert [len(image.data) for image in inline.images] == [image.size_bytes for image in inline.images]
        assert await client.download(inline.images[0]) == inline.images[0].data

        events = [
            event
            async for event in client.stream_sequence(
                DESERT,
                images=2,
                model="local-canvas",
                size="256x256",
                references=[data, OutputRef(task_id=answer.task_id)],
            )
        ]
        kinds = [kind for event in events if (kind := event.WhichOneof("event")) != "progress"]
        assert kinds == ["task_id", "image", "image", "task"]
        assert len(result_of(events[-1].task).images) == 2

        with pytest.raises(InvalidRequest) as invalid:
            await client.generate("", size="0x0")
        assert {violation.field for violation in invalid.value.violations} == {"prompt", "size"}
        with pytest.raises(NotFound):
            await client.get("task_1234567890")


async def test_a_deadline_leaves_a_task_that_can_be_fetched(server: ServiceProcess) -> None:
    async with ImageClient(server.target) as client:
        with pytest.raises(StillRunning) as late:
            await client.generate_sequence("a story", images=5, size="2K", timeout_s=0.5)
        assert late.value.task_id
        task = await client.wait(late.value.task_id, timeout_s=60)
        assert len(result_of(task).images) == 5


@pytest.mark.long
async def test_a_wait_outlives_the_whole_service(tmp_path: Path) -> None:
    """`kill -9` of everything while a client waits: after the restart the same wait gets the same task."""
    ports = {"grpc_port": free_port(), "http_port": free_port()}
    first = await asyncio.to_thread(lambda: start(tmp_path, **ports))
    try:
        async with ImageClient(first.target) as client:
            task_id = await client.submit("a story", images=2, size="2K")
            waiting = asyncio.create_task(client.wait(task_id, timeout_s=90), name="wait")
            async for task in client.watch(task_id, interval_s=0.02, timeout_s=30):
                if task.state == TaskState.TASK_STATE_PROCESSING:
                    break
            first.kill()
            second = await asyncio.to_thread(lambda: start(tmp_path, **ports))
            try:
                task = await waiting
                assert task.task_id == task_id
                for image in result_of(task).images:
                    assert await client.download(image)
            finally:
                second.kill()
    finally:
        first.kill()

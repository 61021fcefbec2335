"""Ctrl-C: what the command says of a task that it leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from image.v1.image_service_pb2 import GenerateImageAsyncResponse
from task.v1.image_pb2 import Image
from task.v1.task_service_pb2 import GetTaskResponse, WaitTaskResponse

from imagegen.download import SILENCE_S
from tests.client.command_line import Outcome, finished, imagegen_process
from tests.client.example_tasks import completed
from tests.client.scripted_server import TASK_ID, Context, ScriptedService

GENERATE = ("generate", "a cat", "--request-id", "order-17")


async def interrupt(service: ScriptedService, method: str, *arguments: str, cwd: Path) -> Outcome:
    """Runs the command and sends Ctrl-C while `method` is waiting for its answer."""
    waiting = asyncio.Event()

    async def never(request: object, context: Context) -> WaitTaskResponse:
        waiting.set()
        await asyncio.Event().wait()
        return WaitTaskResponse()

    service.on(method, never)
    async with imagegen_process(*arguments, "--target", service.target, cwd=cwd) as process:
        async with asyncio.timeout(20):
            await waiting.wait()
        process.send_signal(signal.SIGINT)
        return await finished(process)


async def test_ctrl_c_while_the_task_runs(service: ScriptedService, tmp_path: Path) -> None:
    service.on("GenerateImageAsync", GenerateImageAsyncResponse(task_id=TASK_ID))
    outcome = await interrupt(service, "WaitTask", *GENERATE, cwd=tmp_path)
    assert outcome.code == 130
    [line] = outcome.err.splitlines()
    assert f"task {TASK_ID} goes on" in line
    assert f"imagegen task {TASK_ID} --wait -o . --target {service.target}" in line


async def test_ctrl_c_before_the_task_has_an_id(service: ScriptedService, tmp_path: Path) -> None:
    outcome = await interrupt(service, "GenerateImageAsync", *GENERATE, cwd=tmp_path)
    assert outcome.code == 130
    [line] = outcome.err.splitlines()
    assert "--request-id order-17 finds its task" in line


async def test_ctrl_c_as_json_names_the_request_id(service: ScriptedService, tmp_path: Path) -> None:
    outcome = await interrupt(service, "GenerateImageAsync", *GENERATE, "--json", cwd=tmp_path)
    assert outcome.code == 130
    document = outcome.document()
    assert (document["task_id"], document["request_id"]) == ("", "order-17")


async def test_ctrl_c_before_a_cancel_is_answered(service: ScriptedService, tmp_path: Path) -> None:
    outcome = await interrupt(service, "CancelTask", "cancel", TASK_ID, cwd=tmp_path)
    unknown = f"whether task {TASK_ID} was cancelled is not known; the same command may be repeated"
    assert (outcome.code, outcome.err) == (130, f"imagegen: interrupted; {unknown}\n")


async def test_ctrl_c_while_a_server_of_pictures_is_silent(service: ScriptedService, tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        image = Image(index=0, url=f"http://{host}:{port}/x", size_bytes=1, mime_type="image/png")
        service.on("GetTask", GetTaskResponse(task=completed(image)))
        arguments = ("task", TASK_ID, "-o", ".", "--target", service.target)
        async with imagegen_process(*arguments, cwd=tmp_path) as process:
            async with asyncio.timeout(20):
                await asked.wait()
            process.send_signal(signal.SIGINT)
            start = time.monotonic()
            outcome = await finished(process)
    assert outcome.code == 130
    assert time.monotonic() - start < SILENCE_S / 2
    assert os.listdir(tmp_path) == []

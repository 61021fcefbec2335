"""Where the words go: terminals, pipes that nobody reads, streams that are closed."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from task.v1.task_pb2 import Task
from task.v1.task_service_pb2 import GetTaskResponse, WaitTaskResponse

from tests.client.command_line import COMMAND, PATIENCE_S, Outcome, environment, finished, imagegen_process
from tests.client.example_tasks import PENDING, PROCESSING, completed, failed
from tests.client.scripted_server import TASK_ID, ScriptedService


def stands(service: ScriptedService, task: Task) -> None:
    service.on("GetTask", GetTaskResponse(task=task))


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["for a person", "json"])
async def test_a_reader_that_stops_reading(
    options: tuple[str, ...], service: ScriptedService, tmp_path: Path
) -> None:
    stands(service, completed(service.pictures.add(), prompt="word " * 40_000))
    outcome = await unread("task", TASK_ID, "--target", service.target, *options, cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")


async def test_the_exit_code_tells_of_a_failure_that_nobody_reads(
    service: ScriptedService, tmp_path: Path
) -> None:
    stands(service, failed(prompt="word " * 40_000))
    outcome = await unread("task", TASK_ID, "--wait", "--target", service.target, cwd=tmp_path)
    assert outcome.code == 1
    assert "CONTENT_POLICY_INPUT" in outcome.err


@pytest.mark.parametrize("unbuffered", ["", "1"])
async def test_wrong_usage_that_nobody_reads(unbuffered: str, tmp_path: Path) -> None:
    outcome = await unread("generate", "--json", cwd=tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["for a person", "json"])
async def test_a_full_disk(options: tuple[str, ...], service: ScriptedService, tmp_path: Path) -> None:
    stands(service, completed(service.pictures.add()))
    arguments = ("task", TASK_ID, "--target", service.target, *options)
    full = os.open("/dev/full", os.O_WRONLY)
    async with imagegen_process(*arguments, cwd=tmp_path, stdout=full) as process:
        os.close(full)
        outcome = await finished(process)
    assert (outcome.code, outcome.err) == (1, "imagegen: cannot write: No space left on device\n")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
async def test_a_document_is_whole_in_every_encoding(
    encoding: str, service: ScriptedService, tmp_path: Path
) -> None:
    stands(service, completed(service.pictures.add(), prompt="小猫"))
    arguments = ("task", TASK_ID, "--json", "--target", service.target)
    async with imagegen_process(*arguments, cwd=tmp_path, PYTHONIOENCODING=encoding) as process:
        outcome = await finished(process)
    assert outcome.document()["prompt"] == "小猫"
    assert outcome.out.isascii() is (encoding == "ascii")


async def unread(*arguments: str, cwd: Path, **env: str) -> Outcome:
    """What becomes of the command when its output has no reader."""
    reader, writer = os.pipe()
    os.close(reader)
    async with imagegen_process(*arguments, cwd=cwd, stdout=writer, **env) as process:
        os.close(writer)
        return await finished(process)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
async def test_closed_streams_change_nothing_but_what_is_seen(
    closed: str, service: ScriptedService, tmp_path: Path
) -> None:
    stands(service, completed(service.pictures.add()))
    shell = ("sh", "-c", f'exec "$@" {closed}', "sh")
    arguments = ("task", TASK_ID, "-o", "a.png", "--target", service.target)
    process = await asyncio.create_subprocess_exec(
        *shell, *COMMAND, *arguments, cwd=tmp_path, env=environment({"PYTHONPATH": os.pathsep.join(sys.path)})
    )
    async with asyncio.timeout(PATIENCE_S):
        assert await process.wait() == 0
    assert (tmp_path / "a.png").exists()


def on_a_terminal(*arguments: str, cwd: Path, columns: int) -> tuple[int, str]:
    """Runs the command on a terminal of that width; returns its exit code and everything that was sent
    there."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment({"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": str(columns), "TERM": "xterm"}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        sent = b""
        try:
            while chunk := os.read(ours, 65536):
                sent += chunk
        except OSError:  # how Linux tells that the other side was closed
            pass
        finally:
            os.close(ours)
        return process.wait(PATIENCE_S), sent.decode()


@pytest.mark.parametrize("columns", [80, 120])
async def test_a_terminal_gets_colours_an_animation_and_lines_that_fit(
    columns: int, service: ScriptedService, tmp_path: Path
) -> None:
    stands(service, PENDING)
    done = completed(service.pictures.add(), prompt="a very long prompt " * 20)
    service.on("WaitTask", WaitTaskResponse(task=PROCESSING), WaitTaskResponse(task=done))
    arguments = ("task", TASK_ID, "--wait", "-o", ".", "--target", service.target)
    code, sent = await asyncio.to_thread(on_a_terminal, *arguments, cwd=tmp_path, columns=columns)
    assert code == 0
    assert "\x1b[?25l" in sent, "the cursor is hidden while the animation runs"
    assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l"), "and shown again"
    assert "\x1b[1;32mcompleted" in sent
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent)
    lines = [line for part in plain.split("\n") for line in part.split("\r") if line]
    assert max(map(len, lines)) <= columns
    assert any("painting" in line for line in lines)

"""The start of an api of several processes: what is refused, and what may happen before all listen."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from server.__main__ import main
from server.processes import Child, StackError
from tests.distributed.several import PROC, PROCESSES, children_of, is_gone, start_several
from tests.side_port import Answer, fetch
from tests.stack import running_stack
from tests.waiting import until, until_async


@pytest.mark.parametrize("first", ["one process", "several"])
@pytest.mark.parametrize("second", ["one process", "several"])
def test_a_second_instance_does_not_share_the_port_silently(first: str, second: str) -> None:
    start = {
        "one process": lambda stack, **settings: stack.start("api", **settings),
        "several": start_several,
    }
    with running_stack() as stack:
        taken = start[first](stack).grpc_port
        with pytest.raises(RuntimeError) as refused:
            start[second](stack, GRPC_PORT=str(taken))
        assert f"port {taken} cannot be bound; set GRPC_PORT to a free one" in str(refused.value)
        assert "Traceback" not in str(refused.value)


def test_a_taken_side_port_says_which_setting_moves_it() -> None:
    with socket.socket() as taken, running_stack() as stack:
        taken.bind(("0.0.0.0", 0))  # noqa: S104
        taken.listen()
        with pytest.raises(RuntimeError, match="set HTTP_PORT to a free one"):
            start_several(stack, HTTP_PORT=str(taken.getsockname()[1]))


def test_what_stops_the_start_of_every_process_is_said_once() -> None:
    with running_stack(IMAGE_MODEL="no-such-model") as stack:
        with pytest.raises(RuntimeError) as refused:
            start_several(stack)
        assert str(refused.value).count("Cannot start: IMAGE_MODEL") == 1
        assert "Cannot start: the api-1 process ended at its start (exit code 2)" in str(refused.value)


@pytest.mark.parametrize("number", ["0", "-1", "two", "1.5", ""])
@pytest.mark.parametrize("option", ["--processes", "--process"])
def test_a_wrong_number_of_processes_is_an_error(
    option: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["api", f"{option}={number}"])
    assert ended.value.code == 2
    assert "--processes: expected a whole number from 1" in capsys.readouterr().err


class Starting:
    """An api that is not waited for until it is ready."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, http_port: int) -> None:
        self.process = process
        self._log = log
        self._http_port = http_port

    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    async def ask(self, path: str) -> Answer:
        """GET the path of the side port."""
        return await fetch(f"http://127.0.0.1:{self._http_port}{path}")

    async def stop(self) -> int:
        """SIGTERM it and wait for its end; the exit code."""
        self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), 30)


@asynccontextmanager
async def starting(
    directory: Path, where: Mapping[str, str], *arguments: str, pass_fds: Sequence[int] = ()
) -> AsyncIterator[Starting]:
    """`python -m server api` with store and Redis there; killed at the end if it still runs."""
    with socket.socket() as free:
        free.bind(("", 0))
        http_port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "GRPC_PORT": "0",
        "HTTP_PORT": str(http_port),
        "DATA_DIR": str(directory),
        **where,
    }
    log = directory / "log"
    command = [sys.executable, "-m", "server", "api", *arguments]
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=directory, env=environment, stdout=out, stderr=out, pass_fds=pass_fds
        )
    try:
        yield Starting(process, log, http_port)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("arguments", [(), ("--processes", str(PROCESSES))], ids=["one", "several"])
async def test_while_no_store_answers_it_is_alive_and_not_ready_and_can_be_stopped(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    nowhere = {"STORE_URL": "mongodb://127.0.0.1:1/nowhere", "REDIS_URL": "redis://127.0.0.1:1"}
    async with starting(tmp_path, nowhere, *arguments) as api:
        await until(lambda: "waiting for a store" in api.log(), within_s=30, what="its wait")
        for path, status in (("/health", 200), ("/ready", 503)):
            assert (await api.ask(path)).status == status
        image = await api.ask("/outputs/01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0-x.png")
        assert (image.status, image.headers["Retry-After"]) == (503, "2"), "it may be there all the same"
        assert await api.stop() == 0
        assert "Traceback" not in api.log()


@pytest.mark.long
async def test_one_that_runs_is_supervised_while_another_starts(tmp_path: Path) -> None:
    with running_stack() as stack:
        where = {"STORE_URL": stack.store_url, "REDIS_URL": stack.redis.url}
        async with starting(tmp_path, where, "--processes", str(PROCESSES)) as api:
            pid = api.process.pid
            (first,) = await until(lambda: children_of(pid), within_s=30, what="the first process")
            await until(lambda: len(children_of(pid)) == PROCESSES, within_s=30, what="the second")
            (second,) = children_of(pid) - {first}
            # Stopped before it runs its program, it would hold up who makes it.
            command = PROC / str(second) / "cmdline"
            await until(lambda: b"--one-of-several" in command.read_bytes(), within_s=30, what="its program")
            os.kill(second, signal.SIGSTOP)

            async def takes_calls(processes: str) -> bool:
                return bool((await api.ask("/ready")).json()["processes"] == processes)

            assert await takes_calls("1 of 2")
            os.kill(first, signal.SIGKILL)
            await until(partial(is_gone, first), within_s=10, what="its end")
            one = partial(takes_calls, "1 of 2")
            await until_async(one, within_s=30, what="the first process' return")
            os.kill(second, signal.SIGCONT)
            both = partial(takes_calls, "2 of 2")
            await until_async(both, within_s=30, what="the second's start")
            assert await api.stop() == 0


async def test_nobody_who_waits_for_the_ready_line_is_no_bug(tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    with running_stack() as stack:
        where = {"STORE_URL": stack.store_url, "REDIS_URL": stack.redis.url}
        async with starting(tmp_path, where, "--ready-fd", str(write_fd), pass_fds=(write_fd,)) as api:
            os.close(write_fd)
            await until(lambda: '"listening"' in api.log(), within_s=30, what="its start")
            assert await api.stop() == 0
            assert "Traceback" not in api.log()
            assert '"stopped"' in api.log()


async def test_a_process_that_cannot_be_made_is_an_error_of_the_start() -> None:
    def descriptors() -> int:
        return len(list((PROC / "self" / "fd").iterdir()))

    child = Child("api-1", ["api"], {"TOO_LARGE": "x" * (1 << 20)})
    before = descriptors()
    with pytest.raises(StackError, match="api-1 process cannot be started"):
        await child.start()
    assert (descriptors(), child.listening) == (before, None)

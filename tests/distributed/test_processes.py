"""The api as several processes on one port: what callers, probes and operators see of them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import pytest
from image.v1.image_service_pb2 import GenerateImageRequest, GenerateImageResponse
from image.v1.image_service_pb2_grpc import ImageServiceStub
from prometheus_client.parser import text_string_to_metric_families
from task.v1 import task_service_pb2_grpc
from task.v1.task_service_pb2 import GetTaskRequest

from server.__main__ import main
from server.processes import Child, StackError
from tests.side_port import Answer, fetch
from tests.stack import Calls, ServiceProcess, Stack, running_stack
from tests.tools import program
from tests.waiting import until, until_async

PROCESSES = 2
PROC = Path("/proc")
CONNECTIONS = 16
"""That all of so many are given to one of two processes happens once in 32,768 times."""


def start_several(stack: Stack, **settings: str) -> ServiceProcess:
    """The supervisor, once all its processes listen."""
    arguments = ("server", "api", "--processes", str(PROCESSES))
    return stack.start("api", fresh=True, program=arguments, **settings)


@asynccontextmanager
async def connected(process: ServiceProcess) -> AsyncIterator[list[Calls]]:
    """Stubs over so many connections: channels of one program share theirs unless they are told not to."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(process.target, options=options))
            for _ in range(CONNECTIONS)
        ]
        yield [Calls(c, ImageServiceStub(c), task_service_pb2_grpc.TaskServiceStub(c)) for c in channels]


def small(request_id: str = "") -> GenerateImageRequest:
    """A picture that takes no time."""
    return GenerateImageRequest(prompt="small", model="local-canvas", size="64x64", request_id=request_id)


def state_of(pid: int) -> tuple[str, int]:
    """A process' state and its parent; none and 0 when it is gone."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return fields[0], int(fields[1])


def is_gone(pid: int) -> bool:
    """Whether nothing of the process is left."""
    return state_of(pid) == ("", 0)


def children_of(pid: int) -> set[int]:
    """The living processes that it has started."""
    everybody = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]
    states = {one: state_of(one) for one in everybody}
    return {one for one, (state, parent) in states.items() if parent == pid and state != "Z"}


async def by_process(api: ServiceProcess, name: str, **labels: str) -> dict[str, float]:
    """The metric's values of each process."""
    text = (await fetch(f"{api.http}/metrics")).body.decode()
    return {
        sample.labels["process"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


async def listening(api: ServiceProcess) -> str:
    """How many processes take calls, as /ready has it: `2 of 2`."""
    report = (await fetch(f"{api.http}/ready")).json()
    said: str = report["processes"]
    return said


async def drawn(calls: Calls) -> GenerateImageResponse:
    """A picture, waited for."""
    answer: GenerateImageResponse = await calls.images.GenerateImage(small(), timeout=60)
    return answer


async def submitted(calls: Calls, request_id: str) -> str:
    """The id of the task, however often it takes to get an answer."""
    while True:
        try:
            answer = await calls.images.GenerateImageAsync(small(request_id), timeout=20, wait_for_ready=True)
            return answer.task_id
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise


async def test_all_processes_answer_on_one_port_and_each_is_counted() -> None:
    with running_stack() as stack:
        api, _worker = start_several(stack), stack.start("worker")
        async with connected(api) as connections:
            images = (await drawn(connections[0])).images
            task_id = await submitted(connections[0], "one")
            for calls in connections:
                assert (await calls.tasks.GetTask(GetTaskRequest(task_id=task_id))).task.task_id == task_id
            counted = await by_process(
                api,
                "grpc_server_handled_total",
                grpc_method="/task.v1.TaskService/GetTask",
                grpc_code="OK",
            )
        assert sum(counted.values()) == CONNECTIONS
        assert len(counted) == PROCESSES, "each has answered"
        assert images[0].url.startswith(f"http://localhost:{api.http_port}/outputs/")
        picture = await fetch(images[0].url)
        assert (picture.status, picture.headers["Content-Type"]) == (200, "image/png")
        assert len(picture.body) == images[0].size_bytes
        assert await listening(api) == "2 of 2"

        promtool = program("promtool", install="Debian: apt-get install prometheus")
        check = [promtool, "check", "metrics"]
        text = (await fetch(f"{api.http}/metrics")).body
        done = await asyncio.to_thread(subprocess.run, check, input=text, capture_output=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@pytest.mark.long
async def test_a_killed_process_costs_repeated_calls_and_comes_back() -> None:
    with running_stack() as stack:
        api = start_several(stack)
        victim = min(children_of(api.pid))
        async with connected(api) as connections:

            async def by_all(name: str) -> list[str]:
                requests = (submitted(calls, f"{name} {n}") for n, calls in enumerate(connections))
                return await asyncio.gather(*requests)

            ids = await by_all("before")
            os.kill(victim, signal.SIGKILL)
            ids += await by_all("meanwhile")

            async def back() -> bool:
                return await listening(api) == "2 of 2" and len(children_of(api.pid)) == PROCESSES

            await until_async(back, within_s=60, what="the process' return")
            assert victim not in children_of(api.pid)
            ids += await by_all("after")
            assert len(set(ids)) == 3 * CONNECTIONS
            for task_id in ids:
                await connections[0].tasks.GetTask(GetTaskRequest(task_id=task_id))
        (line,) = (line for line in api.log().splitlines() if "starting it again" in line)
        assert '"exit_code":-9' in line
        assert api.stop() == 0


@pytest.mark.long
async def test_images_come_while_a_process_is_killed_and_returns() -> None:
    with running_stack() as stack:
        api, _worker = start_several(stack), stack.start("worker")
        async with connected(api) as connections:
            url = (await drawn(connections[0])).images[0].url
        statuses: Counter[int] = Counter()
        begun, enough = asyncio.Event(), asyncio.Event()

        async def keep_fetching() -> None:
            while not enough.is_set():
                statuses[(await fetch(url)).status] += 1
                if (
                    statuses.total() > 50
                ):  # each process has had some: the supervisor holds connections to both
                    begun.set()

        async def back() -> bool:
            return await listening(api) == "2 of 2" and len(children_of(api.pid)) == PROCESSES

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(keep_fetching())
            await begun.wait()
            for victim in children_of(api.pid):
                os.kill(victim, signal.SIGKILL)
                await until(partial(is_gone, victim), within_s=10, what="its end")
                await until_async(back, within_s=60, what="the process' return")
            enough.set()
        assert set(statuses) == {200}


async def test_a_stop_waits_for_the_calls_of_all_processes() -> None:
    with running_stack(SHUTDOWN_GRACE_SECONDS="60") as stack:
        api = start_several(stack)
        async with connected(api) as connections:
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(drawn(calls)) for calls in connections]

                async def all_wait() -> bool:
                    waiting = await by_process(api, "imagegen_waiting_calls")
                    return sum(waiting.values()) == CONNECTIONS and min(waiting.values()) > 0

                await until_async(all_wait, within_s=20, what="waiting calls in each process")
                api.signal(signal.SIGTERM)

                async def drains() -> bool:
                    answer = await fetch(f"{api.http}/ready")
                    return (answer.status, answer.json()["draining"]) == (503, "yes")

                await until_async(drains, within_s=20, what="/ready 503")
                assert (await fetch(f"{api.http}/health")).status == 200
                assert not any(call.done() for call in calls)
                stack.start("worker")
            assert all(len(call.result().images) == 1 for call in calls)
        assert api.wait(60) == 0
        assert "Traceback" not in api.log()


@pytest.mark.long
async def test_a_killed_supervisor_leaves_no_process_behind() -> None:
    with running_stack() as stack:
        api = start_several(stack)
        children = children_of(api.pid)
        assert len(children) == PROCESSES
        api.kill()

        def gone() -> bool:
            return all(state_of(child)[0] in ("", "Z") for child in children)

        await until(gone, within_s=10, what="the children's end")
        successor = start_several(stack, GRPC_PORT=str(api.grpc_port), HTTP_PORT=str(api.http_port))
        assert (successor.grpc_port, successor.http_port) == (api.grpc_port, api.http_port)


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
def test_a_wrong_number_of_processes_is_an_error(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["api", f"--processes={number}"])
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


async def test_while_no_store_answers_it_is_alive_and_not_ready_and_can_be_stopped(tmp_path: Path) -> None:
    nowhere = {"STORE_URL": "mongodb://127.0.0.1:1/nowhere", "REDIS_URL": "redis://127.0.0.1:1"}
    async with starting(tmp_path, nowhere, "--processes", str(PROCESSES)) as api:
        await until(lambda: "waiting for a store" in api.log(), within_s=30, what="a child's wait")
        for path, status in (("/health", 200), ("/ready", 503)):
            assert (await api.ask(path)).status == status
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

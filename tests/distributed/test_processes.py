"""The api as several processes on one port: what callers, probes and operators see of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import grpc
import grpc.aio
import pytest
from image.v1.image_service_pb2 import GenerateImageRequest, GenerateImageResponse
from image.v1.image_service_pb2_grpc import ImageServiceStub
from prometheus_client.parser import text_string_to_metric_families
from task.v1 import task_service_pb2_grpc
from task.v1.task_service_pb2 import GetTaskRequest

from tests.distributed.several import PROCESSES, children_of, is_gone, start_several, works_on
from tests.ports import free_port
from tests.side_port import fetch
from tests.stack import Calls, ServiceProcess, running_stack
from tests.tools import program
from tests.waiting import until, until_async

CONNECTIONS = 16
"""That all of so many are given to one of two processes happens once in 32,768 times."""


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
        api = start_several(stack, GRPC_PORT=str(free_port()), HTTP_PORT=str(free_port()))
        children = children_of(api.pid)
        assert len(children) == PROCESSES
        api.kill()
        await until(lambda: not any(map(works_on, children)), within_s=10, what="the children's end")
        successor = start_several(stack, GRPC_PORT=str(api.grpc_port), HTTP_PORT=str(api.http_port))
        assert (successor.grpc_port, successor.http_port) == (api.grpc_port, api.http_port)

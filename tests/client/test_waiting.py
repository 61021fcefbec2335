"""Following a task: long polls, their end, and a service that is away in between."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from task.v1.task_pb2 import Task, TaskState
from task.v1.task_service_pb2 import WaitTaskRequest, WaitTaskResponse

from imagegen import ImageClient, NotFound, StillRunning, Unreachable, patience
from imagegen import client as client_module
from tests.client.scripted_server import TASK_ID, Context, Fault, ScriptedService


def answer(state: TaskState, revision: int = 1) -> WaitTaskResponse:
    return WaitTaskResponse(task=Task(task_id=TASK_ID, state=state, revision=revision))


PENDING = answer(TaskState.TASK_STATE_PENDING)
PROCESSING = answer(TaskState.TASK_STATE_PROCESSING, 2)
COMPLETED = answer(TaskState.TASK_STATE_COMPLETED, 3)
FAILED = answer(TaskState.TASK_STATE_FAILED, 3)


def seconds(wait: Duration) -> float:
    return wait.ToMilliseconds() / 1000


async def test_polls_until_the_end(client: ImageClient, service: ScriptedService) -> None:
    service.on("WaitTask", PENDING, PROCESSING, COMPLETED)
    task = await client.wait(TASK_ID, timeout_s=600)
    assert task == COMPLETED.task
    waits = [seconds(request.wait) for request in service.asked("WaitTask")]
    assert waits == [50.0, 50.0, 50.0]
    assert {request.task_id for request in service.asked("WaitTask")} == {TASK_ID}


async def test_never_asks_for_more_than_is_left(client: ImageClient, service: ScriptedService) -> None:
    service.on("WaitTask", COMPLETED)
    await client.wait(TASK_ID, timeout_s=7)
    [request] = service.asked("WaitTask")
    assert 6 < seconds(request.wait) <= 7


async def test_a_failed_task_is_an_answer(client: ImageClient, service: ScriptedService) -> None:
    service.on("WaitTask", FAILED)
    assert (await client.wait(TASK_ID)).state == TaskState.TASK_STATE_FAILED


async def test_the_end_of_the_wait_names_the_task(client: ImageClient, service: ScriptedService) -> None:
    service.on("WaitTask", PROCESSING)
    with pytest.raises(StillRunning, match="processing") as caught:
        await client.wait(TASK_ID, timeout_s=0)
    assert caught.value.task_id == TASK_ID
    assert len(service.asked("WaitTask")) == 1


async def test_watch_yields_every_poll(client: ImageClient, service: ScriptedService) -> None:
    service.on("WaitTask", PENDING, PROCESSING, COMPLETED)
    states = [task.state async for task in client.watch(TASK_ID, interval_s=0.5)]
    assert states == [PENDING.task.state, PROCESSING.task.state, COMPLETED.task.state]
    assert {seconds(request.wait) for request in service.asked("WaitTask")} == {0.5}


async def test_a_service_that_is_away_is_waited_for(
    client: ImageClient, service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "RETRY_PAUSE_S", 0.01)
    away = [Fault(code=grpc.StatusCode.UNAVAILABLE, domain="")] * 4  # as many as gRPC repeats by itself
    service.on("WaitTask", PROCESSING, *away, COMPLETED)
    assert (await client.wait(TASK_ID)).state == TaskState.TASK_STATE_COMPLETED
    assert len(service.asked("WaitTask")) == 6


async def test_a_service_that_stays_away_ends_the_wait(
    client: ImageClient, service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "RETRY_PAUSE_S", 0.01)
    monkeypatch.setattr(patience, "OUTAGE_S", 0.5)
    monkeypatch.setattr(client_module, "LONG_POLL_S", 0.01)  # it is borne for as much longer
    service.on("WaitTask", Fault(code=grpc.StatusCode.UNAVAILABLE, domain=""))
    async with asyncio.timeout(5):
        with pytest.raises(Unreachable) as caught:
            await client.wait(TASK_ID, timeout_s=600)
    assert caught.value.task_id == TASK_ID
    assert len(service.asked("WaitTask")) > 4, "more often than gRPC repeats by itself"


async def test_an_unknown_task_is_not_waited_for(client: ImageClient, service: ScriptedService) -> None:
    service.on("WaitTask", Fault(code=grpc.StatusCode.NOT_FOUND, reason="TASK_NOT_FOUND", task_id="nope"))
    with pytest.raises(NotFound):
        await client.wait("nope")
    assert len(service.asked("WaitTask")) == 1


async def test_the_deadline_of_a_poll_leaves_room_for_the_answer(
    client: ImageClient, service: ScriptedService
) -> None:
    margins = []

    async def measure(request: WaitTaskRequest, context: Context) -> WaitTaskResponse:
        margins.append((context.time_remaining() or 0.0) - seconds(request.wait))
        return COMPLETED

    service.on("WaitTask", measure)
    await client.wait(TASK_ID)
    assert margins[0] > 10


async def test_no_poll_is_longer_than_a_proxy_bears(client: ImageClient, service: ScriptedService) -> None:
    service.on("WaitTask", COMPLETED)
    assert [task async for task in client.watch(TASK_ID, interval_s=500, timeout_s=500)] == [COMPLETED.task]
    assert seconds(service.asked("WaitTask")[0].wait) == 50

"""What travels beside the messages: the early task id, and the id that ties an answer to the log."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest
from task.v1.task_service_pb2 import GetTaskRequest, WaitTaskRequest

from tests.integration.api.deployment import Deployment, called, deployed
from tests.integration.api.refusals import refusal_of, refusal_of_stream
from tests.integration.api.requests import SubmitRequest, image, sequence
from tests.integration.api.synchronous import DEADLINE_S, started
from tests.stack import Calls

pytestmark = [pytest.mark.xdist_group("api-queueing"), pytest.mark.usefixtures("unharmed")]

NOBODYS = GetTaskRequest(task_id="task_1234567890")


@pytest.mark.parametrize("request_", [image(), sequence()], ids=["image", "sequence"])
async def test_who_asks_gets_the_task_id_early(
    queueing: Deployment, calls: Calls, request_: SubmitRequest
) -> None:
    call = started(calls, request_)
    task_id = dict(await call.initial_metadata())["task-id"]
    assert not call.done()
    assert task_id in queueing.kept().tasks, "accepted means durable"
    call.cancel()


async def test_who_does_not_ask_gets_no_metadata_before_the_end(calls: Calls) -> None:
    """Initial metadata commits a call: clients would no longer retry it by themselves."""

    async def ends_without_early_headers(*metadata: tuple[str, str]) -> None:
        call = started(calls, image(), metadata, timeout_s=DEADLINE_S)
        headers = asyncio.ensure_future(call.initial_metadata())
        ended = asyncio.ensure_future(call.code())
        await asyncio.wait({headers, ended}, return_when=asyncio.FIRST_COMPLETED)
        assert call.done(), "the headers came before the end"
        assert await ended is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "task-id" not in dict(await headers)
        assert "task-id" in dict(await call.trailing_metadata())

    await asyncio.gather(
        ends_without_early_headers(),
        ends_without_early_headers(("early-task-id", "0")),
        ends_without_early_headers(("early-task-id", "")),
    )


async def test_an_error_echoes_the_request_id_of_the_call(calls: Calls) -> None:
    for sent in ("x", "req-17", "r" * 128, "~!@#$%^&*() {}[]"):
        metadata = (("x-request-id", sent),)
        refusal = await refusal_of(calls.tasks.GetTask(NOBODYS, metadata=metadata))
        assert refusal.trailers["x-request-id"] == sent
        refusal = await refusal_of(calls.images.GenerateImageAsync(image(seed=-5), metadata=metadata))
        assert refusal.trailers["x-request-id"] == sent


async def test_an_error_without_a_usable_request_id_gets_one(calls: Calls) -> None:
    given = set()
    for metadata in ((), (("x-request-id", ""),), (("x-request-id", "r" * 129),)):
        refusal = await refusal_of(calls.tasks.GetTask(NOBODYS, metadata=metadata))
        given.add(refusal.trailers["x-request-id"])
    assert len(given) == 3
    assert all(0 < len(request_id) <= 128 for request_id in given)


async def test_metadata_that_nobody_knows_is_ignored(calls: Calls) -> None:
    metadata = (("authorization", "Bearer x"), ("user-data-bin", b"\x00\xff"), ("early-task-id-bin", b"1"))
    accepted = await calls.images.GenerateImageAsync(image(), metadata=metadata)
    wait = WaitTaskRequest(task_id=accepted.task_id)
    wait.wait.FromMilliseconds(0)
    assert (await calls.tasks.WaitTask(wait, metadata=metadata)).task.task_id == accepted.task_id


@pytest.mark.parametrize("sent", ["", "req-17"])
async def test_the_log_holds_the_cause_of_a_bug_under_the_request_id_of_its_error(sent: str) -> None:
    """Before a task was accepted, and after: its record is made unreadable while a call waits for it."""
    metadata = (("x-request-id", sent),) if sent else ()
    with deployed() as deployment:
        async with called(deployment) as calls:
            call = started(calls, image(), (("early-task-id", "1"), *metadata))
            task_id = str(dict(await call.initial_metadata())["task-id"])
            deployment.spoil(task_id)
            await deployment.announce(task_id)
            waited = await refusal_of_stream(call)
            asked = await refusal_of(calls.tasks.GetTask(GetTaskRequest(task_id=task_id), metadata=metadata))
        lines = [json.loads(line) for line in deployment.api.log().splitlines() if "unexpected error" in line]
    assert [refusal.code for refusal in (waited, asked)] == [grpc.StatusCode.INTERNAL] * 2
    assert waited.trailers["task-id"] == task_id
    ids = [refusal.trailers["x-request-id"] for refusal in (waited, asked)]
    assert [line["x_request_id"] for line in lines] == ids
    assert all("Error" in line["exception"] for line in lines)
    assert ids == [sent] * 2 if sent else ids[0] != ids[1]

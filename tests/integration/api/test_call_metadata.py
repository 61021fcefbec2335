"""What travels beside the messages: the early task id, and the id that ties an answer to the log."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest
from image.v1.image_service_pb2 import GenerateImageAsyncResponse
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


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def header(name: bytes, value: bytes) -> bytes:
    """A header field, spelled out (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


async def submitted_raw(port: int, request_id: bytes) -> bytes:
    """What a submit answers to a client that sends any bytes as its x-request-id; gRPC's own would not."""
    body = image().SerializeToString()
    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/image.v1.ImageService/GenerateImageAsync",
        b":authority": b"localhost",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
        b"x-request-id": request_id,
    }
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        writer.write(frame(1, 4, 1, b"".join(header(*field) for field in headers.items())))
        writer.write(frame(0, 1, 1, b"\0" + len(body).to_bytes(4, "big") + body))
        answer = b""
        async with asyncio.timeout(20):
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                if stream == 1 and kind == 0:
                    answer += payload
                if stream == 1 and (kind == 3 or (kind in (0, 1) and flags & 1)):
                    return answer
    finally:
        writer.close()


@pytest.mark.parametrize("sent", [b"plain", b"caf\xe9", "café".encode(), b"a\x01b"])
async def test_a_request_id_that_cannot_be_sent_back_costs_no_call(queueing: Deployment, sent: bytes) -> None:
    answer = await submitted_raw(queueing.api.grpc_port, sent)
    assert GenerateImageAsyncResponse.FromString(answer[5:]).task_id


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

"""Which calls are repeated, counted where they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from image.v1.image_service_pb2 import GenerateImageAsyncResponse, GenerateImageResponse
from task.v1.task_pb2 import Task, TaskState
from task.v1.task_service_pb2 import GetTaskResponse

from imagegen import ImageClient, ImageServiceError, Unavailable, Unreachable
from tests.client.scripted_server import TASK_ID, Context, Fault, ScriptedService, scripted_service

AWAY = Fault(code=grpc.StatusCode.UNAVAILABLE, reason="STORE_UNAVAILABLE", retry_after_s=1)
CUT = Fault(code=grpc.StatusCode.UNAVAILABLE, domain="")
CLOSING = Fault(code=grpc.StatusCode.CANCELLED, domain="")
"""As a server answers what arrives in its last moment."""

Call = Callable[..., Awaitable[Any]]


def submitting(client: ImageClient) -> dict[str, Call]:
    async def stream(**fields: Any) -> None:
        async for _ in client.stream_sequence("a cat", **fields):
            pass

    return {
        "GenerateImage": lambda **fields: client.generate("a cat", **fields),
        "GenerateSequentialImages": lambda **fields: client.generate_sequence("a cat", **fields),
        "GenerateImageAsync": lambda **fields: client.submit("a cat", **fields),
        "GenerateSequentialImagesAsync": lambda **fields: client.submit("a cat", images=2, **fields),
        "StreamSequentialImages": stream,
    }


METHODS = list(submitting(ImageClient.__new__(ImageClient)))


@pytest.mark.parametrize("fault", [AWAY, CUT, CLOSING], ids=["said by the service", "connection", "closing"])
@pytest.mark.parametrize("method", METHODS)
async def test_without_a_request_id_nothing_is_sent_twice(
    method: str, fault: Fault, client: ImageClient, service: ScriptedService
) -> None:
    service.on(method, fault)
    with pytest.raises((Unavailable, Unreachable)):
        await submitting(client)[method](request_id="")
    assert len(service.asked(method)) == 1


@pytest.mark.parametrize("method", METHODS)
async def test_with_a_request_id_the_same_request_is_repeated(
    method: str, client: ImageClient, service: ScriptedService
) -> None:
    service.on(method, AWAY)
    with pytest.raises(Unavailable) as caught:
        await submitting(client)[method]()
    requests = service.asked(method)
    assert len(requests) == 4
    assert len({request.request_id for request in requests}) == 1
    assert caught.value.request_id == requests[0].request_id
    assert caught.value.retry_after_s == 1


async def test_a_repeat_gets_the_answer(client: ImageClient, service: ScriptedService) -> None:
    service.on("GenerateImage", CUT, CLOSING, AWAY, GenerateImageResponse(task_id=TASK_ID))
    assert (await client.generate("a cat")).task_id == TASK_ID
    assert len(service.asked("GenerateImage")) == 4


async def test_a_large_request_is_repeated_too(client: ImageClient, service: ScriptedService) -> None:
    service.on("GenerateImageAsync", AWAY, GenerateImageAsyncResponse(task_id=TASK_ID))
    assert await client.submit("a cat", references=[b"x" * 3_000_000]) == TASK_ID
    assert [len(r.reference_images[0].data) for r in service.asked("GenerateImageAsync")] == [3_000_000] * 2


async def test_reads_are_repeated(client: ImageClient, service: ScriptedService) -> None:
    task = Task(task_id=TASK_ID, state=TaskState.TASK_STATE_PENDING)
    service.on("GetTask", AWAY, GetTaskResponse(task=task))
    assert await client.get(TASK_ID) == task
    assert len(service.asked("GetTask")) == 2


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ],
)
async def test_no_other_code_is_repeated(
    code: grpc.StatusCode, client: ImageClient, service: ScriptedService
) -> None:
    service.on("GenerateImage", Fault(code=code, reason="PROVIDER_REJECTED"))
    with pytest.raises(ImageServiceError):
        await client.generate("a cat")
    assert len(service.asked("GenerateImage")) == 1


@pytest.mark.parametrize(("request_id", "sent"), [(None, 2), ("", 1)], ids=["with request id", "without"])
async def test_a_connection_that_dies_under_a_call(request_id: str | None, sent: int) -> None:
    """A server that vanishes in mid-call: the call is repeated on its successor, but only under a request
    id."""
    arrived = asyncio.Event()

    async def never(request: object, context: Context) -> GenerateImageResponse:
        arrived.set()
        await asyncio.Event().wait()
        return GenerateImageResponse()

    async with scripted_service() as first:
        first.on("GenerateImage", never)
        port = int(first.target.rpartition(":")[2])
        client = ImageClient(first.target)
        call = asyncio.create_task(client.generate("a cat", request_id=request_id), name="generate")
        async with asyncio.timeout(10):
            await arrived.wait()
    async with client, scripted_service(port=port) as second:
        second.on("GenerateImage", GenerateImageResponse(task_id=TASK_ID))
        if sent == 2:
            assert (await call).task_id == TASK_ID
        else:
            with pytest.raises(Unreachable):
                await call
        assert len(first.asked("GenerateImage")) + len(second.asked("GenerateImage")) == sent

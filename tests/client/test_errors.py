"""What a failed call tells its caller."""

from __future__ import annotations

import asyncio
import socket

import grpc
import pytest
from image.v1.image_service_pb2 import GenerateImageResponse
from task.v1.error_reason_pb2 import ErrorReason
from task.v1.task_error_pb2 import TaskError
from task.v1.task_pb2 import Task, TaskState

from imagegen import (
    ImageClient,
    ImageServiceError,
    InvalidRequest,
    NotFound,
    Refused,
    RequestIdReused,
    StillRunning,
    TaskFailed,
    Unavailable,
    Unreachable,
    Violation,
    result_of,
)
from tests.client.scripted_server import TASK_ID, Context, Fault, ScriptedService

CODE = grpc.StatusCode


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(code=CODE.INVALID_ARGUMENT, reason="MALFORMED_REQUEST"), InvalidRequest),
        (Fault(code=CODE.NOT_FOUND, reason="MODEL_NOT_FOUND"), NotFound),
        (Fault(code=CODE.ALREADY_EXISTS, reason="REQUEST_ID_REUSED", task_id=TASK_ID), RequestIdReused),
        (Fault(code=CODE.FAILED_PRECONDITION, reason="MODEL_RETIRED"), Refused),
        (Fault(code=CODE.FAILED_PRECONDITION, reason="CONTENT_POLICY_INPUT", task_id=TASK_ID), TaskFailed),
        (Fault(code=CODE.FAILED_PRECONDITION, reason="TASK_ENDED", task_id=TASK_ID), Refused),
        (Fault(code=CODE.ABORTED, reason="PROVIDER_TIMEOUT", task_id=TASK_ID), TaskFailed),
        (Fault(code=CODE.ABORTED, reason="DRAINING", task_id=TASK_ID), StillRunning),
        (Fault(code=CODE.DEADLINE_EXCEEDED, reason="WAIT_EXPIRED", task_id=TASK_ID), StillRunning),
        (Fault(code=CODE.RESOURCE_EXHAUSTED, reason="QUEUE_FULL"), Unavailable),
        (Fault(code=CODE.UNAVAILABLE, reason="STORE_UNAVAILABLE"), Unavailable),
        (Fault(code=CODE.INTERNAL, reason="INTERNAL_ERROR"), ImageServiceError),
        (Fault(code=CODE.UNAVAILABLE, domain=""), Unreachable),
        (Fault(code=CODE.RESOURCE_EXHAUSTED, domain=""), ImageServiceError),
        (Fault(code=CODE.UNAUTHENTICATED, domain=""), ImageServiceError),
    ],
    ids=lambda value: value.reason if isinstance(value, Fault) else value.__name__,
)
async def test_each_code_and_reason_has_its_type(
    fault: Fault, kind: type[ImageServiceError], client: ImageClient, service: ScriptedService
) -> None:
    service.on("GenerateImage", fault)
    with pytest.raises(ImageServiceError) as caught:
        await client.generate("a cat", request_id="order-17")
    assert type(caught.value) is kind
    assert caught.value.code is fault.code
    assert caught.value.reason == (fault.reason if fault.domain else "")
    assert caught.value.message == fault.message
    assert caught.value.task_id == fault.task_id
    assert caught.value.request_id == "order-17"


async def test_violations_and_the_time_to_retry_are_read(
    client: ImageClient, service: ScriptedService
) -> None:
    service.on(
        "GenerateImage",
        Fault(
            code=CODE.INVALID_ARGUMENT,
            reason="INVALID_FIELD",
            violations=(("prompt", "is empty"), ("size", "0x0 is too small")),
            retry_after_s=3,
        ),
    )
    with pytest.raises(InvalidRequest) as caught:
        await client.generate("")
    assert caught.value.violations == (
        Violation(field="prompt", description="is empty"),
        Violation(field="size", description="0x0 is too small"),
    )
    assert caught.value.retry_after_s == 3.0


async def test_a_trailer_that_is_no_status_is_ignored(client: ImageClient, service: ScriptedService) -> None:
    async def answer(request: object, context: Context) -> GenerateImageResponse:
        await context.abort(CODE.INTERNAL, "odd", (("grpc-status-details-bin", b"\xff\xff\xff"),))

    service.on("GenerateImage", answer)
    with pytest.raises(ImageServiceError, match="odd"):
        await client.generate("a cat")


async def test_a_deadline_without_any_answer_is_no_task(
    client: ImageClient, service: ScriptedService
) -> None:
    async def answer(request: object, context: Context) -> GenerateImageResponse:
        await asyncio.Event().wait()  # until the client's deadline cancels it
        return GenerateImageResponse()

    service.on("GenerateImage", answer)
    with pytest.raises(Unreachable) as caught:
        await client.generate("a cat", timeout_s=0.2, request_id="order-17")
    assert caught.value.code is CODE.DEADLINE_EXCEEDED
    assert (caught.value.task_id, caught.value.request_id) == ("", "order-17")


async def test_a_target_that_nobody_listens_on_is_unreachable() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        async with ImageClient(f"127.0.0.1:{reserved.getsockname()[1]}") as client:
            with pytest.raises(Unreachable, match="refused"):
                await client.health()


def test_a_failed_task_raises_what_a_waiting_call_would_have() -> None:
    task = Task(
        task_id=TASK_ID,
        request_id="order-17",
        state=TaskState.TASK_STATE_FAILED,
        error=TaskError(
            reason=ErrorReason.ERROR_REASON_CONTENT_POLICY_INPUT,
            message="forbidden",
            code=9,
            metadata={"provider": "ark"},
        ),
    )
    with pytest.raises(TaskFailed, match="forbidden") as caught:
        result_of(task)
    assert caught.value.code is CODE.FAILED_PRECONDITION
    assert caught.value.reason == "CONTENT_POLICY_INPUT"
    assert caught.value.metadata == {"provider": "ark"}
    assert (caught.value.task_id, caught.value.request_id) == (TASK_ID, "order-17")


def test_a_cancelled_task_has_no_result() -> None:
    with pytest.raises(TaskFailed, match="cancelled"):
        result_of(Task(task_id=TASK_ID, state=TaskState.TASK_STATE_CANCELLED))


def test_a_task_that_goes_on_has_no_result_yet() -> None:
    with pytest.raises(StillRunning, match="pending") as caught:
        result_of(Task(task_id=TASK_ID, state=TaskState.TASK_STATE_PENDING))
    assert caught.value.task_id == TASK_ID


def test_a_reason_that_this_client_does_not_know_is_kept_as_a_number() -> None:
    task = Task(state=TaskState.TASK_STATE_FAILED)
    task.error.ParseFromString(b"\x08\xe7\x07")
    with pytest.raises(TaskFailed) as caught:
        result_of(task)
    assert caught.value.reason == "REASON_999"

"""Reading and cancelling tasks: ids and arguments that are wrong, and ids that are nobody's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from image.v1.image_service_pb2 import GetImageTaskRequest
from task.v1.task_service_pb2 import CancelTaskRequest, GetTaskRequest, WaitTaskRequest

from tests.integration.api.refusals import CALL_TIMEOUT_S, Refusal, assert_invalid, refusal_of
from tests.stack import Calls

pytestmark = [pytest.mark.xdist_group("api-queueing"), pytest.mark.usefixtures("unharmed")]

ReadRequest: TypeAlias = GetTaskRequest | WaitTaskRequest | GetImageTaskRequest | CancelTaskRequest


async def read_refusal_of(calls: Calls, request: ReadRequest) -> Refusal:
    if isinstance(request, GetTaskRequest):
        return await refusal_of(calls.tasks.GetTask(request, timeout=CALL_TIMEOUT_S))
    if isinstance(request, WaitTaskRequest):
        return await refusal_of(calls.tasks.WaitTask(request, timeout=CALL_TIMEOUT_S))
    if isinstance(request, CancelTaskRequest):
        return await refusal_of(calls.tasks.CancelTask(request, timeout=CALL_TIMEOUT_S))
    return await refusal_of(calls.images.GetImageTask(request, timeout=CALL_TIMEOUT_S))


def reading(task_id: str) -> list[ReadRequest]:
    """Every way to name a task."""
    return [
        GetTaskRequest(task_id=task_id),
        WaitTaskRequest(task_id=task_id),
        GetImageTaskRequest(task_id=task_id),
        CancelTaskRequest(task_id=task_id),
    ]


def view(number: Any, task_id: str = "t") -> ReadRequest:
    return GetTaskRequest(task_id=task_id, view=number)


def wait(seconds: int, nanos: int = 0, task_id: str = "t") -> ReadRequest:
    return WaitTaskRequest(task_id=task_id, wait=Duration(seconds=seconds, nanos=nanos))


# what is wrong              the request            the field, what is allowed
INVALID_READS: dict[str, tuple[ReadRequest, Mapping[str, str]]] = {
    "view unknown":         (view(3),               {"view": "TASK_VIEW_BASIC"}),
    "view negative":        (view(-1),              {"view": "TASK_VIEW_FULL"}),
    "wait -1 s":            (wait(-1),              {"wait": "0 or more"}),
    "wait -1 ns":           (wait(0, -1),           {"wait": "0 or more"}),
    "wait least":           (wait(-(2**63)),        {"wait": "0 or more"}),
    "view unknown, no id":  (view(3, ""),           {"view": "TASK_VIEW_BASIC", "task_id": "1 to 128"}),
    "wait -1 s, id 129":    (wait(-1, 0, "t" * 129), {"wait": "0 or more", "task_id": "1 to 128"}),
}  # fmt: skip


@pytest.mark.parametrize("case", INVALID_READS)
async def test_invalid_reads_are_named(calls: Calls, case: str) -> None:
    request, wanted = INVALID_READS[case]
    assert_invalid(await read_refusal_of(calls, request), wanted)


@pytest.mark.parametrize("task_id", ["", "t" * 129, "猫" * 129, "t" * 5_000], ids=len)
async def test_an_id_that_cannot_be_one(calls: Calls, task_id: str) -> None:
    for request in reading(task_id):
        assert_invalid(await read_refusal_of(calls, request), {"task_id": "1 to 128"})


NOBODYS = {
    "the seeds'": "task_1234567890",
    "well formed": "01JD8ZK5T0N0V6Y3W2Q4R5S6T7",
    "128 characters": "t" * 128,
    "128 wide": "\U0010ffff" * 128,
    "a path": "../../../etc/passwd",
    "a query": "' OR 1=1 --",
    "NULs": "\0" * 26,
    "blank": " ",
    "wide digits": "１" * 26,
}


@pytest.mark.parametrize("case", NOBODYS)
async def test_an_id_that_is_not_ours(calls: Calls, case: str) -> None:
    task_id = NOBODYS[case]
    for request in reading(task_id):
        refusal = await read_refusal_of(calls, request)
        assert refusal.code is grpc.StatusCode.NOT_FOUND
        assert refusal.reason == "TASK_NOT_FOUND"
        assert refusal.metadata == {"task_id": task_id}
        assert refusal.resource == ("task.v1.Task", task_id)

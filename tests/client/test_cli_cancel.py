"""`imagegen cancel`."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from task.v1.attempt_pb2 import Attempt
from task.v1.task_pb2 import Task, TaskState
from task.v1.task_service_pb2 import CancelTaskRequest, CancelTaskResponse, Sent

from imagegen.client import ImageClient
from imagegen.errors import NotFound
from tests.client import example_tasks
from tests.client.command_line import imagegen
from tests.client.example_tasks import after
from tests.client.scripted_server import TASK_ID, Fault, ScriptedService

CANCELLED = Task(task_id=TASK_ID, state=TaskState.TASK_STATE_CANCELLED, provider="ark")
DRAWING = example_tasks.PROCESSING
PROCESSING = example_tasks.task(TaskState.TASK_STATE_PROCESSING, provider="ark")
DRAWN = example_tasks.task(TaskState.TASK_STATE_CANCELLED, attempts=DRAWING.attempts)
MOVED = example_tasks.task(
    TaskState.TASK_STATE_CANCELLED, attempts=[Attempt(provider="ark", sent_time=after(1)), *DRAWING.attempts]
)


@pytest.mark.parametrize(
    ("task", "sent", "says"),
    [
        (CANCELLED, Sent.SENT_NOT_SENT, f"✓ task {TASK_ID} is cancelled; nothing was sent to a provider\n"),
        (
            CANCELLED,
            Sent.SENT_SENT,
            f"✓ task {TASK_ID} is cancelled; what the provider was asked for may be charged\n",
        ),
        (
            PROCESSING,
            Sent.SENT_SENT,
            f"task {TASK_ID} was asked to end and still runs; "
            "what the provider was asked for may be charged\n",
        ),
        (DRAWN, Sent.SENT_SENT, f"✓ task {TASK_ID} is cancelled; nothing is charged for it\n"),
        (
            DRAWING,
            Sent.SENT_SENT,
            f"task {TASK_ID} was asked to end and still runs; nothing is charged for it\n",
        ),
        (
            MOVED,
            Sent.SENT_SENT,
            f"✓ task {TASK_ID} is cancelled; what the provider was asked for may be charged\n",
        ),
    ],
    ids=["not sent", "sent", "still running", "drawn", "still drawing", "drawn after all"],
)
async def test_it_says_what_became_of_the_task(
    task: Task, sent: Sent, says: str, service: ScriptedService, tmp_path: Path
) -> None:
    service.on("CancelTask", CancelTaskResponse(task=task, sent=sent))
    outcome = await imagegen("cancel", TASK_ID, "--target", service.target, cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(says)
    assert service.asked("CancelTask") == [CancelTaskRequest(task_id=TASK_ID)]
    if task.state == TaskState.TASK_STATE_PROCESSING:
        assert f"imagegen task {TASK_ID} --wait" in outcome.out


async def test_as_json(service: ScriptedService, tmp_path: Path) -> None:
    service.on("CancelTask", CancelTaskResponse(task=CANCELLED, sent=Sent.SENT_NOT_SENT))
    outcome = await imagegen("cancel", TASK_ID, "--json", "--target", service.target, cwd=tmp_path)
    assert json.loads(outcome.out) == {"task_id": TASK_ID, "state": "cancelled", "sent": False}


async def test_a_task_that_is_over_is_a_failure_in_one_line(service: ScriptedService, tmp_path: Path) -> None:
    over = Fault(
        code=grpc.StatusCode.FAILED_PRECONDITION,
        message=f"Task {TASK_ID} is COMPLETED and cannot be cancelled any more.",
        reason="TASK_ENDED",
    )
    service.on("CancelTask", over)
    outcome = await imagegen("cancel", TASK_ID, "--target", service.target, cwd=tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        f"imagegen: Task {TASK_ID} is COMPLETED and cannot be cancelled any more (TASK_ENDED)\n"
    )


UNKNOWN = f"whether task {TASK_ID} was cancelled is not known; the same command may be repeated"


async def test_without_an_answer_nothing_is_known_of_the_task(
    service: ScriptedService, tmp_path: Path
) -> None:
    service.on("CancelTask", Fault(code=grpc.StatusCode.DEADLINE_EXCEEDED, domain=""))
    outcome = await imagegen("cancel", TASK_ID, "--json", "--target", service.target, cwd=tmp_path)
    assert outcome.code == 3
    assert outcome.err == f"imagegen: cannot reach {service.target}: so it is; {UNKNOWN}\n"
    assert outcome.document()["task_id"] == TASK_ID


async def test_a_short_outage_is_borne(service: ScriptedService) -> None:
    """Cancelling twice is the same as once, so it is repeated."""
    away = Fault(code=grpc.StatusCode.UNAVAILABLE)
    service.on("CancelTask", away, CancelTaskResponse(task=CANCELLED, sent=Sent.SENT_NOT_SENT))
    async with ImageClient(service.target) as client:
        assert (await client.cancel(TASK_ID)).task == CANCELLED
    assert len(service.asked("CancelTask")) == 2


async def test_an_unknown_task_is_not_found(service: ScriptedService) -> None:
    service.on("CancelTask", Fault(code=grpc.StatusCode.NOT_FOUND, reason="TASK_NOT_FOUND"))
    async with ImageClient(service.target) as client:
        with pytest.raises(NotFound):
            await client.cancel(TASK_ID)

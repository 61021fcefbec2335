"""Tasks as the service would return them, at chosen points of their life."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from task.v1.attempt_pb2 import Attempt, AttemptOutcome
from task.v1.error_reason_pb2 import ErrorReason
from task.v1.image_pb2 import Image, ImageFailure, ImageResult
from task.v1.task_error_pb2 import TaskError
from task.v1.task_pb2 import Cost, Progress, Task, TaskState

from tests.client.scripted_server import TASK_ID

ACCEPTED = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

FORBIDDEN = TaskError(
    reason=ErrorReason.ERROR_REASON_CONTENT_POLICY_INPUT,
    message="The provider's content policy forbids the prompt. Change it.",
    code=9,
)
LOST = TaskError(reason=ErrorReason.ERROR_REASON_WORKER_LOST, message="The worker was lost.", code=10)


def after(seconds: float) -> datetime:
    return ACCEPTED + timedelta(seconds=seconds)


def attempt(
    number: int,
    *,
    start_s: float,
    end_s: float | None = None,
    outcome: AttemptOutcome = AttemptOutcome.ATTEMPT_OUTCOME_UNSPECIFIED,
    error: TaskError | None = None,
    paid: bool = False,
) -> Attempt:
    return Attempt(
        number=number,
        provider="local",
        worker=f"worker-{number}",
        start_time=after(start_s),
        end_time=None if end_s is None else after(end_s),
        outcome=outcome,
        error=error,
        paid=paid,
    )


def task(state: TaskState, **changes: Any) -> Task:
    """A task of one picture, accepted and nothing more, with `changes`."""
    fields: dict[str, Any] = {
        "task_id": TASK_ID,
        "state": state,
        "provider": "local",
        "model": "local-canvas",
        "prompt": "a cat",
        "revision": 1,
        "create_time": ACCEPTED,
        "update_time": ACCEPTED,
        "progress": Progress(images_wanted=1),
    }
    return Task(**(fields | changes))


def completed(*images: Image, failures: tuple[ImageFailure, ...] = (), **changes: Any) -> Task:
    """A task whose first worker died and whose second one made `images`."""
    wanted = len(images) + len(failures)
    fields: dict[str, Any] = {
        "start_time": after(0.25),
        "end_time": after(3.5),
        "expire_time": after(86_400),
        "attempts": [
            attempt(1, start_s=0.25, end_s=1.0, outcome=AttemptOutcome.ATTEMPT_OUTCOME_NOT_SENT, error=LOST),
            attempt(2, start_s=1.5, end_s=3.5, outcome=AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED, paid=True),
        ],
        "progress": Progress(images_done=len(images), images_wanted=wanted),
        "cost": Cost(currency="CNY", amount_micros=200_000),
        "image": ImageResult(images=images, failures=failures),
    }
    return task(TaskState.TASK_STATE_COMPLETED, **(fields | changes))


def failed(**changes: Any) -> Task:
    """A task that its provider's content policy has ended."""
    fields: dict[str, Any] = {
        "start_time": after(0.25),
        "end_time": after(1.0),
        "attempts": [
            attempt(
                1, start_s=0.25, end_s=1.0, outcome=AttemptOutcome.ATTEMPT_OUTCOME_REJECTED, error=FORBIDDEN
            )
        ],
        "error": FORBIDDEN,
    }
    return task(TaskState.TASK_STATE_FAILED, **(fields | changes))


PENDING = task(TaskState.TASK_STATE_PENDING)
PROCESSING = task(
    TaskState.TASK_STATE_PROCESSING, start_time=after(0.25), attempts=[attempt(1, start_s=0.25)]
)

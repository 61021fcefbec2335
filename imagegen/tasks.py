"""What a task says about itself."""

from __future__ import annotations

import grpc
from task.v1.error_reason_pb2 import ErrorReason
from task.v1.image_pb2 import ImageResult
from task.v1.task_error_pb2 import TaskError
from task.v1.task_pb2 import Task, TaskState

from imagegen.errors import StillRunning, TaskFailed

ENDED = frozenset(
    {TaskState.TASK_STATE_COMPLETED, TaskState.TASK_STATE_FAILED, TaskState.TASK_STATE_CANCELLED}
)
FREE_PROVIDER = "local"
"""What it draws costs nothing, in every deployment."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def has_ended(task: Task) -> bool:
    """Whether the task is in a state that nothing follows."""
    return task.state in ENDED


def state_name(task: Task) -> str:
    """The state in lower case, without its prefix: "pending", "completed"; "state 99" where the service knows
    more than this client."""
    if task.state not in TaskState.values():
        return f"state {task.state}"
    return TaskState.Name(task.state).removeprefix("TASK_STATE_").lower()


def may_be_charged(task: Task) -> bool:
    """Whether what providers were asked for by the task may cost something."""
    asked = {attempt.provider for attempt in task.attempts if attempt.HasField("sent_time")}
    return not asked | {task.provider} <= {FREE_PROVIDER}


def reason_name(error: TaskError) -> str:
    """The reason without its prefix, "PROVIDER_TIMEOUT"; "REASON_99" where the service knows more than this
    client."""
    if error.reason not in ErrorReason.values():
        return f"REASON_{error.reason}"
    return ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")


def result_of(task: Task) -> ImageResult:
    """The pictures of a task that COMPLETED.

    Raises TaskFailed if it FAILED or was CANCELLED, and StillRunning if it has not ended.
    """
    if task.state == TaskState.TASK_STATE_COMPLETED:
        return task.image
    if task.state == TaskState.TASK_STATE_FAILED:
        raise TaskFailed(
            task.error.message,
            code=_CODES.get(task.error.code, grpc.StatusCode.UNKNOWN),
            reason=reason_name(task.error),
            task_id=task.task_id,
            request_id=task.request_id,
            metadata=task.error.metadata,
        )
    if task.state == TaskState.TASK_STATE_CANCELLED:
        raise TaskFailed(
            "the task was cancelled",
            code=grpc.StatusCode.ABORTED,
            reason="TASK_CANCELLED",
            task_id=task.task_id,
            request_id=task.request_id,
        )
    raise still_running(task.task_id, state=state_name(task), request_id=task.request_id)


def still_running(task_id: str, *, state: str = "", request_id: str = "") -> StillRunning:
    """The error for a wait that is over before the task is."""
    return StillRunning(
        f"the task is still {state or 'running'}",
        code=grpc.StatusCode.DEADLINE_EXCEEDED,
        reason="WAIT_EXPIRED",
        task_id=task_id,
        request_id=request_id,
        metadata={"task_id": task_id},
    )

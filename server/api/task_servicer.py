"""task.v1.TaskService: one short method per rpc."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc.aio
from task.v1 import task_service_pb2 as pb
from task.v1 import task_service_pb2_grpc

from server.api import convert
from server.api.answers import Answers
from server.api.deadlines import seconds_to_answer
from server.domain.admission import check_task_id
from server.domain.errors import Violation
from server.service.cancels import CANCEL_WAIT_S, Cancels
from server.service.tasks import Tasks

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

MAX_WAIT_S = 50.0
"""Shorter than the minute after which many proxies cut a silent stream."""


class TaskServicer(task_service_pb2_grpc.TaskServiceServicer):
    """Reads and cancels tasks of every type."""

    def __init__(self, *, tasks: Tasks, cancels: Cancels, answers: Answers) -> None:
        self._tasks = tasks
        self._cancels = cancels
        self._answers = answers

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.GetTaskResponse:  # noqa: N802
        unknown = convert.unknown_enum("view", request.view, pb.TaskView)
        check_task_id(request.task_id, others=[unknown] if unknown is not None else [])
        task = await self._tasks.get(request.task_id)
        return pb.GetTaskResponse(task=self._answers.of(task, attempts=request.view != pb.TASK_VIEW_BASIC))

    async def WaitTask(self, request: pb.WaitTaskRequest, context: Context) -> pb.WaitTaskResponse:  # noqa: N802
        wait_s = request.wait.ToNanoseconds() / 1e9 if request.HasField("wait") else MAX_WAIT_S
        wrong = []
        if wait_s < 0:
            description = f"is {wait_s:g} s; allowed: 0 or more, capped at {MAX_WAIT_S:g} s"
            wrong.append(Violation(field="wait", description=description))
        check_task_id(request.task_id, others=wrong)
        timeout_s = min(wait_s, seconds_to_answer(context, default_s=MAX_WAIT_S), MAX_WAIT_S)
        task = await self._tasks.wait(request.task_id, timeout_s=timeout_s)
        return pb.WaitTaskResponse(task=self._answers.of(task))

    async def CancelTask(self, request: pb.CancelTaskRequest, context: Context) -> pb.CancelTaskResponse:  # noqa: N802
        check_task_id(request.task_id)
        within_s = min(CANCEL_WAIT_S, seconds_to_answer(context, default_s=CANCEL_WAIT_S))
        cancelled = await self._cancels.cancel(request.task_id, within_s=within_s)
        return pb.CancelTaskResponse(
            task=self._answers.of(cancelled.task),
            sent=pb.SENT_SENT if cancelled.sent else pb.SENT_NOT_SENT,
        )

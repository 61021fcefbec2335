"""A sequence as it is made: what happens is told once, over streams that may break."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import grpc
from image.v1.image_service_pb2 import StreamSequentialImagesResponse
from task.v1.task_pb2 import Task

from imagegen.errors import ImageServiceError, TaskFailed, Unavailable, Unreachable
from imagegen.patience import Patience
from imagegen.tasks import has_ended, result_of, still_running

Events = AsyncGenerator[StreamSequentialImagesResponse, None]


async def events(open_stream: Callable[[float], Events], *, request_id: str, timeout_s: float) -> Events:
    """What happens until the task's end or for `timeout_s`. `open_stream` is given what is left of that time.

    A stream that breaks once the task is known is opened again, if the request has an id. Raises as
    `ImageClient.stream_sequence` does.
    """
    patience = Patience(timeout_s)
    task_id = ""
    seen: set[str | int] = set()
    ended: Task | None = None
    while True:
        try:
            async with aclosing(open_stream(patience.left_s)) as stream:
                async for event in stream:
                    patience.answered()
                    what = _what(event)
                    if what not in seen:
                        yield event
                    if what is not None:
                        seen.add(what)
                        task_id = task_id or event.task_id
                    if event.HasField("task") and has_ended(event.task):
                        ended = event.task
            return
        except ImageServiceError as error:
            if ended is not None and not isinstance(error, TaskFailed):
                result_of(ended)  # raises TaskFailed, unless it is complete and nothing more was to come
                return
            error.task_id = error.task_id or task_id
            if not (task_id and isinstance(error, Unavailable | Unreachable)):
                raise
            if isinstance(error, Unreachable) and error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise still_running(task_id, request_id=request_id) from error
            if not request_id:
                raise
            await patience.bear(error)


def _what(event: StreamSequentialImagesResponse) -> str | int | None:
    """What an event says that need be said only once; None for one that may come again."""
    match event.WhichOneof("event"):
        case "task_id":
            return "task_id"
        case "image":
            return event.image.index
        case "failure":
            return event.failure.index
        case _:
            return None

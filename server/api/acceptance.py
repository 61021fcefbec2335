"""What an error means once a task was accepted: it names the task, and may not call for a blind repeat."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from server.api.status import INTERNAL_TEXT
from server.domain.errors import ServiceError
from server.domain.task import Task


@contextmanager
def about(task: Task) -> Iterator[None]:
    """Give every error raised within the accepted task's id, bugs of ours included.

    UNAVAILABLE means "nothing was accepted, send it again" to clients. That stays right only for a request
    with a request_id: its repeat finds this task. Without one it would make, and pay for, a second task.
    """
    try:
        yield
    except ServiceError as error:
        error.task_id = error.task_id or task.id
        error.repeatable = bool(task.request_id)
        raise
    except Exception as error:
        structlog.get_logger(__name__).error(
            "unexpected error after acceptance", task_id=task.id, exc_info=error
        )
        raise ServiceError(INTERNAL_TEXT, task_id=task.id) from error

"""Tasks as messages, made once for a task that stays as it is: callers that poll ask for it again."""

from __future__ import annotations

from task.v1 import task_pb2

from server.api import convert
from server.domain.task import Task

MOST = 256
"""Messages kept, some kilobytes each."""


class Answers:
    """The `MOST` messages last asked for: one of a task for each of its views.

    Every call has read its task from the store. What is remembered is what the task looks like as a message:
    to make that takes many times as long as to see that the task is the same. Links end, so what has images
    is made anew each time.
    """

    def __init__(self, mint: convert.Mint) -> None:
        self._mint = mint
        self._made: dict[tuple[str, bool], tuple[Task, task_pb2.Task]] = {}

    def of(self, task: Task, *, attempts: bool = True) -> task_pb2.Task:
        """See `convert.task`. The message is shared: it must not be changed."""
        key = (task.id, attempts)
        made = self._made.pop(key, None)
        if made is None or made[0] != task:
            made = task, convert.task(task, self._mint, attempts=attempts)
        if not task.images:
            self._made[key] = made
            if len(self._made) > MOST:
                del self._made[next(iter(self._made))]
        return made[1]

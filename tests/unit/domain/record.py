"""One task's document in memory, changed by conditional writes as the stores change it."""

from __future__ import annotations

from typing import Any

from server.domain.task import Task
from server.domain.writes import Write
from server.store.documents import decode_task, encode_task, encode_write

WRITER = "one-writer"


class Record:
    """The stored form of one task: `write` does all of a write or nothing."""

    def __init__(self, task: Task) -> None:
        self.document = encode_task(task, token=WRITER)

    @property
    def task(self) -> Task:
        """The task as it stands."""
        return decode_task(self.document)

    def write(self, write: Write, *, writer: str = WRITER) -> bool:
        """Whether all was as the write expects, and it took place."""
        change = encode_write(write, token=writer)
        if (self.document["state"], self.document["attempt"]) != (change.state, change.attempt):
            return False
        if change.revision not in (None, self.document["revision"]):
            return False
        for path, value in change.set.items():
            place, name = self._place(path)
            place[name] = value
        for path in change.unset:
            place, name = self._place(path)
            place.pop(name, None)
        self.document["revision"] += 1
        return True

    def after(self, write: Write) -> Task:
        """The task after a write that must take place."""
        assert self.write(write), f"refused: {write}"
        return self.task

    def _place(self, path: str) -> tuple[dict[str, Any], str]:
        *parents, name = path.split(".")
        place = self.document
        for parent in parents:
            place = place.setdefault(parent, {})
        return place, name

"""One task's document in memory, changed by conditional writes as the stores change it."""

from __future__ import annotations

from server.domain.task import Task
from server.domain.writes import Write
from server.store.documents import decode_task, encode_task, encode_write, make_change

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
        return make_change(self.document, encode_write(write, token=writer))

    def after(self, write: Write) -> Task:
        """The task after a write that must take place."""
        assert self.write(write), f"refused: {write}"
        return self.task

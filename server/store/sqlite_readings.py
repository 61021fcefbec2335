"""Documents as this process has last read or written them: to be written back whole, and to be read again.

To change a document in place SQLite reads all of it, looks for each path, and writes all of it anew. A worker
has just read the document, and makes the change faster: the statement then only looks whether the stored text
is still the one that was read. And an api whose callers poll makes a task of it once, not at each reading.
"""

from __future__ import annotations

from msgspec import Struct

from server.domain.task import LIVE_STATES, Task
from server.store.documents import Change, decode_task, make_change
from server.store.fields import Document
from server.store.sqlite_statements import from_json, to_json

MOST = 1_024
"""Of as many tasks as a worker may run at a time, or an api's callers poll, as a rule."""

_LIVE = frozenset(state.value for state in LIVE_STATES)


class Rewritten(Struct, eq=False):
    """A task's document with a change made in it."""

    document: Document
    text: str
    """What the document reads like …"""
    before: str
    """… and what the stored one must still read like."""

    @property
    def row(self) -> tuple[str, str, int, str, str]:
        """What `SWAP_TASK` is given."""
        document = self.document
        return self.text, document["state"], document["attempt"], document["_id"], self.before


class _Reading(Struct, eq=False):
    """A document, the text it was read from, and the task that it is once somebody asked for that."""

    text: str
    document: Document
    task: Task | None = None


class Readings:
    """The documents of at most `MOST` tasks that are not over: those last read or written."""

    def __init__(self) -> None:
        self._known: dict[str, _Reading] = {}

    def read(self, task_id: str, text: str) -> Task:
        """The task of a text that was just read: while that stays the same, the same task."""
        reading = self._known.get(task_id)
        if reading is None or reading.text != text:
            reading = _Reading(text, from_json(text))
        self._keep(reading)
        if reading.task is None:
            reading.task = decode_task(reading.document)
        return reading.task

    def rewrite(self, change: Change) -> Rewritten | None:
        """The task with the change made; None when it is not at hand as the change expects it.

        It is not at hand any more until it was read again, or `written`.
        """
        reading = self._known.pop(change.task_id, None)
        if reading is None or not make_change(reading.document, change):
            return None
        return Rewritten(reading.document, to_json(reading.document), reading.text)

    def written(self, task: Rewritten) -> None:
        """The store holds it now."""
        self._keep(_Reading(task.text, task.document))

    def _keep(self, reading: _Reading) -> None:
        task_id = reading.document["_id"]
        self._known.pop(task_id, None)
        if reading.document["state"] in _LIVE:
            self._known[task_id] = reading
            if len(self._known) > MOST:
                del self._known[next(iter(self._known))]

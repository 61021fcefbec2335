"""Documents as this process has last read or written them, to be written back whole.

To change a document in place SQLite reads all of it, looks for each path, and writes all of it anew. A worker
has just read the document, and makes the change faster: the statement then only looks whether the stored text
is still the one that was read.
"""

from __future__ import annotations

from typing import NamedTuple

from server.domain.task import LIVE_STATES
from server.store.documents import Change, make_change
from server.store.fields import Document
from server.store.sqlite_statements import from_json, to_json

MOST = 256
"""Of more tasks than a worker runs at a time, as a rule."""

_LIVE = frozenset(state.value for state in LIVE_STATES)


class Rewritten(NamedTuple):
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


class Readings:
    """The documents of at most `MOST` tasks that are not over: those last read or written."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[str, Document]] = {}

    def read(self, text: str) -> Document:
        """The document of a text that was just read. Not to be held on to: the next write changes it."""
        document: Document = from_json(text)
        self._keep(document, text)
        return document

    def rewrite(self, change: Change) -> Rewritten | None:
        """The task with the change made; None when it is not at hand as the change expects it.

        It is not at hand any more until it was read again, or `written`.
        """
        text, document = self._texts.pop(change.task_id, ("", None))
        if document is None or not make_change(document, change):
            return None
        return Rewritten(document, to_json(document), text)

    def written(self, task: Rewritten) -> None:
        """The store holds it now."""
        self._keep(task.document, task.text)

    def _keep(self, document: Document, text: str) -> None:
        self._texts.pop(document["_id"], None)
        if document["state"] in _LIVE:
            self._texts[document["_id"]] = text, document
            if len(self._texts) > MOST:
                del self._texts[next(iter(self._texts))]

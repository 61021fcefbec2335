"""Server-sent events out of the pieces of a body, however these are cut.

By the HTML standard's rules for `text/event-stream`: lines end in CR, LF or both, an empty one ends an
event, a colon at the beginning makes a comment. An event without its empty line at the end is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLong(Exception):
    """An event has more bytes than it may have."""


class ServerEvent(Struct, frozen=True):
    """One event."""

    name: str
    """Its `event` field; `message` where it has none."""
    data: str
    """Its `data` fields, one a line."""


class EventParser:
    """Fed with pieces of the body; holds at most `max_bytes` of an event that is not complete."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._line = bytearray()
        self._after_cr = False
        self._first = True
        self._name = ""
        self._data: list[bytes] = []
        self._held = 0
        """Bytes in `_data`."""

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """The events that this piece completes; they must all be taken. Raises EventTooLong."""
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_cr = piece.endswith(b"\r")
        *whole, rest = _LINE_END.split(piece)
        for end in whole:
            self._grow(end)
            line, self._line = bytes(self._line), bytearray()
            if (event := self._understand(line)) is not None:
                yield event
        self._grow(rest)

    def _grow(self, part: bytes) -> None:
        self._line += part
        if self._held + len(self._line) > self._max_bytes:
            raise EventTooLong

    def _understand(self, line: bytes) -> ServerEvent | None:
        if self._first:
            line, self._first = line.removeprefix(_BYTE_ORDER_MARK), False
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._held += len(value) + 1
        elif field == b"event":
            self._name = value.decode(errors="replace")
        return None

    def _dispatch(self) -> ServerEvent | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._held = "", [], 0
        return ServerEvent(name, b"\n".join(data).decode(errors="replace")) if data else None

"""Server-sent events: the same ones however the body is cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.providers.sse import EventParser, EventTooLong, ServerEvent

MAX_BYTES = 1_000

BODIES = {
    "one": (b"event: made\ndata: 1\n\n", [ServerEvent("made", "1")]),
    "CR LF": (b"event: made\r\ndata: 1\r\n\r\n", [ServerEvent("made", "1")]),
    "CR": (b"event: made\rdata: 1\r\r", [ServerEvent("made", "1")]),
    "mixed": (b"data: 1\r\n\ndata: 2\n\r\n", [ServerEvent("message", "1"), ServerEvent("message", "2")]),
    "no name": (b"data: [DONE]\n\n", [ServerEvent("message", "[DONE]")]),
    "several lines": (b"data: a\ndata:  b\ndata\ndata:c\n\n", [ServerEvent("message", "a\n b\n\nc")]),
    "comments": (b": keep alive\n\n:\n\ndata: 1\n: in between\n\n", [ServerEvent("message", "1")]),
    "other fields": (b"id: 7\nretry: 10\nmood: good\ndata: 1\n\n", [ServerEvent("message", "1")]),
    "a name alone": (b"event: made\n\ndata: 1\n\n", [ServerEvent("message", "1")]),
    "colons": (b'data: {"a": "b:c"}\n\n', [ServerEvent("message", '{"a": "b:c"}')]),
    "UTF-8": ("data: 春夏\n\n".encode(), [ServerEvent("message", "春夏")]),
    "no UTF-8": (b"data: \xff\n\n", [ServerEvent("message", "\ufffd")]),
    "byte order mark": (b"\xef\xbb\xbfdata: 1\n\n", [ServerEvent("message", "1")]),
    "cut off": (b"data: 1\n\ndata: 2\n", [ServerEvent("message", "1")]),
    "nothing": (b"\n\n\n", []),
}


def parsed(*pieces: bytes) -> list[ServerEvent]:
    """The events of a body that comes in these pieces."""
    parser = EventParser(max_bytes=MAX_BYTES)
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize(("body", "events"), BODIES.values(), ids=BODIES)
def test_events_are_read_by_the_standard(body: bytes, events: list[ServerEvent]) -> None:
    assert parsed(body) == events
    assert parsed(*(bytes([byte]) for byte in body)) == events, "byte by byte"


@given(
    bodies=st.lists(st.sampled_from([body for body, _ in BODIES.values()]), max_size=5),
    cuts=st.lists(st.integers(0, 300), max_size=8),
)
def test_where_the_body_is_cut_does_not_matter(bodies: list[bytes], cuts: list[int]) -> None:
    body = b"".join(bodies)
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(places)]
    assert parsed(*pieces) == parsed(body)


@pytest.mark.parametrize(
    "body",
    [b"data: " + b"x" * MAX_BYTES, b"data: 12345678\n" * 120, b": " + b"x" * MAX_BYTES],
    ids=["one line", "many lines", "a comment"],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_event_has_a_bound(body: bytes, size: int) -> None:
    with pytest.raises(EventTooLong):
        parsed(*(body[start : start + size] for start in range(0, len(body), size)))


def test_the_bound_is_an_events_and_not_the_bodys() -> None:
    assert len(parsed(*[b"data: " + b"x" * 900 + b"\n\n"] * 50)) == 50

"""What Ark's stream of a group says, event by event, and what its end means for the money.

Source: the streaming page of Ark's image documentation. A picture that the content filter stops does not
end the stream; an internal error does. Without `completed` nobody knows what else was made, but that an
error which no repetition mends was the reason for the rest.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from msgspec.structs import replace

from server.providers.ark_errors import in_doubt, stream_refusal
from server.providers.ark_receipt import Bought, charges_for_more, with_entry
from server.providers.sse import EventParser, EventTooLong, ServerEvent

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""An event holds a link; previews, which we ask for never and skip, hold a picture."""
_INTERNAL = "InternalServiceError"


async def read_stream(pieces: AsyncIterator[bytes], indexes: Sequence[int]) -> AsyncGenerator[Bought, None]:
    """What has been told so far, each time that there is more; the last one is complete.

    `indexes` are the images that were asked for, in the stream's order. Raises ProviderError when the
    stream ends in another way: in doubt, or refused in Ark's own words.
    """
    parser = EventParser(max_bytes=MAX_EVENT_BYTES)
    told = Bought(links={}, failures=(), complete=False)
    async for piece in pieces:
        try:
            events = list(parser.feed(piece))
        except EventTooLong:
            raise in_doubt("Ark's stream of images cannot be read.") from None
        for event in events:
            more = _after(told, event, indexes)
            if more is not told:
                yield more
            if more.complete:
                return
            told = more
    raise in_doubt("Ark's stream of images ended before it was complete.")


def _after(told: Bought, event: ServerEvent, indexes: Sequence[int]) -> Bought:
    """What is known after the event; the same object where it says nothing new."""
    if event.data == "[DONE]":
        raise in_doubt("Ark's stream of images ended before it was complete.")
    fields = _fields(event)
    match fields.get("type") or event.name:
        case "image_generation.partial_succeeded":
            return _with(told, fields, indexes)
        case "image_generation.partial_failed":
            return _with_failed(told, fields, indexes)
        case "image_generation.completed":
            return _completed(told, fields)
        case "error":
            return _ended_by_error(told, fields, indexes)
        case _:
            return told


def _with(told: Bought, fields: dict[str, Any], indexes: Sequence[int]) -> Bought:
    place = fields.get("image_index")
    if not isinstance(place, int) or not 0 <= place < len(indexes) or indexes[place] in told.named:
        return told  # not one that was asked for, or told before
    more = with_entry(told, indexes[place], fields)
    return replace(more, complete=len(more.named) == len(indexes))


def _with_failed(told: Bought, fields: dict[str, Any], indexes: Sequence[int]) -> Bought:
    """An internal error ends the stream: it is the error of all images that did not come before it."""
    if _code(fields) != _INTERNAL:
        return _with(told, fields, indexes)
    if not told.named:
        raise stream_refusal(_INTERNAL)
    return _rest_failed(told, fields, indexes)


def _ended_by_error(told: Bought, fields: dict[str, Any], indexes: Sequence[int]) -> Bought:
    """Of a group that is half made the rest may have been in work: it is not free to be asked for again."""
    error = stream_refusal(_code(fields))
    if not told.named:
        raise error
    if error.retryable:
        raise in_doubt("Ark broke off its stream of images.")
    return _rest_failed(told, fields, indexes)


def _rest_failed(told: Bought, fields: dict[str, Any], indexes: Sequence[int]) -> Bought:
    for index in indexes:
        if index not in told.named:
            told = with_entry(told, index, fields)
    return replace(told, complete=True)


def _completed(told: Bought, fields: dict[str, Any]) -> Bought:
    """The model may have decided on fewer images, but not on fewer than it charges for."""
    if charges_for_more(fields, told):
        raise in_doubt("Ark charged for images that its stream did not name.")
    if not told.named:
        raise in_doubt("Ark's stream of images says nothing of what was made.")
    return replace(told, complete=True)


def _fields(event: ServerEvent) -> dict[str, Any]:
    try:
        fields = json.loads(event.data)
    except ValueError:
        raise in_doubt("Ark's stream of images cannot be read.") from None
    return fields if isinstance(fields, dict) else {}


def _code(fields: dict[str, Any]) -> str:
    error = fields.get("error")
    return str(error.get("code") or "") if isinstance(error, dict) else ""

"""What Ark says of an order it has accepted: one document, or the events of a stream."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.upstreams.ark_rules import Order
from tests.upstreams.faults import Empty, Fault, Fewer, PartlyFailed, StreamFails
from tests.upstreams.results import Output

INTERNAL = "InternalServiceError"
"""The one failure of a picture after which no other is made."""
Entry = dict[str, Any]


def entries(order: Order, fault: Fault | None, made: Callable[[], Output], base_url: str) -> list[Entry]:
    """One entry for each picture of the order, in order: a made one, or the error it failed with."""
    if isinstance(fault, Empty):
        return []
    found: list[Entry] = []
    for index in range(min(fault.images, order.images) if isinstance(fault, Fewer) else order.images):
        if isinstance(fault, PartlyFailed) and index in fault.indexes:
            found.append({"error": {"code": fault.code, "message": "This picture was not made."}})
            if fault.code == INTERNAL:
                break
        else:
            found.append(_picture(order, made(), base_url))
    return found


def pictures(found: Sequence[Entry]) -> int:
    """How many were made, which is how many are charged for."""
    return sum("error" not in entry for entry in found)


def document(order: Order, found: Sequence[Entry]) -> dict[str, Any]:
    """The answer that is not streamed."""
    return {**_head(order), "data": list(found), "usage": _usage(order, found)}


def events(order: Order, found: Sequence[Entry], fault: Fault | None) -> list[dict[str, Any]]:
    """The stream's events, to `completed` or the error that ends it."""
    told: list[dict[str, Any]] = []
    for index, entry in enumerate(found):
        kind = "partial_failed" if "error" in entry else "partial_succeeded"
        told.append({"type": f"image_generation.{kind}", **_head(order), "image_index": index, **entry})
    if isinstance(fault, StreamFails):
        error = {"code": fault.code, "message": "The stream was ended."}
        return [*told[: fault.after], {"type": "error", "error": error}]
    return [*told, {"type": "image_generation.completed", **_head(order), "usage": _usage(order, found)}]


def frame(event: dict[str, Any]) -> bytes:
    """The event as it goes over the wire."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def _picture(order: Order, output: Output, base_url: str) -> Entry:
    entry: Entry = {"size": order.size}
    if order.tells_format:
        entry["output_format"] = "png" if order.png else "jpeg"
    if order.b64_json:
        return {"b64_json": base64.b64encode(output.draw()).decode(), **entry}
    return {"url": base_url + output.link, **entry}


def _head(order: Order) -> dict[str, Any]:
    return {"model": order.model, "created": int(time.time())}


def _usage(order: Order, found: Sequence[Entry]) -> dict[str, int]:
    width, height = (int(side) for side in order.size.split("x"))
    made = pictures(found)
    tokens = round(made * width * height / 256)
    usage = {"generated_images": made, "output_tokens": tokens, "total_tokens": tokens}
    return usage | ({"input_images": order.references} if order.references else {})

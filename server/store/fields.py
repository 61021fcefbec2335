"""The stored form of what a task is made of: its request, attempts, calls, images, errors, counts.

`server.store.documents` states the layout. Fields that hold their default are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from server.domain.errors import Reason, TaskError
from server.domain.money import Price
from server.domain.request import ImageRequest, OutputFormat, Size
from server.domain.task import Attempt, AttemptOutcome, Call, CallState, Counts, StoredImage
from server.domain.writes import Value

Document = dict[str, Any]
"""Holds str, int, float, bool, None, lists and dicts of these, and nothing else."""

# Calling an enum class costs several times a dict look-up, and reading a task does a dozen of them.
_OUTCOMES = {member.value: member for member in AttemptOutcome}
_CALL_STATES = {member.value: member for member in CallState}
_REASONS = {member.value: member for member in Reason}
_FORMATS = {member.value: member for member in OutputFormat}


def encode_value(value: Value) -> Any:
    """The stored form of what a write puts at a path."""
    match value:
        case TaskError():
            return encode_error(value)
        case StoredImage():
            return encode_image(value)
        case Attempt():
            return encode_attempt(value)
        case Call():
            return encode_call(value)
        case Counts():
            return encode_counts(value)
        case tuple():
            return list(value)
        case _:
            return value


def encode_pairs(pairs: Mapping[str, str]) -> list[Document]:
    """Names that callers chose, and their values."""
    return [{"name": name, "value": value} for name, value in pairs.items()]


def encode_request(request: ImageRequest) -> Document:
    """The stored form of a request."""
    document: Document = {
        "prompt": request.prompt,
        "width_px": request.size.width_px,
        "height_px": request.size.height_px,
        "seed": request.seed,
        "output_format": request.output_format.value,
        "max_images": request.max_images,
    }
    if request.negative_prompt:
        document["negative_prompt"] = request.negative_prompt
    if request.size_label:
        document["size_label"] = request.size_label
    if request.watermark:
        document["watermark"] = True
    if request.guidance_scale is not None:
        document["guidance_scale"] = request.guidance_scale
    if request.references:
        document["references"] = list(request.references)
    if request.quality:
        document["quality"] = request.quality
    if request.sequence:
        document["sequence"] = True
    return document


def encode_counts(counts: Counts) -> Document:
    """The stored form of the budgets' use; empty when nothing is used up."""
    document: Document = {}
    if counts.waits:
        document["waits"] = counts.waits
    if counts.errors:
        document["errors"] = counts.errors
    if counts.lost:
        document["lost"] = counts.lost
    if counts.fetches:
        document["fetches"] = counts.fetches
    if counts.unlikely:
        document["unlikely"] = counts.unlikely
    return document


def encode_error(error: TaskError) -> Document:
    """The stored form of an error."""
    document: Document = {"reason": error.reason.value, "message": error.message}
    if error.retryable:
        document["retryable"] = True
    if error.metadata:
        document["metadata"] = encode_pairs(error.metadata)
    return document


def encode_call(call: Call) -> Document:
    """The stored form of a call."""
    document: Document = {"state": call.state.value, "paid": call.paid, "sent_time_ms": call.sent_time_ms}
    if call.indexes:
        document["indexes"] = list(call.indexes)
    if call.receipt:
        document["receipt"] = call.receipt
    if call.so_far:
        document["so_far"] = list(call.so_far)
    return document


def encode_attempt(attempt: Attempt) -> Document:
    """The stored form of an attempt; its number is the key it stands under."""
    document: Document = {
        "provider": attempt.provider,
        "worker": attempt.worker,
        "start_time_ms": attempt.start_time_ms,
    }
    if attempt.end_time_ms:
        document["end_time_ms"] = attempt.end_time_ms
    if attempt.outcome is not None:
        document["outcome"] = attempt.outcome.value
    if attempt.error is not None:
        document["error"] = encode_error(attempt.error)
    if attempt.calls:
        document["calls"] = {str(n): encode_call(c) for n, c in attempt.calls.items()}
    if attempt.price is not None:
        document["currency"] = attempt.price.currency
        document["micros_per_image"] = attempt.price.micros_per_image
    return document


def encode_image(image: StoredImage) -> Document:
    """The stored form of an image; its index is the key it stands under."""
    return {
        "key": image.key,
        "width_px": image.width_px,
        "height_px": image.height_px,
        "mime_type": image.mime_type,
        "size_bytes": image.size_bytes,
        "sha256": image.sha256,
        "seed": image.seed,
    }


def decode_pairs(pairs: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The mapping that `encode_pairs` was given, in its order."""
    return {pair["name"]: pair["value"] for pair in pairs}


def decode_request(document: Mapping[str, Any]) -> ImageRequest:
    """The request of its stored form."""
    get = document.get
    return ImageRequest(
        prompt=document["prompt"],
        negative_prompt=get("negative_prompt", ""),
        size=Size(width_px=document["width_px"], height_px=document["height_px"]),
        size_label=get("size_label", ""),
        watermark=get("watermark", False),
        seed=document["seed"],
        guidance_scale=get("guidance_scale"),
        # Earlier builds wrote {"kind": "stored", "value": key}.
        references=tuple(r if isinstance(r, str) else r["value"] for r in get("references", ())),
        quality=get("quality", ""),
        output_format=_FORMATS[document["output_format"]],
        sequence=get("sequence", False),
        max_images=document["max_images"],
    )


def decode_counts(document: Mapping[str, Any]) -> Counts:
    """The counts of their stored form."""
    get = document.get
    return Counts(
        waits=get("waits", 0),
        errors=get("errors", 0),
        lost=get("lost", 0),
        fetches=get("fetches", 0),
        unlikely=get("unlikely", 0),
    )


def decode_error(document: Mapping[str, Any]) -> TaskError:
    """The error of its stored form."""
    return TaskError(
        # A newer process may know more reasons than this one; the message still tells them apart.
        reason=_REASONS.get(document["reason"], Reason.INTERNAL_ERROR),
        message=document["message"],
        retryable=document.get("retryable", False),
        metadata=decode_pairs(document.get("metadata", ())),
    )


def decode_call(document: Mapping[str, Any]) -> Call:
    """The call of its stored form."""
    return Call(
        state=_CALL_STATES[document["state"]],
        paid=document["paid"],
        sent_time_ms=document["sent_time_ms"],
        indexes=tuple(document.get("indexes", ())),
        receipt=document.get("receipt", ""),
        so_far=tuple(document.get("so_far", ())),
    )


def decode_attempt(number: int, document: Mapping[str, Any]) -> Attempt:
    """The attempt that is stored under this number."""
    get = document.get
    outcome = get("outcome")
    error = get("error")
    calls = get("calls")
    currency = get("currency")
    return Attempt(
        number=number,
        provider=document["provider"],
        worker=document["worker"],
        start_time_ms=document["start_time_ms"],
        end_time_ms=get("end_time_ms", 0),
        outcome=_OUTCOMES[outcome] if outcome else None,
        error=decode_error(error) if error else None,
        calls={n: decode_call(calls[str(n)]) for n in numbers(calls)} if calls else {},
        price=Price(currency=currency, micros_per_image=document["micros_per_image"]) if currency else None,
    )


def decode_image(number: int, document: Mapping[str, Any]) -> StoredImage:
    """The image that is stored under this index."""
    return StoredImage(
        index=number,
        key=document["key"],
        width_px=document["width_px"],
        height_px=document["height_px"],
        mime_type=document["mime_type"],
        size_bytes=document["size_bytes"],
        sha256=document["sha256"],
        seed=document["seed"],
    )


def numbers(keyed: Mapping[str, Any]) -> list[int]:
    """The keys of a map that is keyed by number, in ascending order."""
    return sorted(map(int, keyed))

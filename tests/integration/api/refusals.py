"""An error as a caller's program reads it: code, text and the details in the trailers."""

from __future__ import annotations

import base64
import string
from collections.abc import AsyncIterable, Awaitable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from image.v1.image_service_pb2 import GenerateImageRequest

from tests.integration.api.requests import SubmitRequest
from tests.stack import Calls

DOMAIN = "sia.api"
DETAILS = "grpc-status-details-bin"
MOST_TRAILERS_BYTES = 8 * 1024
CALL_TIMEOUT_S = 15.0
"""So that a wrongly accepted synchronous call fails its test instead of hanging it."""

Detail = TypeVar("Detail", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One error, taken apart."""

    code: grpc.StatusCode
    text: str
    reason: str
    metadata: dict[str, str]
    """`ErrorInfo.metadata`."""
    violations: tuple[tuple[str, str], ...] = ()
    """Field path and description, in the order sent."""
    retry_after_s: float | None = None
    quotas: tuple[str, ...] = ()
    """Subjects of the `QuotaFailure`."""
    resource: tuple[str, str] | None = None
    """Type and name of the `ResourceInfo`."""
    trailers: dict[str, str] = field(default_factory=dict)
    """Trailing metadata without the binary details."""

    @property
    def fields(self) -> set[str]:
        """The paths of the invalid fields."""
        return {path for path, _ in self.violations}


async def refusal_of(call: Awaitable[object]) -> Refusal:
    """The error that the call ends with; fails when it is answered, or is no error of this service."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return read_refusal(caught.value)


async def refusal_of_stream(call: AsyncIterable[object]) -> Refusal:
    """The same for a call that answers with a stream: whatever comes before the error is skipped."""

    async def whole() -> None:
        async for _ in call:
            pass

    return await refusal_of(whole())


async def refusals_of_submit(calls: Calls, request: SubmitRequest) -> list[Refusal]:
    """What each rpc that takes this request answers, the streaming one included."""
    images = calls.images
    if isinstance(request, GenerateImageRequest):
        return [
            await refusal_of(images.GenerateImageAsync(request, timeout=CALL_TIMEOUT_S)),
            await refusal_of(images.GenerateImage(request, timeout=CALL_TIMEOUT_S)),
        ]
    return [
        await refusal_of(images.GenerateSequentialImagesAsync(request, timeout=CALL_TIMEOUT_S)),
        await refusal_of(images.GenerateSequentialImages(request, timeout=CALL_TIMEOUT_S)),
        await refusal_of_stream(images.StreamSequentialImages(request, timeout=CALL_TIMEOUT_S)),
    ]


def assert_invalid(refusal: Refusal, wanted: Mapping[str, str]) -> None:
    """INVALID_FIELD of exactly these paths; the value is a part of what is said of the field."""
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, refusal.text
    assert refusal.reason == "INVALID_FIELD"
    assert refusal.fields == set(wanted)
    for path, said in wanted.items():
        assert path in refusal.text
        assert any(said in text for name, text in refusal.violations if name == path), refusal.violations
    assert "task-id" not in refusal.trailers, "nothing was accepted"


def read_refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """Take the error apart; fails when it does not follow the contract of every error."""
    text = error.details() or ""
    trailers = dict(error.trailing_metadata() or ())
    raw = trailers.pop(DETAILS, None)
    assert isinstance(raw, bytes), f"{error.code().name} without {DETAILS}: {text[:300]}"
    assert trailers_size(error) <= MOST_TRAILERS_BYTES, "peers may answer RESOURCE_EXHAUSTED in its place"
    status = status_pb2.Status.FromString(raw)
    assert status.code == error.code().value[0]
    assert status.message == text
    kinds = [detail.type_url.rpartition("/")[2] for detail in status.details]
    assert len(kinds) == len(set(kinds)), f"a kind of detail stands twice: {kinds}"
    info = _unpacked(status, error_details_pb2.ErrorInfo())
    assert info is not None, f"{error.code().name} without ErrorInfo: {text[:300]}"
    assert info.domain == DOMAIN
    bad = _unpacked(status, error_details_pb2.BadRequest())
    retry = _unpacked(status, error_details_pb2.RetryInfo())
    quota = _unpacked(status, error_details_pb2.QuotaFailure())
    resource = _unpacked(status, error_details_pb2.ResourceInfo())
    return Refusal(
        code=error.code(),
        text=text,
        reason=info.reason,
        metadata=dict(info.metadata),
        violations=tuple((v.field, v.description) for v in bad.field_violations) if bad else (),
        retry_after_s=retry.retry_delay.ToMilliseconds() / 1000 if retry else None,
        quotas=tuple(v.subject for v in quota.violations) if quota else (),
        resource=(resource.resource_type, resource.resource_name) if resource else None,
        trailers={str(key): str(value) for key, value in trailers.items()},
    )


def trailers_size(error: grpc.aio.AioRpcError) -> int:
    """Bytes of all trailers as peers count them: names, encoded values, and 32 for each of them."""
    details = error.details() or ""
    pairs = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "16")]
    pairs += [("grpc-message", quote(details, safe=string.punctuation.replace("%", "") + " "))]
    for key, value in error.trailing_metadata() or ():
        pairs.append((str(key), base64.b64encode(value).decode() if isinstance(value, bytes) else value))
    return sum(len(key) + len(value) + 32 for key, value in pairs)


def _unpacked(status: status_pb2.Status, into: Detail) -> Detail | None:
    return next((into for packed in status.details if packed.Unpack(into)), None)

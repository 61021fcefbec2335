"""What a call to the image service can end with.

ImageServiceError       everything below, and answers that fit nothing below (INTERNAL, UNIMPLEMENTED, ...)
├── InvalidRequest      the request can never be accepted as it is; `violations` lists every wrong field
├── NotFound            no such task or model
├── RequestIdReused     the request id belongs to an earlier request with another content
├── Refused             valid, but this service cannot do it: model retired, provider not configured
├── Unavailable         the service said "not now": repeat after `retry_after_s`, under the same request id
├── Unreachable         the service said nothing: whether it accepted the request is unknown
├── StillRunning        the time to wait is over, the task goes on: fetch it by `task_id`
├── TaskFailed          the task ended without a result
└── DownloadFailed      a picture could not be fetched, or is not the one that was stored
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "sia.api"
"""`ErrorInfo.domain` of every error that the service itself has raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One wrong field of a request: `field` is its proto path, as in `reference_images[2].url`."""

    field: str
    description: str


class ImageServiceError(Exception):
    """The root of the tree drawn above. Every attribute exists on every error; what does not apply is empty.

    - `code`: the gRPC status code of the call, or the one that a call waiting for the task would have ended
      with.
    - `reason`: name of a `task.v1.ErrorReason` without its prefix ("MODEL_NOT_FOUND"); "" when the service
      gave none.
    - `message`: one sentence for a person.
    - `violations`: the wrong fields, all at once.
    - `retry_after_s`: seconds after which a repeat makes sense, or None.
    - `task_id`: the task that the error is about, where there is one.
    - `request_id`: the id the request was sent with; repeating the request under it never makes a second
      task.
    - `metadata`: the varying parts of the message by name, as listed at the reason.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        violations: Sequence[Violation] = (),
        retry_after_s: float | None = None,
        task_id: str = "",
        request_id: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s
        self.task_id = task_id
        self.request_id = request_id
        self.metadata = dict(metadata or {})


class InvalidRequest(ImageServiceError):
    """The request can never be accepted as it is."""


class NotFound(ImageServiceError):
    """The service knows no such task or model."""


class RequestIdReused(ImageServiceError):
    """The request id was used before with another content; `task_id` is the task of the first request."""


class Refused(ImageServiceError):
    """The request is valid and this service cannot do it, now or later, until it is set up differently."""


class Unavailable(ImageServiceError):
    """The service takes nothing now. A repeat is safe under the same `request_id`, and only then: an earlier
    try of this call may have been cut off behind its acceptance. Where `task_id` is set the repeat waits for
    that task.
    """


class Unreachable(ImageServiceError):
    """No answer came from the service itself: not connected, cut off, or silent until the deadline.

    Whether a request was accepted is unknown. A repeat is safe under the same `request_id`, and only then.
    """


class StillRunning(ImageServiceError):
    """The time to wait is over and the task goes on; `task_id` is always set."""


class TaskFailed(ImageServiceError):
    """The task ended FAILED or CANCELLED; `task_id` is always set."""


class DownloadFailed(ImageServiceError):
    """A picture could not be fetched (UNAVAILABLE), or differs from the one that was stored (DATA_LOSS)."""


_KINDS: Mapping[grpc.StatusCode, type[ImageServiceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: RequestIdReused,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Unavailable,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}
_SILENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


def from_rpc(error: grpc.aio.AioRpcError, *, task_id: str = "", request_id: str = "") -> ImageServiceError:
    """The typed form of a failed call; `task_id` and `request_id` are what the caller sent, if anything."""
    trailers: dict[str, str | bytes] = dict(error.trailing_metadata() or ())
    info = error_details_pb2.ErrorInfo()
    request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after_s = None
    for detail in _details(trailers.get("grpc-status-details-bin", b"")):
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            detail.Unpack(request)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    accepted = info.metadata.get("task_id") or str(trailers.get("task-id", ""))
    return _kind(error.code(), info, accepted)(
        error.details() or "",
        code=error.code(),
        reason=info.reason,
        violations=[
            Violation(field=violation.field, description=violation.description)
            for violation in request.field_violations
        ],
        retry_after_s=retry_after_s,
        task_id=accepted or task_id,
        request_id=request_id,
        metadata=info.metadata,
    )


def _details(encoded: str | bytes) -> Sequence[Any]:
    status = status_pb2.Status()
    try:
        status.ParseFromString(encoded if isinstance(encoded, bytes) else encoded.encode())
    except DecodeError:  # a proxy's own trailer of that name: the code and the text still stand
        return ()
    details: Sequence[Any] = status.details
    return details


def _kind(code: grpc.StatusCode, info: error_details_pb2.ErrorInfo, accepted: str) -> type[ImageServiceError]:
    if info.domain != DOMAIN:
        return Unreachable if code in _SILENT else ImageServiceError
    if info.reason == "WAIT_EXPIRED" or (info.reason == "DRAINING" and code is grpc.StatusCode.ABORTED):
        return StillRunning
    if code is grpc.StatusCode.ABORTED:
        return TaskFailed
    if code is grpc.StatusCode.FAILED_PRECONDITION and accepted and info.reason != "TASK_ENDED":
        return TaskFailed
    return _KINDS.get(code, ImageServiceError)

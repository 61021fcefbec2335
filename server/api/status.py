"""The one place where a meaning gets its gRPC code and its details (google.rpc, AIP-193)."""

from __future__ import annotations

import math

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from server.domain.errors import InvalidRequest, LinksBusy, Reason, ServiceError, TaskFailed, Violation

DOMAIN = "sia.api"
"""`ErrorInfo.domain` of every error."""

MAX_ERROR_BYTES = 7_500
"""Of text and details as they travel. Trailers above 8 KiB are refused by many peers, as RESOURCE_EXHAUSTED:
the answer would lie. What is left is for the other trailers."""
MAX_MESSAGE_CHARS = 600
MAX_MESSAGE_BYTES = 900
"""Percent-encoded, as it travels: a wide character takes nine or twelve."""
MAX_FIELDS_BYTES = 256
MAX_FIELD_CHARS = 200
DESCRIPTION_CHARS = (400, 100, 40)
"""Descriptions are cut before a violation is left out."""

Trailers = tuple[tuple[str, str | bytes], ...]

_CODES = {
    Reason.INVALID_FIELD: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.MALFORMED_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.MODEL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.MODEL_RETIRED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.PROVIDER_NOT_CONFIGURED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.PROVIDER_MISCONFIGURED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.CONTENT_POLICY_INPUT: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.CONTENT_POLICY_OUTPUT: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.REQUEST_ID_REUSED: grpc.StatusCode.ALREADY_EXISTS,
    Reason.QUEUE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.STORE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.DRAINING: grpc.StatusCode.UNAVAILABLE,
    Reason.WAIT_EXPIRED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.TASK_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.TASK_DELETED: grpc.StatusCode.NOT_FOUND,
    Reason.TASK_ENDED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.INTERNAL_ERROR: grpc.StatusCode.INTERNAL,
}

INTERNAL_TEXT = (
    "The service failed in a way it should not have. Its log holds the cause under the `x-request-id` that "
    "this answer carries."
)


def code_of(reason: Reason) -> grpc.StatusCode:
    """The code of a reason; what is not listed is the failure of an accepted task: ABORTED."""
    return _CODES.get(reason, grpc.StatusCode.ABORTED)


def code_once_accepted(reason: Reason) -> grpc.StatusCode:
    """The same after acceptance: none that means the opposite, for a blind retry would make a second task."""
    code = code_of(reason)
    return grpc.StatusCode.ABORTED if code in _NOTHING_ACCEPTED else code


def code_number(reason: Reason) -> int:
    """The number on the wire for what is kept with a task: what a call that waits for it would end with."""
    number: int = code_once_accepted(reason).value[0]
    return number


def describe(error: ServiceError) -> tuple[grpc.StatusCode, str, Trailers]:
    """The code, text and trailing metadata to abort a call with."""
    code = _code_of_error(error)
    info = error_details_pb2.ErrorInfo(domain=DOMAIN, reason=error.reason.value, metadata=error.metadata)
    if isinstance(error, InvalidRequest):
        fields = info.metadata["fields"].encode()[:MAX_FIELDS_BYTES]
        info.metadata["fields"] = fields.decode(errors="ignore")
    if error.task_id:
        info.metadata["task_id"] = error.task_id
    details = [_pack(info)]
    if error.retry_after_s is not None:
        whole, part = divmod(error.retry_after_s, 1)
        delay = Duration(seconds=int(whole), nanos=math.floor(part * 1e9))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    if error.reason is Reason.QUEUE_FULL:
        details.append(_quota("queue", "QUEUE_MAX_DEPTH tasks wait already"))
    if isinstance(error, LinksBusy):
        details.append(_quota("links_at_once", "as many links are being read as may be at once"))
    resource = _resource(error)
    if resource is not None:
        details.append(_pack(resource))
    message = _message(error.message)
    status = status_pb2.Status(code=code.value[0], message=message, details=details)
    if isinstance(error, InvalidRequest):
        # base64 makes four bytes of three; the detail's own type and lengths take less than 60
        room = (MAX_ERROR_BYTES - _percent_encoded(message)) * 3 // 4 - status.ByteSize() - 60
        status.details.append(_pack(_bad_request(error.violations, room)))
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    if error.task_id:
        trailers.append(("task-id", error.task_id))
    return code, message, tuple(trailers)


def _quota(subject: str, description: str) -> Any:
    quota = error_details_pb2.QuotaFailure()
    quota.violations.add(subject=subject, description=description)
    return _pack(quota)


def _code_of_error(error: ServiceError) -> grpc.StatusCode:
    if isinstance(error, TaskFailed) or not error.repeatable:
        return code_once_accepted(error.reason)
    return code_of(error.reason)


def _message(text: str) -> str:
    message = _shortened(text, MAX_MESSAGE_CHARS)
    while (length := _percent_encoded(message)) > MAX_MESSAGE_BYTES:
        message = _shortened(message, min(len(message) - 1, len(message) * MAX_MESSAGE_BYTES // length))
    return message


def _percent_encoded(text: str) -> int:
    """The length of a text in the trailer `grpc-message`."""
    return sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in text.encode())


def _bad_request(violations: list[Violation], room: int) -> error_details_pb2.BadRequest:
    """All violations, or as many as there is room for and how many more there are."""
    for chars in DESCRIPTION_CHARS:
        bad = error_details_pb2.BadRequest(
            field_violations=[_violation(v.field, v.description, chars) for v in violations]
        )
        if bad.ByteSize() <= room:
            return bad
    most, size = 0, 0
    for place, violation in enumerate(bad.field_violations):
        size += violation.ByteSize() + 3
        if size + _more(violations, place + 1).ByteSize() + 3 > room:
            break
        most = place + 1
    left_out = _more(violations, most)
    return error_details_pb2.BadRequest(field_violations=[*bad.field_violations[:most], left_out])


def _more(violations: list[Violation], place: int) -> error_details_pb2.BadRequest.FieldViolation:
    """What stands for all violations from this place on: the field of the first, and how many there are."""
    field = violations[min(place, len(violations) - 1)].field
    return _violation(field, f"… and {len(violations) - place} more violations", 100)


def _violation(field: str, description: str, most: int) -> error_details_pb2.BadRequest.FieldViolation:
    return error_details_pb2.BadRequest.FieldViolation(
        field=_shortened(field, MAX_FIELD_CHARS), description=_shortened(description, most)
    )


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


_NOTHING_ACCEPTED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})


def _resource(error: ServiceError) -> error_details_pb2.ResourceInfo | None:
    if error.reason is Reason.TASK_NOT_FOUND:
        return error_details_pb2.ResourceInfo(
            resource_type="task.v1.Task", resource_name=error.metadata.get("task_id", "")
        )
    if error.reason is Reason.MODEL_NOT_FOUND:
        return error_details_pb2.ResourceInfo(
            resource_type="model", resource_name=error.metadata.get("model", "")
        )
    return None


def _pack(
    detail: error_details_pb2.ErrorInfo
    | error_details_pb2.BadRequest
    | error_details_pb2.RetryInfo
    | error_details_pb2.QuotaFailure
    | error_details_pb2.ResourceInfo,
) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed

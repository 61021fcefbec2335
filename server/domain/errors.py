"""What can go wrong, in the service's own words.

The domain raises meaning; `server.api.status` alone knows which gRPC code and which details a meaning gets.

    ServiceError
    ├── InvalidRequest          every violation of a request at once
    ├── TaskNotFound            no such task (or not one of the asked type)
    ├── ModelNotFound           the catalogue does not know the model
    ├── ProviderNotConfigured   the model is known, its vendor is not set up here
    ├── RequestIdReused         same request_id, other request
    ├── TaskEnded               the task is over and takes no change
    ├── QueueFull               too many tasks wait; nothing was accepted
    ├── LinksBusy               too many links are being read; nothing was accepted
    ├── StoreUnavailable        the task store does not answer; nothing was accepted
    ├── Draining                this process is going down; nothing was accepted
    ├── WaitExpired             the caller's time is up, the task goes on
    └── TaskFailed              the task ended without a result
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

MAX_METADATA_CHARS = 256
"""Longest value in an error's metadata."""


class Reason(StrEnum):
    """Why something failed: the names of `task.v1.ErrorReason` without their prefix."""

    INVALID_FIELD = "INVALID_FIELD"
    MALFORMED_REQUEST = "MALFORMED_REQUEST"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_RETIRED = "MODEL_RETIRED"
    PROVIDER_NOT_CONFIGURED = "PROVIDER_NOT_CONFIGURED"
    PROVIDER_MISCONFIGURED = "PROVIDER_MISCONFIGURED"
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    PROVIDER_REJECTED = "PROVIDER_REJECTED"
    PROVIDER_TIMEOUT = "PROVIDER_TIMEOUT"
    CONTENT_POLICY_INPUT = "CONTENT_POLICY_INPUT"
    CONTENT_POLICY_OUTPUT = "CONTENT_POLICY_OUTPUT"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    QUEUE_FULL = "QUEUE_FULL"
    RATE_LIMITED = "RATE_LIMITED"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    DRAINING = "DRAINING"
    WAIT_EXPIRED = "WAIT_EXPIRED"
    TASK_NOT_FOUND = "TASK_NOT_FOUND"
    TASK_EXPIRED = "TASK_EXPIRED"
    TASK_ENDED = "TASK_ENDED"
    TASK_CANCELLED = "TASK_CANCELLED"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    WORKER_LOST = "WORKER_LOST"
    OUTPUT_FETCH_FAILED = "OUTPUT_FETCH_FAILED"
    REFERENCE_UNAVAILABLE = "REFERENCE_UNAVAILABLE"
    TASK_DELETED = "TASK_DELETED"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class TaskError(Struct, frozen=True, kw_only=True, gc=False):
    """Why a task, an attempt or one image of a sequence failed; stored with the task and shown to callers."""

    reason: Reason
    message: str
    """For people: what happened and what to do next. Never an exception's text, never a secret."""
    retryable: bool = False
    """Whether submitting the same request again may succeed."""
    metadata: Mapping[str, str] = field(default_factory=dict)


class Violation(Struct, frozen=True, kw_only=True):
    """One wrong field of a request: `field` is its proto path, as in `reference_images[2].url`."""

    field: str
    description: str


class ServiceError(Exception):
    """The root: a reason, a text that says what to do next, and what a program may need beside it."""

    reason: Reason = Reason.INTERNAL_ERROR

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        task_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.task_id = task_id
        """The accepted task that this is about; empty when nothing was accepted."""
        self.repeatable = True
        """Whether the call may be repeated: after acceptance only if the repeat would find that task."""
        self.retry_after_s = retry_after_s


class InvalidRequest(ServiceError):
    """A request that can never be accepted as it is; carries every violation, never only the first."""

    reason = Reason.INVALID_FIELD

    def __init__(self, violations: list[Violation]) -> None:
        text = "; ".join(f"{v.field}: {v.description}" for v in violations)
        fields = ",".join(dict.fromkeys(violation.field for violation in violations))
        super().__init__(text, metadata={"fields": fields[:MAX_METADATA_CHARS]})
        self.violations = violations


class TaskNotFound(ServiceError):
    """No task with this id exists here."""

    reason = Reason.TASK_NOT_FOUND


class ModelNotFound(ServiceError):
    """The catalogue does not know this model; metadata names the ones it knows."""

    reason = Reason.MODEL_NOT_FOUND


class ProviderNotConfigured(ServiceError):
    """The model is known but no vendor that serves it is set up in this deployment."""

    reason = Reason.PROVIDER_NOT_CONFIGURED


class RequestIdReused(ServiceError):
    """The request_id was used before with a different request."""

    reason = Reason.REQUEST_ID_REUSED


class TaskEnded(ServiceError):
    """The task is COMPLETED or FAILED and takes no further change."""

    reason = Reason.TASK_ENDED


class QueueFull(ServiceError):
    """QUEUE_MAX_DEPTH tasks wait already; nothing was accepted, the same request may be sent again."""

    reason = Reason.QUEUE_FULL


class LinksBusy(ServiceError):
    """Links of the request got no turn, or a late one, and ran out of time; nothing was accepted, it may be
    sent again."""

    reason = Reason.RATE_LIMITED


class StoreUnavailable(ServiceError):
    """The task store does not answer; for a submit: the same request_id may be sent again."""

    reason = Reason.STORE_UNAVAILABLE


class Draining(ServiceError):
    """This process is shutting down; another one will take the same request."""

    reason = Reason.DRAINING


class WaitExpired(ServiceError):
    """The wait is over before the task is; the task goes on and can be fetched by its id."""

    reason = Reason.WAIT_EXPIRED


class TaskFailed(ServiceError):
    """The task ended FAILED or CANCELLED; `error` says why."""

    def __init__(self, task_id: str, error: TaskError) -> None:
        super().__init__(error.message, metadata=error.metadata, task_id=task_id)
        self.reason = error.reason
        self.error = error

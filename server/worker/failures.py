"""What an exception in an attempt means for its task."""

from __future__ import annotations

from server.domain.errors import Reason, TaskError
from server.domain.task import AttemptOutcome
from server.domain.verdicts import Failure
from server.providers.contract import ProviderError, Sent

_OUTCOMES = {
    Sent.NOT_SENT: AttemptOutcome.NOT_SENT,
    Sent.REJECTED: AttemptOutcome.REJECTED,
    Sent.IN_DOUBT: AttemptOutcome.IN_DOUBT,
}


def understand(error: Exception, *, paid: bool, timeout_s: float, bought: bool = False) -> Failure:
    """How the attempt failed; `bought`: after the provider had said what it made.

    A text that is not ours never gets into it: INTERNAL_ERROR stands for it.
    """
    if isinstance(error, ProviderError):
        retry_after = error.retry_after_s
        return Failure(
            outcome=_OUTCOMES[error.sent],
            error=TaskError(
                reason=error.reason,
                message=error.message,
                retryable=error.retryable,
                metadata=error.metadata,
            ),
            paid=paid,
            retry_after_ms=None if retry_after is None else int(retry_after * 1000),
            no_capacity=error.no_capacity,
            unlikely=error.unlikely,
            bought=bought,
        )
    if isinstance(error, TimeoutError) and bought:
        metadata = {}
        text = f"What was bought did not come within {timeout_s:g} s; only its fetching is repeated."
        reason = Reason.OUTPUT_FETCH_FAILED
    elif isinstance(error, TimeoutError):
        text, reason = f"The provider did not answer within {timeout_s:g} s.", Reason.PROVIDER_TIMEOUT
        metadata = {"timeout_seconds": f"{timeout_s:g}"}
    else:
        metadata = {}
        text, reason = "The attempt failed in a way it should not have.", Reason.INTERNAL_ERROR
    return Failure(
        outcome=AttemptOutcome.IN_DOUBT,
        error=TaskError(reason=reason, message=text, retryable=True, metadata=metadata),
        paid=paid,
        bought=bought,
    )


def nothing_made() -> TaskError:
    """The error of a call that was answered without an image and without a reason."""
    return TaskError(
        reason=Reason.PROVIDER_REJECTED,
        message="The provider answered without any image. Submit again, or change the prompt.",
        retryable=True,
    )


def reference_gone(place: int) -> TaskError:
    """The error of a task whose reference image at this place is no longer stored."""
    return TaskError(
        reason=Reason.REFERENCE_UNAVAILABLE,
        message="A reference image of the request is no longer stored. Send it again with a new request.",
        metadata={"field": f"reference_images[{place}]"},
    )

"""Ark's error codes and what each means for a task: the vendor's table, and the line that reads it.

Source: the error code page of Ark's documentation. A refusal by a row of this table is sure: nothing was
made, nothing is charged. What has no envelope of the vendor's is no refusal, see `ark`.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from msgspec import Struct

from server.domain.errors import Reason, TaskError
from server.providers.contract import ProviderError, Sent

MAX_RETRY_AFTER_S = 60.0
_CODE = re.compile(r"[A-Za-z0-9._-]{1,80}")


class Meaning(Struct, frozen=True, kw_only=True):
    """What a refusal means."""

    reason: Reason
    text: str
    """For the caller: what happened, and what to do next."""
    retryable: bool = False
    no_capacity: bool = False


INVALID = Meaning(
    reason=Reason.PROVIDER_REJECTED,
    text="Ark does not accept the request as it is. Change its parameters or its reference images.",
)
INPUT_POLICY = Meaning(
    reason=Reason.CONTENT_POLICY_INPUT,
    text="Ark's content policy forbids the prompt or a reference image. Change it.",
)
OUTPUT_POLICY = Meaning(
    reason=Reason.CONTENT_POLICY_OUTPUT,
    text="Ark made the image, and its content policy forbids to hand it out. Change the prompt, or try "
    "another seed.",
)
KEY = Meaning(
    reason=Reason.PROVIDER_MISCONFIGURED,
    text="Ark does not accept this service's API key. Its operators must check IMAGE_API_KEY.",
)
ACCOUNT = Meaning(
    reason=Reason.PROVIDER_MISCONFIGURED,
    text="Ark does not serve this service's account. Its operators must check the account's state, balance "
    "and permissions.",
)
MODEL = Meaning(
    reason=Reason.PROVIDER_MISCONFIGURED,
    text="Ark does not offer this model to this service's account. Its operators must activate it there.",
)
QUOTA = Meaning(
    reason=Reason.PROVIDER_MISCONFIGURED,
    text="The quota or spending limit of this service's Ark account is used up. Its operators must raise it.",
)
BUSY = Meaning(
    reason=Reason.PROVIDER_UNAVAILABLE,
    text="Ark has no room for the request now; it is sent again later.",
    retryable=True,
    no_capacity=True,
)
BROKEN = Meaning(
    reason=Reason.PROVIDER_UNAVAILABLE,
    text="Ark failed inside. Submit again later.",
    retryable=True,
)

# HTTP, codes (a regular expression; each also with anything after a further dot), meaning.
TABLE: tuple[tuple[int, str, Meaning], ...] = (
    (400, "InvalidEndpoint.ClosedEndpoint", MODEL),
    (
        400,
        "MissingParameter|InvalidParameter|InvalidArgumentError|InvalidImageURL|OutofContextError",
        INVALID,
    ),
    (400, "Input(Text|Image|Video|Audio)(SensitiveContentDetected|RiskDetection)", INPUT_POLICY),
    (400, "SensitiveContentDetected", INPUT_POLICY),
    (400, "Output(Text|Image|Video)(SensitiveContentDetected|RiskDetection)", OUTPUT_POLICY),
    (400, "ContentSecurityDetectionError", BROKEN),  # the moderation service itself failed
    (401, "AuthenticationError", KEY),
    (401, "InvalidAccountStatus", ACCOUNT),
    (403, "AccessDenied|OperationDenied|AccountOverdueError", ACCOUNT),
    (404, "InvalidEndpointOrModel|ModelNotOpen|UnsupportedModel|NotFound", MODEL),
    (429, "RateLimitExceeded|(Model|API)?Account(Rpm|Tpm|Ipm)?RateLimitExceeded", BUSY),
    (429, "ServerOverloaded|RequestBurstTooFast|InflightBatchsizeExceeded", BUSY),
    (429, "QuotaExceeded|SetLimitExceeded", QUOTA),
    (500, "InternalServiceError", BROKEN),
)
# An envelope with a code that is newer than the table: its status decides. For 5xx none does.
BY_STATUS = {400: INVALID, 401: KEY, 403: ACCOUNT, 404: MODEL, 429: BUSY}

_ROWS = tuple((status, re.compile(rf"(?:{codes})(?:\..*)?"), meaning) for status, codes, meaning in TABLE)


def meaning_of(status: int, code: str) -> Meaning | None:
    """What the vendor's code means; None when that leaves open whether something was made.

    A refusal is believed with any status but another 5xx than its row's: such a one may be a proxy's.
    """
    for row_status, codes, meaning in _ROWS:
        if codes.fullmatch(code):
            sure = row_status == status or (row_status < 500 and status < 500)
            return meaning if sure else None
    return BY_STATUS.get(status)


def refusal(meaning: Meaning, code: str, retry_after: str | None = None) -> ProviderError:
    """The error of a call that the vendor refused; `retry_after` is the header's text."""
    return ProviderError(
        _with_code(meaning.text, code),
        sent=Sent.REJECTED,
        reason=meaning.reason,
        retryable=meaning.retryable,
        retry_after_s=_seconds(retry_after) if meaning.retryable else None,
        no_capacity=meaning.no_capacity,
    )


def image_error(code: str) -> TaskError:
    """The error of one image of an answered call."""
    meaning = meaning_of(200, code) or BROKEN
    return TaskError(
        reason=meaning.reason, message=_with_code(meaning.text, code), retryable=meaning.retryable
    )


def stream_refusal(code: str) -> ProviderError:
    """The error that ends a stream; in doubt where the code is newer than the table.

    There is no status, and no proxy either that could have written it: any row of the table is believed.
    """
    meaning = meaning_of(200, code) or meaning_of(500, code)
    if meaning is None:
        return in_doubt("Ark broke off its stream of images.")
    return refusal(meaning, code)


def in_doubt(text: str) -> ProviderError:
    """The error of a call that may have been charged; `text` says in a sentence what happened to it."""
    return ProviderError(
        f"{text} The call may have been charged.",
        sent=Sent.IN_DOUBT,
        reason=Reason.PROVIDER_UNAVAILABLE,
        retryable=True,
    )


def _with_code(text: str, code: str) -> str:
    """The text with the vendor's code, by which operators find it in the vendor's documentation."""
    return f"{text} (Ark: {code})" if _CODE.fullmatch(code) else text


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After header, seconds or a date, within 0 to MAX_RETRY_AFTER_S; None when it says nothing."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            date = parsedate_to_datetime(retry_after)
        except (ValueError, OverflowError):
            return None
        if date.tzinfo is None:  # "-0000": in UTC as well
            date = date.replace(tzinfo=UTC)
        seconds = (date - datetime.now(UTC)).total_seconds()
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)

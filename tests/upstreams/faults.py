"""What can go wrong in one call to a loopback vendor, and whether the call is billed nevertheless.

A cut is a TCP reset. The waits of a held or slow call come before the fault of a billed call, as they
would come before its answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class CutBeforeBody:
    """Reset without a look at the body: not billed, not counted as arrived.

    Where it is scripted for a prompt the body is read all the same, to learn whose call it is.
    """


@dataclass(frozen=True, slots=True)
class CutAfterBody:
    """The body is read, then reset: not billed."""


@dataclass(frozen=True, slots=True)
class CutAfterAccept:
    """Billed, then reset."""


@dataclass(frozen=True, slots=True)
class CutMidResponse:
    """Billed, half the answer is sent, then reset."""


@dataclass(frozen=True, slots=True)
class NeverAnswers:
    """Billed, and then nothing until the server closes."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The vendor's error envelope with this code: not billed."""

    status: int
    code: str
    retry_after: str | None = None
    """The header's text; None sends none."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A proxy's HTML page instead of the vendor's answer."""

    status: int
    billed: bool = True


@dataclass(frozen=True, slots=True)
class Unreadable:
    """200 with JSON that breaks off."""

    billed: bool = True


@dataclass(frozen=True, slots=True)
class Empty:
    """Billed; 200 with an answer that holds no data."""


@dataclass(frozen=True, slots=True)
class Fewer:
    """Billed; the model decides on fewer pictures than the sequence may have."""

    images: int


@dataclass(frozen=True, slots=True)
class PartlyFailed:
    """Billed; these entries of the answer's data hold an error of this code instead of a picture."""

    indexes: tuple[int, ...]
    code: str = "OutputImageSensitiveContentDetected"


@dataclass(frozen=True, slots=True)
class StreamCut:
    """Billed; a stream gives so many of its events, then it is reset, or ends as if that were all."""

    after: int
    clean: bool = False


@dataclass(frozen=True, slots=True)
class StreamFails:
    """A stream gives so many pictures, which are billed, then an error of this code in place of the rest."""

    after: int
    code: str = "InternalServiceError"


@dataclass(frozen=True, slots=True)
class LinkFails:
    """Billed and answered; each of the answer's links gives this status for its first `times` requests."""

    status: int
    times: int = 1


Fault: TypeAlias = (
    CutBeforeBody
    | CutAfterBody
    | CutAfterAccept
    | CutMidResponse
    | NeverAnswers
    | Refusal
    | Gateway
    | Unreadable
    | Empty
    | Fewer
    | PartlyFailed
    | StreamCut
    | StreamFails
    | LinkFails
)

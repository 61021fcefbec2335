"""Loopback vendors: servers with a vendor's wire format that count what they would bill and fail as told."""

from tests.upstreams.ark import ArkUpstream
from tests.upstreams.faults import (
    CutAfterAccept,
    CutAfterBody,
    CutBeforeBody,
    CutMidResponse,
    Empty,
    Fault,
    Fewer,
    Gateway,
    LinkFails,
    NeverAnswers,
    PartlyFailed,
    Refusal,
    StreamCut,
    StreamFails,
    Unreadable,
)

__all__ = [
    "ArkUpstream",
    "CutAfterAccept",
    "CutAfterBody",
    "CutBeforeBody",
    "CutMidResponse",
    "Empty",
    "Fault",
    "Fewer",
    "Gateway",
    "LinkFails",
    "NeverAnswers",
    "PartlyFailed",
    "Refusal",
    "StreamCut",
    "StreamFails",
    "Unreadable",
]

"""What may be a reference, at and beyond each bound."""

from __future__ import annotations

import pytest

from server.domain.references import fault
from server.domain.request import MAX_REFERENCE_BYTES


@pytest.mark.parametrize(
    ("size_bytes", "width_px", "height_px"),
    [
        (1, 15, 15),
        (MAX_REFERENCE_BYTES, 64, 64),
        (1_000, 15, 240),
        (1_000, 240, 15),
        (1_000, 6_000, 6_000),
        (1_000, 24_000, 1_500),
    ],
)
def test_what_is_just_allowed(size_bytes: int, width_px: int, height_px: int) -> None:
    assert fault(size_bytes=size_bytes, width_px=width_px, height_px=height_px) is None


@pytest.mark.parametrize(
    ("size_bytes", "width_px", "height_px", "told"),
    [
        (MAX_REFERENCE_BYTES + 1, 64, 64, "has 10,485,761 bytes; allowed: at most 10,485,760"),
        (1_000, 14, 64, "has 14x64 pixels; both sides need at least 15"),
        (1_000, 64, 14, "has 64x14 pixels; both sides need at least 15"),
        (1_000, 15, 241, "has 15x241 pixels; one side is at most 16 times the other"),
        (1_000, 241, 15, "has 241x15 pixels; one side is at most 16 times the other"),
        (1_000, 6_001, 6_000, "has 6001x6000 pixels; allowed: at most 36,000,000 in all"),
    ],
)
def test_what_is_just_not_allowed(size_bytes: int, width_px: int, height_px: int, told: str) -> None:
    assert fault(size_bytes=size_bytes, width_px=width_px, height_px=height_px) == told

"""What may be a reference, at and beyond each bound."""

from __future__ import annotations

import pytest

from server.domain.references import FORMATS, ReferenceRules, kind_of
from server.domain.request import MAX_REFERENCE_BYTES, OutputFormat

FEW = ReferenceRules(
    formats=("JPEG", "PNG"), max_bytes=1_000, min_side_px=30, max_area_px=10_000, max_aspect=2.5
)


def fault(
    rules: ReferenceRules, size_bytes: int, width_px: int, height_px: int, kind: str = "PNG"
) -> str | None:
    return rules.fault(kind=kind, size_bytes=size_bytes, width_px=width_px, height_px=height_px)


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
    assert fault(ReferenceRules(), size_bytes, width_px, height_px) is None


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
    assert fault(ReferenceRules(), size_bytes, width_px, height_px) == told


@pytest.mark.parametrize("kind", FORMATS)
def test_a_model_without_rules_takes_every_format(kind: str) -> None:
    assert fault(ReferenceRules(), 1, 15, 15, kind) is None


@pytest.mark.parametrize(
    ("size_bytes", "width_px", "height_px", "kind", "told"),
    [
        (1_000, 30, 75, "JPEG", None),
        (1_000, 100, 100, "PNG", None),
        (1_000, 100, 100, "WEBP", "is WEBP; allowed: JPEG, PNG"),
        (1_001, 100, 100, "PNG", "has 1,001 bytes; allowed: at most 1,000"),
        (1_000, 29, 60, "PNG", "has 29x60 pixels; both sides need at least 30"),
        (1_000, 76, 30, "PNG", "has 76x30 pixels; one side is at most 2.5 times the other"),
        (1_000, 100, 101, "PNG", "has 100x101 pixels; allowed: at most 10,000 in all"),
    ],
)
def test_a_model_may_take_less(
    size_bytes: int, width_px: int, height_px: int, kind: str, told: str | None
) -> None:
    assert fault(FEW, size_bytes, width_px, height_px, kind) == told


def test_every_format_that_is_made_may_be_a_reference() -> None:
    assert [kind_of(made.mime_type) for made in OutputFormat] == ["PNG", "JPEG", "WEBP"]

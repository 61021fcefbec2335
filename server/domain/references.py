"""What a picture must be to serve as a reference: the limits that every model here shares."""

from __future__ import annotations

from server.domain.request import (
    MAX_ALL_REFERENCES_BYTES,
    MAX_REFERENCE_ASPECT,
    MAX_REFERENCE_BYTES,
    MAX_REFERENCE_PIXELS,
    MIN_REFERENCE_SIDE_PX,
)

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""What references are encoded in, by Pillow's names."""


def fault(*, size_bytes: int, width_px: int, height_px: int) -> str | None:
    """What is wrong with a picture of this size, and what is allowed; None if it may be a reference."""
    short, long = sorted((width_px, height_px))
    if size_bytes > MAX_REFERENCE_BYTES:
        return f"has {size_bytes:,} bytes; allowed: at most {MAX_REFERENCE_BYTES:,}"
    if short < MIN_REFERENCE_SIDE_PX:
        return f"has {width_px}x{height_px} pixels; both sides need at least {MIN_REFERENCE_SIDE_PX}"
    if long > MAX_REFERENCE_ASPECT * short:
        return (
            f"has {width_px}x{height_px} pixels; one side is at most {MAX_REFERENCE_ASPECT} times the other"
        )
    if width_px * height_px > MAX_REFERENCE_PIXELS:
        return f"has {width_px}x{height_px} pixels; allowed: at most {MAX_REFERENCE_PIXELS:,} in all"
    return None


def sum_fault(size_bytes: int) -> str | None:
    """What is wrong with references of one request that have so many bytes together; None if nothing is."""
    if size_bytes > MAX_ALL_REFERENCES_BYTES:
        return f"have {size_bytes:,} bytes together; allowed: at most {MAX_ALL_REFERENCES_BYTES:,}"
    return None

"""What a picture must be to serve as a reference: what the service takes at most, and a model may narrow."""

from __future__ import annotations

from msgspec import Struct

from server.domain.request import (
    MAX_ALL_REFERENCES_BYTES,
    MAX_REFERENCE_ASPECT,
    MAX_REFERENCE_BYTES,
    MAX_REFERENCE_PIXELS,
    MIN_REFERENCE_SIDE_PX,
)

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""What references are encoded in, by Pillow's names."""
SAME_FORMAT = {"MPO": "JPEG"}
"""Of what Pillow tells apart and others do not: a JPEG file in which cameras, and HDR, put more pictures."""


class ReferenceRules(Struct, frozen=True, kw_only=True):
    """What a model wants of each of its reference images; the default is all that the service takes."""

    formats: tuple[str, ...] = FORMATS
    max_bytes: int = MAX_REFERENCE_BYTES
    min_side_px: int = MIN_REFERENCE_SIDE_PX
    max_area_px: int = MAX_REFERENCE_PIXELS
    max_aspect: float = MAX_REFERENCE_ASPECT
    """The longer side divided by the shorter one."""

    def fault(self, *, kind: str, size_bytes: int, width_px: int, height_px: int) -> str | None:
        """What is wrong with a picture, and what is allowed; None if it may be a reference.

        `kind` is how it is encoded, by Pillow's names.
        """
        short, long = sorted((width_px, height_px))
        if kind not in self.formats:
            return f"is {kind}; allowed: {', '.join(self.formats)}"
        if size_bytes > self.max_bytes:
            return f"has {size_bytes:,} bytes; allowed: at most {self.max_bytes:,}"
        if short < self.min_side_px:
            return f"has {width_px}x{height_px} pixels; both sides need at least {self.min_side_px}"
        if long > self.max_aspect * short:
            return (
                f"has {width_px}x{height_px} pixels; one side is at most {self.max_aspect:g} times the other"
            )
        if width_px * height_px > self.max_area_px:
            return f"has {width_px}x{height_px} pixels; allowed: at most {self.max_area_px:,} in all"
        return None


def kind_of(mime_type: str) -> str:
    """How pictures of this media type are encoded, by Pillow's names."""
    return mime_type.removeprefix("image/").upper()


def sum_fault(size_bytes: int) -> str | None:
    """What is wrong with references of one request that have so many bytes together; None if nothing is."""
    if size_bytes > MAX_ALL_REFERENCES_BYTES:
        return f"have {size_bytes:,} bytes together; allowed: at most {MAX_ALL_REFERENCES_BYTES:,}"
    return None

"""What a caller asks for, once it has been found valid against the model it asks of."""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec import Struct

MAX_PROMPT_CHARS = 4_000
MAX_ID_CHARS = 128
MAX_LABELS = 16
MAX_LABEL_CHARS = 63
MAX_REFERENCES = 14
MAX_REFERENCE_BYTES = 10 * 1024 * 1024
MAX_ALL_REFERENCES_BYTES = 32 * 1024 * 1024
"""Of one request, however its pictures come: a worker holds them all, and once more as it sends them."""
MIN_REFERENCE_SIDE_PX = 15
MAX_REFERENCE_ASPECT = 16
MAX_REFERENCE_PIXELS = 36_000_000
MAX_LINK_CHARS = 4_096
MAX_REQUEST_BYTES = 32 * 1024 * 1024
MAX_IMAGES = 15
DEFAULT_SEQUENCE_IMAGES = 4
MIN_TTL_S = 1
MAX_TTL_S = 7 * 24 * 3600
DEFAULT_TTL_S = 3600
MIN_SEED = -1
MAX_SEED = 2**31 - 1
MIN_GUIDANCE_SCALE = 1.0
MAX_GUIDANCE_SCALE = 10.0


class OutputFormat(StrEnum):
    """The file format of the images."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def mime_type(self) -> str:
        """The format's media type (RFC 2046; WebP: RFC 9649)."""
        return f"image/{self.value}"


class Size(Struct, frozen=True, kw_only=True, gc=False):
    """The picture's size as asked of the model, in pixels."""

    width_px: int
    height_px: int

    def __str__(self) -> str:
        return f"{self.width_px}x{self.height_px}"


_SIZE = re.compile(r"([0-9]{1,6})[x×*]([0-9]{1,6})")


def parse_size(text: str) -> Size | None:
    """Read `WxH`; None when the text is something else (a label, or nonsense)."""
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None:
        return None
    return Size(width_px=int(match[1]), height_px=int(match[2]))


class ImageRequest(Struct, frozen=True, kw_only=True, gc=False):
    """A valid request for one image or a sequence of them: what a provider is given to fulfil."""

    prompt: str
    negative_prompt: str = ""
    size: Size
    size_label: str = ""
    """The label the size was asked by (`2K`), upper case; empty when it was asked in pixels."""
    watermark: bool = False
    seed: int
    """Never negative: a request without one gets a random seed at acceptance, so that a retry repeats it."""
    guidance_scale: float | None = None
    references: tuple[str, ...] = ()
    quality: str = ""
    output_format: OutputFormat = OutputFormat.PNG
    sequence: bool = False
    """Whether the images shall belong together; `max_images` is 1 otherwise."""
    max_images: int = 1

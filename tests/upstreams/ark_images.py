"""Sizes and reference images as Ark takes them, and the envelopes it refuses the others with."""

from __future__ import annotations

import base64
import io
import re

from PIL import Image

from tests.upstreams.ark_models import ModelRules

MAX_REFERENCE_BYTES = 10 * 1024 * 1024
MAX_REFERENCE_PX = 36_000_000
MIN_SIDE_PX = 15
_SIZE = re.compile(r"([0-9]+)x([0-9]+)")
_DATA_URI = re.compile(r"data:image/([a-z]+);base64,([A-Za-z0-9+/]+={0,2})")
_LABELS = {
    "1K": "1024x1024",
    "2K": "2048x2048",
    "3K": "3072x3072",
    "4K": "4096x4096",
    "adaptive": "1024x1024",
}


class Refused(Exception):
    """The request is answered with this envelope."""

    def __init__(self, status: int, code: str, message: str, param: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param


def invalid(name: str) -> Refused:
    return Refused(400, "InvalidParameter", f"The parameter `{name}` is not valid.", name)


def unsupported(name: str) -> Refused:
    return Refused(
        400, "InvalidParameter.UnsupportedParameter", f"The parameter `{name}` is not supported.", name
    )


def read_size(text: object, rules: ModelRules) -> str:
    """The size in pixels that a size's text stands for."""
    if not isinstance(text, str):
        raise invalid("size")
    if text in rules.labels:
        return _LABELS[text]
    match = _SIZE.fullmatch(text)
    if match is None:
        raise invalid("size")
    width, height = int(match[1]), int(match[2])
    short, long = sorted((width, height))
    if not rules.min_area_px <= width * height <= rules.max_area_px or long > 16 * short:
        raise invalid("size")
    return text


def read_references(image: object, rules: ModelRules) -> int:
    """How many reference images there are; each is looked at, links are not followed."""
    images = image if isinstance(image, list) else [image]
    if images and not rules.max_references:
        raise unsupported("image")
    if not rules.min_references <= len(images) <= rules.max_references:
        code = "InvalidParameter" if images else "MissingParameter"
        raise Refused(400, code, "The number of reference images is not valid.", "image")
    for source in images:
        if not isinstance(source, str):
            raise invalid("image")
        if not source.startswith("https://"):
            _look_at(source, rules)
    return len(images)


def _look_at(source: str, rules: ModelRules) -> None:
    match = _DATA_URI.fullmatch(source)
    if match is None:
        raise Refused(400, "InvalidImageURL.InvalidFormat", "The image URL is invalid.", "image")
    try:
        data = base64.b64decode(match[2])
        with Image.open(io.BytesIO(data), formats=tuple(rules.reference_formats)) as picture:
            # Pillow tells JPEG files of several pictures apart; to others they are JPEG.
            kind = "JPEG" if picture.format == "MPO" else picture.format
            short, long = sorted(picture.size)
    except (ValueError, OSError):
        raise invalid("image") from None
    fits = (
        kind == match[1].upper()
        and len(data) <= MAX_REFERENCE_BYTES
        and short >= MIN_SIDE_PX
        and long <= short * rules.reference_aspect
        and short * long <= MAX_REFERENCE_PX
    )
    if not fits:
        raise invalid("image")

"""What Ark accepts at its image endpoint: the parameter table of its documentation, as far as we use it.

A field that is null counts as absent: the vendor's own SDK sends every unset field as null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_SEED = 2**31 - 1
MAX_IMAGES = 15
_SIZE = re.compile(r"([0-9]+)x([0-9]+)")
_DATA_URI = re.compile(r"data:image/[a-z]+;base64,[A-Za-z0-9+/]+={0,2}")
_LABELS = {
    "1K": (1024, 1024),
    "2K": (2048, 2048),
    "3K": (3072, 3072),
    "4K": (4096, 4096),
    "adaptive": (1024, 1024),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRules:
    """What one model takes."""

    labels: tuple[str, ...] = ()
    min_area_px: int
    max_area_px: int
    max_references: int = 0
    seed: bool = False
    """Whether it takes seed and guidance_scale."""
    groups: bool = True
    output_format: bool = False


MODELS = {
    "doubao-seedream-3-0-t2i-250415": ModelRules(
        min_area_px=262_144, max_area_px=4_194_304, seed=True, groups=False
    ),
    "doubao-seedream-4-0-250828": ModelRules(
        labels=("1K", "2K", "4K"), min_area_px=921_600, max_area_px=16_777_216, max_references=14
    ),
    "doubao-seedream-4-5-251128": ModelRules(
        labels=("2K", "4K"), min_area_px=3_686_400, max_area_px=16_777_216, max_references=14
    ),
    "doubao-seedream-5-0-260128": ModelRules(
        labels=("2K", "3K", "4K"),
        min_area_px=3_686_400,
        max_area_px=16_777_216,
        max_references=14,
        output_format=True,
    ),
    "doubao-seedream-5-0-pro-260628": ModelRules(
        labels=("1K", "2K"),
        min_area_px=921_600,
        max_area_px=4_194_304,
        max_references=10,
        groups=False,
        output_format=True,
    ),
    "doubao-seededit-3-0-i2i-250628": ModelRules(
        labels=("adaptive",), min_area_px=1, max_area_px=0, max_references=1, seed=True, groups=False
    ),
}


class Refused(Exception):
    """The request is answered with this envelope."""

    def __init__(self, status: int, code: str, message: str, param: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A request that Ark accepts."""

    model: str
    prompt: str
    size: str
    """`WIDTHxHEIGHT`: what a label stands for."""
    images: int
    b64_json: bool
    png: bool


def accept(body: Mapping[str, Any]) -> Order:
    """Read a request body. Raises Refused as Ark would."""
    sent = {name: value for name, value in body.items() if value is not None}
    for name in ("model", "prompt"):
        if not isinstance(sent.get(name), str) or not sent[name]:
            raise Refused(400, "MissingParameter", f"The request is missing `{name}`.", name)
    rules = MODELS.get(sent["model"])
    if rules is None:
        raise Refused(404, "InvalidEndpointOrModel.NotFound", f"Model {sent['model']} does not exist.")
    _flags(sent)
    _sampling(sent, rules)
    references = _references(sent, rules)
    images = _images(sent, rules)
    if references + images > MAX_IMAGES:
        raise _invalid("sequential_image_generation_options.max_images")
    output_format = _choice(sent, "output_format", ("jpeg", "png"), "jpeg")
    if "output_format" in sent and not rules.output_format:
        raise _unsupported("output_format")
    return Order(
        model=sent["model"],
        prompt=sent["prompt"],
        size=_size(sent, rules),
        images=images,
        b64_json=_choice(sent, "response_format", ("url", "b64_json"), "url") == "b64_json",
        png=output_format == "png",
    )


def _flags(sent: Mapping[str, Any]) -> None:
    if not isinstance(sent.get("watermark", True), bool):
        raise _invalid("watermark")
    if sent.get("stream", False) is not False:  # this stand-in does not stream
        raise _unsupported("stream")


def _sampling(sent: Mapping[str, Any], rules: ModelRules) -> None:
    for name in ("seed", "guidance_scale"):
        if name in sent and not rules.seed:
            raise _unsupported(name)
    seed, scale = sent.get("seed", -1), sent.get("guidance_scale", 2.5)
    if not isinstance(seed, int) or isinstance(seed, bool) or not -1 <= seed <= MAX_SEED:
        raise _invalid("seed")
    if not isinstance(scale, int | float) or isinstance(scale, bool) or not 1 <= scale <= 10:
        raise _invalid("guidance_scale")


def _references(sent: Mapping[str, Any], rules: ModelRules) -> int:
    image = sent.get("image", [])
    images = image if isinstance(image, list) else [image]
    if len(images) > rules.max_references:
        raise _unsupported("image") if not rules.max_references else _invalid("image")
    for source in images:
        if not isinstance(source, str):
            raise _invalid("image")
        if not source.startswith("https://") and not _DATA_URI.fullmatch(source):
            raise Refused(400, "InvalidImageURL.InvalidFormat", "The image URL is invalid.", "image")
    return len(images)


def _images(sent: Mapping[str, Any], rules: ModelRules) -> int:
    """How many pictures: one, or up to max_images of a sequence."""
    mode = _choice(sent, "sequential_image_generation", ("auto", "disabled"), "disabled")
    if "sequential_image_generation" in sent and not rules.groups:
        raise _unsupported("sequential_image_generation")
    options = sent.get("sequential_image_generation_options")
    if mode == "disabled":
        if options is not None:
            raise _invalid("sequential_image_generation_options")
        return 1
    wanted = (options or {}).get("max_images")
    wanted = MAX_IMAGES if wanted is None else wanted
    if not isinstance(wanted, int) or isinstance(wanted, bool) or not 1 <= wanted <= MAX_IMAGES:
        raise _invalid("sequential_image_generation_options.max_images")
    return wanted


def _size(sent: Mapping[str, Any], rules: ModelRules) -> str:
    text = sent.get("size", "1024x1024" if not rules.labels else "2K")
    if not isinstance(text, str):
        raise _invalid("size")
    if text in rules.labels:
        width, height = _LABELS[text]
        return f"{width}x{height}"
    match = _SIZE.fullmatch(text)
    if match is None:
        raise _invalid("size")
    width, height = int(match[1]), int(match[2])
    short, long = sorted((width, height))
    if not rules.min_area_px <= width * height <= rules.max_area_px or long > 16 * short:
        raise _invalid("size")
    return text


def _choice(sent: Mapping[str, Any], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = sent.get(name, default)
    if value not in allowed:
        raise _invalid(name)
    return str(value)


def _invalid(name: str) -> Refused:
    return Refused(400, "InvalidParameter", f"The parameter `{name}` is not valid.", name)


def _unsupported(name: str) -> Refused:
    return Refused(
        400, "InvalidParameter.UnsupportedParameter", f"The parameter `{name}` is not supported.", name
    )

"""The body of a request to Ark's image endpoint, by the parameter table of its documentation."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from server.domain.errors import Reason
from server.domain.request import MAX_SEED
from server.providers.contract import Generation, ProviderError, Sent

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
)


def seed_of(generation: Generation, index: int) -> int:
    """The seed that makes this image; -1 where the model takes none and tells none.

    Images of a sequence that are calls of their own have seeds of their own: the same one again would give
    the same picture.
    """
    if not generation.parameters.seed:
        return -1
    return (generation.request.seed + index) % (MAX_SEED + 1)


def encoded(generation: Generation) -> bytes:
    """The JSON to send. Raises ProviderError for a reference image that Ark could not read."""
    request, takes = generation.request, generation.parameters
    body: dict[str, Any] = {
        "model": generation.upstream_model,
        "prompt": request.prompt,
        "size": request.size_label or str(request.size),
        "response_format": "url",
        "watermark": request.watermark,  # always said: Ark's default is to put one
    }
    if request.negative_prompt:  # Ark has no field for it; its models follow instructions
        body["prompt"] += f"\nDo not show: {request.negative_prompt}"
    if takes.seed:
        body["seed"] = seed_of(generation, generation.indexes[0])
    if takes.guidance_scale and request.guidance_scale is not None:
        body["guidance_scale"] = request.guidance_scale
    if len(takes.output_formats) > 1 and request.output_format in takes.output_formats:
        body["output_format"] = request.output_format.value
    if len(generation.indexes) > 1:
        body["stream"] = True  # each image as soon as it is made
        body["sequential_image_generation"] = "auto"
        body["sequential_image_generation_options"] = {"max_images": len(generation.indexes)}
    sources = list(_sources(generation))
    if sources:
        body["image"] = sources[0] if len(sources) == 1 else sources
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _sources(generation: Generation) -> Iterator[str]:
    """The reference images in order, as data URIs."""
    for place, data in enumerate(generation.references):
        yield f"data:image/{_format(data, place)};base64,{base64.b64encode(data).decode()}"


def _format(data: bytes, place: int) -> str:
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    raise ProviderError(
        f"Reference image {place} is no picture that Ark reads: send PNG, JPEG, WebP, BMP, TIFF or GIF.",
        sent=Sent.NOT_SENT,
        reason=Reason.REFERENCE_UNAVAILABLE,
        retryable=False,
        metadata={"field": f"reference_images[{place}]"},
    )

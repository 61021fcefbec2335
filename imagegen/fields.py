"""A caller's wishes as keyword arguments, and the requests made of them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Literal, TypeAlias, TypedDict, TypeVar

from image.v1.image_service_pb2 import (
    GenerateImageRequest,
    GenerateSequentialImagesRequest,
    OutputFormat,
    ResponseFormat,
)
from image.v1.image_source_pb2 import ImageSource
from task.v1.image_pb2 import OutputRef
from task.v1.task_pb2 import TaskPriority

Reference: TypeAlias = bytes | str | OutputRef
"""An image to work from: its encoded bytes, its http(s) link, or a picture that the service made before."""

MAX_REQUEST_BYTES = 32 * 1024 * 1024
"""What a request may have in all, references included."""

_OUTPUT_FORMATS = {
    "png": OutputFormat.OUTPUT_FORMAT_PNG,
    "jpeg": OutputFormat.OUTPUT_FORMAT_JPEG,
    "webp": OutputFormat.OUTPUT_FORMAT_WEBP,
}
_RESPONSE_FORMATS = {
    "url": ResponseFormat.RESPONSE_FORMAT_URL,
    "bytes": ResponseFormat.RESPONSE_FORMAT_BYTES,
}
_PRIORITIES = {
    "critical": TaskPriority.TASK_PRIORITY_CRITICAL,
    "default": TaskPriority.TASK_PRIORITY_DEFAULT,
    "low": TaskPriority.TASK_PRIORITY_LOW,
}
_Value = TypeVar("_Value")


class RequestFields(TypedDict, total=False):
    """The optional fields of a request for pictures. What is left out takes the service's default."""

    model: str
    """Id or alias of a model in the catalogue."""
    size: str
    """A label ("1K", "2K", "4K") or "WIDTHxHEIGHT" in pixels."""
    watermark: bool
    """Whether the picture carries a visible watermark. Default: none."""
    seed: int | None
    """0 to 2,147,483,647 for a repeatable picture; None or -1 for a random one."""
    guidance_scale: float | None
    """How closely to follow the prompt, in the model's own range."""
    references: Sequence[Reference]
    """Images to work from, at most 14 of 10 MiB each; the whole request has at most 32 MiB."""
    quality: str
    """Quality in the model's own words; "standard" is no preference."""
    output_format: Literal["png", "jpeg", "webp"] | None
    provider: str
    """Provider to use; left out, the service chooses."""
    negative_prompt: str
    """What the picture is not to show, at most 4,000 characters."""
    request_id: str | None
    """The caller's own id of this request, at most 128 characters. None, the default, is a fresh one for each
    call, so that a call cut off on its way can be repeated without making a second task. "" sends none: such
    a call is never repeated."""
    user_id: str
    """On whose behalf the picture is made, at most 128 characters."""
    priority: Literal["critical", "default", "low"] | None
    ttl_s: float | None
    """How long the task may take, waiting included: 1 second to 7 days. Default 1 hour."""
    labels: Mapping[str, str]
    """The caller's own marks: at most 16, keys of 1-63, values of 0-63 characters."""
    max_paid_attempts: int | None
    """How many calls that cost money the task may make, per image, 1-10; 1 means never to pay twice."""


def image_request(
    prompt: str, fields: RequestFields, *, response_format: Literal["url", "bytes"] = "url"
) -> GenerateImageRequest:
    """The request for one picture. Raises TypeError for a field that does not exist and ValueError for a
    choice, a number or a text that the contract cannot carry and for more than 32 MiB in all; everything else
    is for the service to judge.
    """
    request = GenerateImageRequest(prompt=prompt)
    _fill(request, fields, response_format=response_format)
    return request


def sequence_request(
    prompt: str, images: int, fields: RequestFields, *, response_format: Literal["url", "bytes"] = "url"
) -> GenerateSequentialImagesRequest:
    """The request for up to `images` pictures that belong together; raises as `image_request` does."""
    request = GenerateSequentialImagesRequest(prompt=prompt, max_images=images)
    _fill(request, fields, response_format=response_format)
    return request


def _fill(
    request: GenerateImageRequest | GenerateSequentialImagesRequest,
    fields: RequestFields,
    *,
    response_format: Literal["url", "bytes"],
) -> None:
    unknown = sorted(fields.keys() - RequestFields.__annotations__.keys())
    if unknown:
        raise TypeError(f"no such field of a request: {', '.join(unknown)}")
    request_id = fields.get("request_id")
    request.request_id = str(uuid.uuid4()) if request_id is None else request_id
    request.model = fields.get("model", "")
    request.size = fields.get("size", "")
    request.watermark = fields.get("watermark", False)
    request.quality = fields.get("quality", "")
    request.provider = fields.get("provider", "")
    request.negative_prompt = fields.get("negative_prompt", "")
    request.user_id = fields.get("user_id", "")
    request.response_format = _choice(_RESPONSE_FORMATS, response_format)
    request.reference_images.extend(_source(reference) for reference in fields.get("references", ()))
    if (seed := fields.get("seed")) is not None:
        request.seed = seed
    if (guidance_scale := fields.get("guidance_scale")) is not None:
        request.guidance_scale = guidance_scale
    if (output_format := fields.get("output_format")) is not None:
        request.output_format = _choice(_OUTPUT_FORMATS, output_format)
    if (priority := fields.get("priority")) is not None:
        request.options.priority = _choice(_PRIORITIES, priority)
    if (ttl_s := fields.get("ttl_s")) is not None:
        try:
            request.options.ttl.FromTimedelta(timedelta(seconds=ttl_s))
        except OverflowError as error:
            raise ValueError(f"ttl_s: {ttl_s} is no time; allowed: 1 to 604,800 s (7 days)") from error
    if labels := fields.get("labels"):
        request.options.labels.update(labels)
    if (max_paid_attempts := fields.get("max_paid_attempts")) is not None:
        request.options.max_paid_attempts = max_paid_attempts
    if (length := request.ByteSize()) > MAX_REQUEST_BYTES:
        allowed = f"{MAX_REQUEST_BYTES >> 20} MiB"
        raise ValueError(f"the request has {length:,} bytes, references included; allowed: {allowed}")


def _choice(values: Mapping[str, _Value], name: str) -> _Value:
    if name not in values:
        raise ValueError(f"{name!r} is none of {', '.join(values)}")
    return values[name]


def _source(reference: Reference) -> ImageSource:
    if isinstance(reference, bytes):
        return ImageSource(data=reference)
    if isinstance(reference, OutputRef):
        return ImageSource(output=reference)
    return ImageSource(url=reference)

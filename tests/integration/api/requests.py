"""Requests that are right as they are, for tests to change one thing in."""

from __future__ import annotations

import hashlib
import io
import zlib
from typing import Any, TypeAlias

from google.protobuf.duration_pb2 import Duration
from image.v1.image_service_pb2 import GenerateImageRequest, GenerateSequentialImagesRequest
from image.v1.image_source_pb2 import ImageSource
from PIL import Image as Picture
from task.v1.image_pb2 import OutputRef
from task.v1.task_pb2 import TaskOptions

SubmitRequest: TypeAlias = GenerateImageRequest | GenerateSequentialImagesRequest

MODEL = "local-canvas"
SMALL = "64x64"
"""Drawn in a fiftieth of a second, if it shows a desert at noon."""
MIB = 1024 * 1024
DAY_S = 24 * 3600


def image(**fields: Any) -> GenerateImageRequest:
    """One small picture."""
    return GenerateImageRequest(**_with_defaults(fields))


def sequence(**fields: Any) -> GenerateSequentialImagesRequest:
    """Small pictures that belong together."""
    return GenerateSequentialImagesRequest(**_with_defaults(fields))


def _with_defaults(fields: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": "a desert at noon", "model": MODEL, "size": SMALL, **fields}


def exactly(size_bytes: int) -> GenerateImageRequest:
    """A valid request of this size on the wire, 31 to 40 MiB, but for that size."""
    request = image(reference_images=[data(10 * MIB)] * 3)
    filling = request.reference_images.add(data=padded(MIB))
    while gap := size_bytes - request.ByteSize():
        filling.data = padded(len(filling.data) + gap)
    return request


def data(size_bytes: int) -> ImageSource:
    """An inline reference of so many bytes; a picture from SMALLEST_BYTES on."""
    return ImageSource(data=padded(size_bytes))


def padded(size_bytes: int) -> bytes:
    """A small picture made this long: readers of PNG ignore what comes behind its end."""
    return (_SMALLEST + bytes(max(0, size_bytes - SMALLEST_BYTES)))[:size_bytes]


def damaged() -> bytes:
    """A picture that breaks off: its head is right, so that only who decodes it finds out."""
    return grain(64)[:-1_000]


def output(task_id: str, index: int = 0) -> ImageSource:
    """A reference to an earlier task's picture."""
    return ImageSource(output=OutputRef(task_id=task_id, index=index))


def link(url: str) -> ImageSource:
    """A reference by link."""
    return ImageSource(url=url)


def picture(width_px: int, height_px: int) -> ImageSource:
    """An inline reference of one colour."""
    return ImageSource(data=flat(width_px, height_px))


def options(**fields: Any) -> TaskOptions:
    """Options of a task."""
    return TaskOptions(**fields)


def ttl(seconds: int, nanos: int = 0) -> TaskOptions:
    """Options with this ttl and nothing else."""
    return TaskOptions(ttl=Duration(seconds=seconds, nanos=nanos))


def labels(count: int) -> dict[str, str]:
    """So many different labels."""
    return {f"label-{i}": "x" for i in range(count)}


def grain(side_px: int) -> bytes:
    """A PNG that nothing makes small; pictures made from it are not small either."""
    raw = hashlib.shake_256(b"grain").digest(side_px * side_px * 3)
    file = io.BytesIO()
    Picture.frombytes("RGB", (side_px, side_px), raw).save(file, "PNG")
    return file.getvalue()


def flat(width_px: int, height_px: int) -> bytes:
    """A PNG of one colour, of one bit a pixel, in runs of equal bytes: 36 megapixels are soon made."""
    file = io.BytesIO()
    Picture.new("1", (width_px, height_px)).save(file, "PNG", compress_type=zlib.Z_RLE)
    return file.getvalue()


_SMALLEST = flat(15, 15)
SMALLEST_BYTES = len(_SMALLEST)
"""Of the smallest picture that may be a reference."""

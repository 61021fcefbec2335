"""Hypothesis strategies for calls: requests with nothing or something wrong, and bytes that are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from image.v1.image_service_pb2 import (
    GenerateImageRequest,
    GenerateSequentialImagesRequest,
    GetImageTaskRequest,
)
from image.v1.image_source_pb2 import ImageSource
from task.v1.image_pb2 import OutputRef
from task.v1.task_pb2 import TaskOptions
from task.v1.task_service_pb2 import GetTaskRequest, WaitTaskRequest

INT32 = (-(2**31), 2**31 - 1)
INT64 = (-(2**63), 2**63 - 1)
NOBODYS_TASK = "01JD8ZK5T0N0V6Y3W2Q4R5S6T7"
MODELS = ("local-canvas", "dall-e-3", "doubao-seedream-4.0", "doubao-seedream-3.0-t2i", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedCall:
    """One call: the method by its path, and the bytes to send it."""

    method: str
    raw: bytes


def _spread(around: tuple[int, ...], *, of: tuple[int, int]) -> SearchStrategy[int]:
    """Whole numbers of a type: those next to its limits and ours, and any other."""
    return st.sampled_from((*around, *of)) | st.integers(*of)


_EXTREME_TEXTS = (
    "",
    " ",
    "\0",
    "\0" * 128,
    "%s%n{}${x}",
    "' OR 1=1 --",
    "../../../etc/passwd",
    "a\u0301\u200d\u202e\ufeff\ufffe\uffff",
    "\U0010ffff" * 128,
    "猫" * 129,
    "x" * 4_000,
    "猫" * 4_001,
    "\U0001f408" * 9_000,
)
_texts = st.sampled_from(_EXTREME_TEXTS) | st.text(max_size=40)
_floats = st.floats(width=32) | st.sampled_from((0.0, -0.0, 1.0, 10.0))
_numbers = _spread((-2, -1, 0, 1, 2, 3, 14, 15, 16), of=INT32)
_durations = st.builds(
    Duration,
    seconds=_spread((-1, 0, 1, 3_600, 604_800, 604_801), of=INT64),
    nanos=_spread((-1, 0, 1, 999_999_999, 1_000_000_000), of=INT32),
)
_sources = st.one_of(
    st.builds(ImageSource),
    st.builds(ImageSource, url=_texts),
    st.builds(ImageSource, data=st.binary(max_size=64)),
    st.builds(ImageSource, output=st.builds(OutputRef, task_id=_texts, index=_numbers)),
)
_options = st.builds(
    TaskOptions,
    priority=_numbers,
    ttl=st.none() | _durations,
    labels=st.dictionaries(_texts, _texts, max_size=18),
    max_paid_attempts=st.none() | _numbers,
)

_RIGHT: dict[str, SearchStrategy[Any]] = {
    "prompt": st.sampled_from(("a cat", "\0", "\U0010ffff" * 4_000)) | st.text().map("a {}".format),
    "size": st.sampled_from(("", "1024x1024", " 1024X1024 ", "1024×1024")),
    "watermark": st.booleans(),
    "seed": st.none() | _spread((-1, 0), of=(-1, INT32[1])),
    "guidance_scale": st.none() | st.floats(1, 10, width=32),
    "reference_images": st.just([]),
    "quality": st.sampled_from(("", "standard")),
    "output_format": st.integers(0, 3),
    "response_format": st.integers(0, 2),
    "provider": st.sampled_from(("", "local")),
    "negative_prompt": st.text(),
    "request_id": st.just("") | st.text(max_size=128),
    "user_id": st.text(max_size=128),
    "options": st.none()
    | st.builds(
        TaskOptions,
        priority=st.integers(0, 3),
        ttl=st.none() | st.builds(Duration, seconds=st.integers(60, 604_800)),
        labels=st.dictionaries(st.text(min_size=1, max_size=63), st.text(max_size=63), max_size=16),
        max_paid_attempts=st.none() | st.integers(1, 10),
    ),
}
_ANY: dict[str, SearchStrategy[Any]] = {
    "prompt": _texts,
    "model": _texts,
    "size": _texts | st.sampled_from(("0x0", "99999x99999", "1x999999", "2K", "4k", "-1x1", "1e3x1e3")),
    "seed": _numbers,
    "guidance_scale": _floats,
    "reference_images": st.lists(_sources, max_size=16),
    "quality": _texts,
    "output_format": _numbers,
    "response_format": _numbers,
    "provider": _texts | st.sampled_from(("volcengine", "ark", "jimeng", "openai", " LOCAL ")),
    "negative_prompt": _texts,
    "request_id": _texts,
    "user_id": _texts,
    "options": _options,
}


@st.composite
def _fields(draw: st.DrawFn, *, images: SearchStrategy[int] | None) -> dict[str, Any]:
    """The fields of a submit: right ones, of which up to three (often none) are replaced by anything."""
    right, anything = dict(_RIGHT), dict(_ANY)
    if images is not None:
        right["max_images"], anything["max_images"] = images, _numbers
    fields = draw(st.fixed_dictionaries({"model": st.sampled_from(MODELS), **right}))
    for name in draw(st.just([]) | st.lists(st.sampled_from(sorted(anything)), max_size=3)):
        fields[name] = draw(anything[name])
    return fields


_waits = st.none() | st.builds(Duration, seconds=_spread((-1, 0), of=INT64), nanos=_spread((-1, 0), of=INT32))
_ids = _texts | st.just(NOBODYS_TASK)
_image = _fields(images=None).map(lambda fields: GenerateImageRequest(**fields))
_sequence = _fields(images=st.integers(0, 15)).map(lambda fields: GenerateSequentialImagesRequest(**fields))
_METHODS: dict[str, SearchStrategy[Message]] = {
    "/image.v1.ImageService/GenerateImageAsync": _image,
    "/image.v1.ImageService/GenerateSequentialImagesAsync": _sequence,
    "/image.v1.ImageService/StreamSequentialImages": _sequence,
    "/image.v1.ImageService/GetImageTask": st.builds(GetImageTaskRequest, task_id=_ids),
    "/task.v1.TaskService/GetTask": st.builds(GetTaskRequest, task_id=_ids, view=_numbers),
    "/task.v1.TaskService/WaitTask": st.builds(WaitTaskRequest, task_id=_ids, wait=_waits),
}


@st.composite
def _spoiled(draw: st.DrawFn, raw: bytes) -> bytes:
    """The bytes with one place changed: some taken out or all to the end, some put in."""
    start = draw(st.integers(0, len(raw)))
    end = draw(st.integers(start, min(len(raw), start + 8)) | st.just(len(raw)))
    return raw[:start] + draw(st.binary(max_size=8)) + raw[end:]


@st.composite
def generated_calls(draw: st.DrawFn) -> GeneratedCall:
    """A call of any method that answers at once: most are messages, some spoiled ones, some random bytes."""
    method = draw(st.sampled_from(sorted(_METHODS)))
    if draw(st.integers(0, 9)) == 0:
        return GeneratedCall(method=method, raw=draw(st.binary(max_size=200)))
    raw = draw(_METHODS[method]).SerializeToString()
    if draw(st.integers(0, 4)) == 0:
        raw = draw(_spoiled(raw))
    return GeneratedCall(method=method, raw=raw)

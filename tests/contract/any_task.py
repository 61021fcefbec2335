"""Any task that a store could be given, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from server.domain.errors import Reason, TaskError
from server.domain.money import Price
from server.domain.request import ImageRequest, OutputFormat, Size
from server.domain.task import (
    Attempt,
    AttemptOutcome,
    Call,
    CallState,
    Counts,
    Priority,
    StoredImage,
    Task,
    TaskState,
    TaskType,
)
from tests.contract.samples import new_id

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_times = st.integers(0, 2**48)
_numbers = st.integers(0, 200)
_errors = st.builds(
    TaskError,
    reason=st.sampled_from(Reason),
    message=_texts,
    retryable=st.booleans(),
    metadata=st.dictionaries(_texts, _texts, max_size=3),
)
_calls = st.builds(
    Call,
    state=st.sampled_from(CallState),
    paid=st.booleans(),
    sent_time_ms=_times,
    indexes=st.lists(_numbers, max_size=3).map(tuple),
    receipt=_texts,
    so_far=st.lists(_numbers, max_size=3).map(tuple),
)


def _attempt(number: int) -> st.SearchStrategy[tuple[int, Attempt]]:
    attempts = st.builds(
        Attempt,
        number=st.just(number),
        provider=_texts,
        worker=_texts,
        start_time_ms=_times,
        end_time_ms=_times,
        outcome=st.none() | st.sampled_from(AttemptOutcome),
        error=st.none() | _errors,
        calls=st.dictionaries(_numbers, _calls, max_size=3),
        price=st.none()
        | st.builds(Price, currency=st.sampled_from(("CNY", "USD")), micros_per_image=st.integers(0, 2**40)),
    )
    return st.tuples(st.just(number), attempts)


def _image(index: int) -> st.SearchStrategy[tuple[int, StoredImage]]:
    images = st.builds(
        StoredImage,
        index=st.just(index),
        key=_texts,
        width_px=_numbers,
        height_px=_numbers,
        mime_type=_texts,
        size_bytes=st.integers(0, 2**40),
        sha256=_texts,
        seed=st.integers(0, 2**31 - 1),
    )
    return st.tuples(st.just(index), images)


_requests = st.builds(
    ImageRequest,
    prompt=_texts,
    negative_prompt=_texts,
    size=st.builds(Size, width_px=_numbers, height_px=_numbers),
    size_label=_texts,
    watermark=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
    guidance_scale=st.none() | st.floats(1, 10),
    references=st.lists(_texts, max_size=3).map(tuple),
    quality=_texts,
    output_format=st.sampled_from(OutputFormat),
    sequence=st.booleans(),
    max_images=_numbers,
)

tasks: st.SearchStrategy[Task] = st.builds(
    Task,
    id=st.builds(new_id),
    caller=_texts,
    type=st.sampled_from(TaskType),
    state=st.sampled_from(TaskState),
    priority=st.sampled_from(Priority),
    pool=_texts,
    provider=_texts,
    model=_texts,
    user_id=_texts,
    request_id=_texts,
    labels=st.dictionaries(_texts, _texts, max_size=3),
    request=_requests,
    max_paid_attempts=_numbers,
    revision=_numbers,
    create_time_ms=_times,
    update_time_ms=_times,
    ttl_time_ms=_times,
    start_time_ms=_times,
    end_time_ms=_times,
    attempt=_numbers,
    owner=_texts,
    not_before_ms=_times,
    cancel_requested=st.booleans(),
    counts=st.builds(
        Counts, waits=_numbers, errors=_numbers, lost=_numbers, fetches=_numbers, unlikely=_numbers
    ),
    attempts=st.lists(_numbers.flatmap(_attempt), max_size=3).map(dict),
    images=st.lists(_numbers.flatmap(_image), max_size=3).map(dict),
    failures=st.dictionaries(_numbers, _errors, max_size=3),
    error=st.none() | _errors,
)
"""Any task, whether or not a life could lead to it."""

"""Tasks to keep: plain ones, and one with every field set."""

from __future__ import annotations

from msgspec.structs import replace
from ulid import ULID

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

NOW_MS = 1_800_000_000_000


def new_id() -> str:
    """A task id that no other test uses."""
    return str(ULID())


def new_task(**changes: object) -> Task:
    """A task as it is submitted, under a new id; `changes` are fields of Task."""
    task = Task(
        id=new_id(),
        caller="anonymous",
        type=TaskType.IMAGE,
        state=TaskState.PENDING,
        priority=Priority.DEFAULT,
        pool="lo",
        provider="local",
        model="local-canvas",
        user_id="",
        request_id="",
        labels={},
        request=ImageRequest(
            prompt="一只可爱的小猫在花园里玩耍", size=Size(width_px=64, height_px=48), seed=7
        ),
        max_paid_attempts=2,
        revision=1,
        create_time_ms=NOW_MS,
        update_time_ms=NOW_MS,
        ttl_time_ms=NOW_MS + 3_600_000,
    )
    return replace(task, **changes)


def new_image(index: int = 0) -> StoredImage:
    """A finished image."""
    return StoredImage(
        index=index,
        key=f"task/1/{index}-abcdefghijklmnopqrstuv.png",
        width_px=64,
        height_px=48,
        mime_type="image/png",
        size_bytes=2**33,
        sha256="0f" * 32,
        seed=7 + index,
    )


def new_error(message: str = "It went wrong. Try again.") -> TaskError:
    """An error with every field set; its metadata's names are no field names."""
    return TaskError(
        reason=Reason.RATE_LIMITED,
        message=message,
        retryable=True,
        metadata={"task_id": "x", "a.b": "dots", "$set": "dollar", "": "empty"},
    )


def full_task() -> Task:
    """A task of which no field, at any depth, holds its default."""
    calls = {
        0: Call(
            state=CallState.IN_DOUBT,
            paid=True,
            sent_time_ms=NOW_MS + 3,
            indexes=(1, 2),
            receipt="r",
            so_far=(1,),
        ),
        10: Call(
            state=CallState.DONE, paid=True, sent_time_ms=NOW_MS + 4, indexes=(0, 2), receipt='{"a": "ü"}'
        ),
    }
    attempts = {
        1: Attempt(
            number=1,
            provider="ark",
            worker="w-1",
            start_time_ms=NOW_MS + 2,
            end_time_ms=NOW_MS + 5,
            outcome=AttemptOutcome.IN_DOUBT,
            error=new_error("The attempt failed."),
            calls=calls,
            price=Price(currency="CNY", micros_per_image=259_000),
        ),
        11: Attempt(number=11, provider="local", worker="w-2", start_time_ms=NOW_MS + 6),
    }
    request = ImageRequest(
        prompt='Anführung " und \\ und \n und \0 und 🎨',
        negative_prompt="blurry",
        size=Size(width_px=2048, height_px=1024),
        size_label="2K",
        watermark=True,
        seed=2**31 - 1,
        guidance_scale=7.5,
        references=(
            "01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0-cat.png",
            "references/" + "ab" * 32,
        ),
        quality="high",
        output_format=OutputFormat.WEBP,
        sequence=True,
        max_images=4,
    )
    return Task(
        id=new_id(),
        caller="anna",
        type=TaskType.IMAGE,
        state=TaskState.PROCESSING,
        priority=Priority.CRITICAL,
        pool="ar",
        provider="ark",
        model="doubao-seedream-4-0-250828",
        user_id="user-1",
        request_id="request-1",
        labels={"team": "cats", "a.b": "dots", "$inc": "dollar", "7": "number"},
        request=request,
        max_paid_attempts=3,
        revision=9,
        create_time_ms=NOW_MS,
        update_time_ms=NOW_MS + 7,
        ttl_time_ms=NOW_MS + 3_600_000,
        start_time_ms=NOW_MS + 2,
        end_time_ms=NOW_MS + 8,
        attempt=11,
        owner="w-2",
        not_before_ms=NOW_MS + 1,
        cancel_requested=True,
        counts=Counts(waits=1, errors=2, lost=3, fetches=4, unlikely=2),
        attempts=attempts,
        images={2: new_image(2), 10: new_image(10)},
        failures={0: new_error("Refused."), 1: TaskError(reason=Reason.CONTENT_POLICY_OUTPUT, message="No.")},
        error=new_error("The end."),
    )

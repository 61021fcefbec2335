"""A task's life as rows, from what its record says."""

from __future__ import annotations

import pytest
from task.v1.error_reason_pb2 import ErrorReason
from task.v1.image_pb2 import Image, ImageFailure
from task.v1.task_error_pb2 import TaskError
from task.v1.task_pb2 import Cost, Task, TaskState

from imagegen.timeline import duration, measures, price, rows, size
from tests.client.example_tasks import FORBIDDEN, PENDING, PROCESSING, after, attempt, completed, failed, task

PICTURE = Image(index=0, width_px=64, height_px=48, mime_type="image/png", size_bytes=1234, seed=0)


def steps(shown: Task, *, now_s: float = 10.0) -> list[tuple[float | None, str, str]]:
    return [(row.at_s, row.label, row.detail) for row in rows(shown, now=after(now_s))]


def test_a_task_that_waits_and_waits() -> None:
    assert steps(PENDING, now_s=75)[1:] == [
        (0.0, "waited", "1 min 15 s"),
        (75.0, "pending", "for 1 min 15 s so far"),
    ]


def test_a_task_in_the_making() -> None:
    assert steps(PROCESSING, now_s=2.25)[1:] == [
        (0.0, "waited", "250 ms"),
        (0.25, "attempt 1", "running for 2.00 s · local on worker-1"),
        (2.25, "processing", "for 2.25 s so far"),
    ]


def test_a_task_that_its_second_worker_completed() -> None:
    story = steps(completed(PICTURE, expire_time=None))
    assert story[0][:2] == (0.0, "accepted")
    assert story[1:] == [
        (0.0, "waited", "250 ms"),
        (0.25, "attempt 1", "not sent after 750 ms · local on worker-1"),
        (1.0, "waited", "500 ms"),
        (1.5, "attempt 2", "succeeded after 2.00 s · local on worker-2 · paid"),
        (None, "stored", "image 0 · 64×48 png · 1 kB · seed 0"),
        (3.5, "completed", "3.50 s in all"),
    ]


def test_why_an_attempt_failed_stands_under_it() -> None:
    notes = {row.label: row.note for row in rows(completed(PICTURE), now=after(10))}
    assert notes["attempt 1"] == "WORKER_LOST: The worker was lost."
    assert notes["attempt 2"] == ""


def test_the_same_reason_is_given_once() -> None:
    notes = [row.note for row in rows(failed(), now=after(10)) if row.note]
    assert notes == [f"CONTENT_POLICY_INPUT: {FORBIDDEN.message}"]


def test_a_task_that_expired_before_any_attempt() -> None:
    expired = TaskError(reason=ErrorReason.ERROR_REASON_TASK_EXPIRED, message="Its ttl ended.", code=10)
    shown = task(TaskState.TASK_STATE_FAILED, end_time=after(60), error=expired)
    assert steps(shown)[1:] == [(0.0, "waited", "1 min 00 s"), (60.0, "failed", "1 min 00 s in all")]
    assert list(rows(shown, now=after(99)))[-1].note == "TASK_EXPIRED: Its ttl ended."


def test_a_picture_that_was_not_made() -> None:
    failure = ImageFailure(index=1, error=FORBIDDEN)
    [row] = [row for row in rows(completed(PICTURE, failures=(failure,)), now=after(10)) if row.mark == "✗"]
    assert (row.label, row.detail) == ("not made", "image 1")
    assert row.note.startswith("CONTENT_POLICY_INPUT")


def test_clocks_that_differ_never_show_negative_times() -> None:
    shown = task(TaskState.TASK_STATE_PROCESSING, attempts=[attempt(1, start_s=-0.3)])
    assert steps(shown, now_s=-0.5)[1:] == [
        (0.0, "waited", "0 ms"),
        (0.0, "attempt 1", "running for 0 ms · local on worker-1"),
        (0.0, "processing", "for 0 ms so far"),
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0042, "4 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (59.99, "59.99 s"),
        (59.999, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (3661, "1 h 01 min"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_sizes_and_prices() -> None:
    assert [size(n) for n in (999, 1000, 999_499, 999_500, 3_140_000)] == [
        "999 B",
        "1 kB",
        "999 kB",
        "1.0 MB",
        "3.1 MB",
    ]
    assert measures(PICTURE) == "64×48 png · 1 kB"
    amounts = (0, 200_000, 1_234_567)
    assert [price(Cost(currency="CNY", amount_micros=n)) for n in amounts] == [
        "free",
        "0.20 CNY",
        "1.234567 CNY",
    ]

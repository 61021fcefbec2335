"""A task's life as rows: accepted, waited, attempts, stored, ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from task.v1.attempt_pb2 import Attempt, AttemptOutcome
from task.v1.image_pb2 import Image
from task.v1.task_error_pb2 import TaskError
from task.v1.task_pb2 import Cost, Task, TaskState

from imagegen.tasks import has_ended, reason_name, state_name

_OUTCOMES = {
    AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED: ("succeeded", "green"),
    AttemptOutcome.ATTEMPT_OUTCOME_NOT_SENT: ("not sent", "yellow"),
    AttemptOutcome.ATTEMPT_OUTCOME_REJECTED: ("rejected", "red"),
    AttemptOutcome.ATTEMPT_OUTCOME_IN_DOUBT: ("in doubt", "yellow"),
    AttemptOutcome.ATTEMPT_OUTCOME_CANCELLED: ("cancelled", "red"),
}
NOTICEABLE_S = 0.1
"""An attempt ends a moment before its task does; from here on, in seconds, the task was waiting instead."""

STATE_COLOURS = {
    TaskState.TASK_STATE_PENDING: "cyan",
    TaskState.TASK_STATE_PROCESSING: "cyan",
    TaskState.TASK_STATE_COMPLETED: "green",
    TaskState.TASK_STATE_FAILED: "red",
    TaskState.TASK_STATE_CANCELLED: "red",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One step. `at_s` is in seconds after acceptance, None where the contract gives no time."""

    at_s: float | None
    mark: str
    colour: str
    label: str
    detail: str
    note: str = ""


def rows(task: Task, *, now: datetime) -> Iterator[Row]:
    """The steps of `task` up to `now`, in order."""
    clock = _Clock(start=_time(task.create_time), now=now)
    accepted = f"{clock.start.astimezone():%Y-%m-%d %H:%M:%S}"
    yield Row(at_s=0.0, mark="●", colour="default", label="accepted", detail=accepted)
    free_since = clock.start
    for attempt in task.attempts:
        start = _time(attempt.start_time)
        yield clock.waited(free_since, start)
        yield _attempt(attempt, clock)
        free_since = _time(attempt.end_time) if attempt.HasField("end_time") else now
    if task.state == TaskState.TASK_STATE_PENDING:
        yield clock.waited(free_since, now)
    elif has_ended(task) and (_time(task.end_time) - free_since).total_seconds() >= NOTICEABLE_S:
        yield clock.waited(free_since, _time(task.end_time))
    for image in task.image.images:
        yield _stored(image)
    for failure in task.image.failures:
        yield Row(
            at_s=None,
            mark="✗",
            colour="red",
            label="not made",
            detail=f"image {failure.index}",
            note=_why(failure.error),
        )
    yield _state(task, clock)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clock:
    start: datetime
    now: datetime

    def at_s(self, moment: datetime) -> float:
        # Times of one task may come from several machines, whose clocks differ a little.
        return max((moment - self.start).total_seconds(), 0.0)

    def waited(self, since: datetime, until: datetime) -> Row:
        waited = duration(max((until - since).total_seconds(), 0.0))
        return Row(at_s=self.at_s(since), mark="│", colour="dim", label="waited", detail=waited)


def _attempt(attempt: Attempt, clock: _Clock) -> Row:
    start = _time(attempt.start_time)
    end = _time(attempt.end_time) if attempt.HasField("end_time") else clock.now
    took = duration(max((end - start).total_seconds(), 0.0))
    outcome, colour = _OUTCOMES.get(attempt.outcome, ("running", "cyan"))
    took = f"for {took}" if outcome == "running" else f"after {took}"
    return Row(
        at_s=clock.at_s(start),
        mark="●",
        colour=colour,
        label=f"attempt {attempt.number}",
        detail=f"{outcome} {took} · {attempt.provider} on {attempt.worker}" + " · paid" * attempt.paid,
        note=_why(attempt.error) if attempt.HasField("error") else "",
    )


def _stored(image: Image) -> Row:
    return Row(
        at_s=None,
        mark="●",
        colour="green",
        label="stored",
        detail=f"image {image.index} · {measures(image)}"
        + (f" · seed {image.seed}" if image.HasField("seed") else ""),
    )


def _state(task: Task, clock: _Clock) -> Row:
    end = _time(task.end_time) if has_ended(task) else clock.now
    said = bool(task.attempts) and task.attempts[-1].error == task.error
    took = duration(clock.at_s(end))
    kept = ""
    if task.HasField("expire_time"):
        kept = f" · kept until {_time(task.expire_time).astimezone():%Y-%m-%d %H:%M}"
    return Row(
        at_s=clock.at_s(end),
        mark={TaskState.TASK_STATE_COMPLETED: "✓", TaskState.TASK_STATE_FAILED: "✗"}.get(task.state, "●"),
        colour=STATE_COLOURS.get(task.state, "default"),
        label=state_name(task),
        detail=(f"{took} in all" if has_ended(task) else f"for {took} so far") + kept,
        note=_why(task.error) if task.HasField("error") and not said else "",
    )


def measures(image: Image) -> str:
    """Pixels, format and size of a picture, as in "2048×2048 png · 3.1 MB"."""
    kind = image.mime_type.removeprefix("image/")
    return f"{image.width_px}×{image.height_px} {kind} · {size(image.size_bytes)}"


def duration(seconds: float) -> str:
    """A time span with the precision a person wants of it."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def size(count: int) -> str:
    """A number of bytes in decimal units."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.0f} kB" if count < 999_500 else f"{count / 1_000_000:.1f} MB"


def price(cost: Cost) -> str:
    """An amount of money, or "free"."""
    if cost.amount_micros == 0:
        return "free"
    digits = 2 if cost.amount_micros % 10_000 == 0 else 6
    return f"{cost.amount_micros / 1_000_000:.{digits}f} {cost.currency}"


def _why(error: TaskError) -> str:
    return f"{reason_name(error)}: {error.message}"


def _time(moment: Timestamp) -> datetime:
    return moment.ToDatetime(tzinfo=UTC)

"""What was promised, and whether it was kept: by three witnesses that know nothing of each other.

What the client was told (the ids it was given), what the store says (GetTask with every attempt), and what
the upstream billed. A task may be in doubt once for every kill that hit it and for every fault that was
scripted for it; everything else follows from that number and the task's max_paid_attempts. A kill hit a task
when its worker had an attempt under way that somebody else had to end. Rows spare tasks that may be bought
twice and were hit once: each of them must be completed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from task.v1 import attempt_pb2, error_reason_pb2, task_pb2

IN_DOUBT = attempt_pb2.ATTEMPT_OUTCOME_IN_DOUBT
MAYBE_PAID = (IN_DOUBT, attempt_pb2.ATTEMPT_OUTCOME_CANCELLED)
SUCCEEDED = attempt_pb2.ATTEMPT_OUTCOME_SUCCEEDED
COMPLETED = task_pb2.TASK_STATE_COMPLETED
FAILED = task_pb2.TASK_STATE_FAILED
CANCELLED = task_pb2.TASK_STATE_CANCELLED
OUTCOME_UNKNOWN = error_reason_pb2.ERROR_REASON_OUTCOME_UNKNOWN
WORKER_LOST = error_reason_pb2.ERROR_REASON_WORKER_LOST


@dataclass(slots=True)
class Promise:
    """A task that a client was given the id of."""

    task_id: str
    request_id: str
    prompt: str
    max_paid: int
    doubts: int = 0
    """Faults scripted for it that leave a call in doubt."""
    cancelled: bool = False
    """Its cancel was asked for and not refused: it ends CANCELLED, and is never bought again."""
    told_ms: int = 0
    asked_s: float = 0.0
    """When its client began to ask for it, on the client's clock."""
    seen_end: task_pb2.Task | None = None
    """As a client first saw it ended."""
    seen_end_s: float = 0.0
    """When that was, on the client's clock."""
    final: task_pb2.Task | None = None
    """As it stands at the end of all."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise, with what is known of it."""

    what: str
    about: str = ""

    def __str__(self) -> str:
        return f"{self.what} ({self.about})" if self.about else self.what


@dataclass(slots=True)
class Audit:
    """The count over one row's tasks."""

    tasks: int = 0
    lost: int = 0
    bought_twice: int = 0
    """Tasks that were bought more often than the rules allow."""
    bought_again: int = 0
    """Tasks that were bought again as the rules allow: after an attempt in doubt."""
    unknown: int = 0
    """Tasks that ended OUTCOME_UNKNOWN, as the rules allow."""
    hits: int = 0
    false_verdicts: int = 0
    """Attempts taken from a worker that was alive: too slow to give a sign of life."""
    slowest_s: float = 0.0
    violations: list[Violation] = field(default_factory=list)

    def add(self, other: Audit) -> None:
        """Count another audit in."""
        self.tasks += other.tasks
        self.lost += other.lost
        self.bought_twice += other.bought_twice
        self.bought_again += other.bought_again
        self.unknown += other.unknown
        self.hits += other.hits
        self.false_verdicts += other.false_verdicts
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.violations += other.violations


def audit(
    promises: Iterable[Promise],
    *,
    billed: Mapping[str, int],
    killed: Mapping[str, int],
    recovery_s: float,
    never_in_doubt: bool = False,
    slow_machine: bool = False,
) -> Audit:
    """Hold every promise against store and bill.

    `killed`: when each worker that was killed, or stopped past its lease, was so, in ms by its id.

    `never_in_doubt`: nothing happened to any worker, so a single call must have been enough for every task.

    `slow_machine`: others use it as well, so a worker that lives may be too slow to give a sign of life in
    time; its tasks then count as hit. Elsewhere such a verdict is a violation.
    """
    result = Audit()
    ids: Counter[str] = Counter()
    for promise in promises:
        result.tasks += 1
        ids[promise.task_id] += 1
        _one(
            result,
            promise,
            billed[promise.prompt],
            killed,
            recovery_s,
            excuse_slow=slow_machine and not never_in_doubt,
        )
    result.violations += [
        Violation("two request ids were given the same task", i) for i, n in ids.items() if n > 1
    ]
    return result


def _one(
    result: Audit,
    promise: Promise,
    billed: int,
    killed: Mapping[str, int],
    recovery_s: float,
    *,
    excuse_slow: bool,
) -> None:
    task = promise.final
    hits = [] if task is None else _hits(task, killed)

    def broken(what: str) -> None:
        result.violations.append(Violation(what, explain(promise, billed, len(hits))))

    if task is None:
        result.lost += 1
        broken("an acknowledged task cannot be found")
        return
    result.hits += len(hits)
    false = _false_verdicts(task, killed)
    result.false_verdicts += false
    if false and not excuse_slow:
        broken("an attempt was taken from a worker that lived")
    excused = promise.doubts + (false if excuse_slow else 0)
    doubts = excused + len(hits)
    allowed = 1 if promise.cancelled else min(promise.max_paid, 1 + doubts)
    if billed > allowed:
        result.bought_twice += 1
        broken(f"bought {billed} times where {allowed} is the most")
    elif billed > 1:
        result.bought_again += 1
    if billed > 1 + sum(attempt.outcome == IN_DOUBT for attempt in task.attempts):
        broken("bought again without a recorded attempt in doubt")
    if billed > sum(attempt.paid or attempt.outcome in MAYBE_PAID for attempt in task.attempts):
        broken("billed for calls that the store has no record of")
    if task.state not in (COMPLETED, FAILED, CANCELLED):
        result.lost += 1
        broken("it has not ended")
        return
    if promise.seen_end is not None and not same(promise.seen_end, task):
        broken(f"it changed after its end (revision {promise.seen_end.revision} before)")
    if promise.cancelled or task.state == CANCELLED:
        if task.state != CANCELLED:
            broken("it was cancelled and ended otherwise")
        elif not promise.cancelled:
            broken("nobody had it cancelled")
    elif task.state == COMPLETED:
        if len(task.image.images) != 1 or not task.image.images[0].sha256:
            broken("it is completed without its picture")
        if sum(attempt.outcome == SUCCEEDED for attempt in task.attempts) > 1:
            broken("it succeeded more than once")
        if not billed:
            broken("it has a picture that was never bought")
    elif task.error.reason == OUTCOME_UNKNOWN and doubts >= promise.max_paid:
        result.unknown += 1
        if promise.max_paid > 1 and excused < promise.max_paid:
            broken("it might have been bought once more, and was not completed")
    else:
        result.lost += 1
        broken("it failed though no rule lets it")
    for attempt in hits:
        took_s = (_went_on_ms(task, attempt) - killed[attempt.worker]) / 1000
        result.slowest_s = max(result.slowest_s, took_s)
        if took_s > recovery_s:
            broken(f"recovery took {took_s:.1f} s, bound {recovery_s:g} s")


def _hits(task: task_pb2.Task, killed: Mapping[str, int]) -> list[attempt_pb2.Attempt]:
    """The attempts that a kill interrupted: they had no end then."""
    return [
        attempt
        for attempt in task.attempts
        if attempt.worker in killed
        and (not attempt.HasField("end_time") or attempt.end_time.ToMilliseconds() > killed[attempt.worker])
    ]


def _false_verdicts(task: task_pb2.Task, killed: Collection[str]) -> int:
    return sum(
        attempt.error.reason == WORKER_LOST and attempt.worker not in killed for attempt in task.attempts
    )


def _went_on_ms(task: task_pb2.Task, hit: attempt_pb2.Attempt) -> int:
    """When the next attempt began, or the task ended without one."""
    for attempt in task.attempts:
        if attempt.number == hit.number + 1:
            return attempt.start_time.ToMilliseconds()
    return task.end_time.ToMilliseconds()


def same(one: task_pb2.Task, other: task_pb2.Task) -> bool:
    """Whether the task is the same at two readings, each of which made links of its own."""
    return _without_links(one) == _without_links(other)


def _without_links(task: task_pb2.Task) -> task_pb2.Task:
    copy = task_pb2.Task()
    copy.CopyFrom(task)
    for image in copy.image.images:
        image.url = image.url.partition("?")[0]
        image.ClearField("url_expire_time")
    return copy


def open_attempt(task: task_pb2.Task, workers: Collection[str]) -> int | None:
    """The number of the attempt that one of these workers has under way; None: they have none."""
    if task.state == task_pb2.TASK_STATE_PROCESSING and task.attempts:
        last = task.attempts[-1]
        if last.worker in workers and not last.HasField("end_time"):
            return last.number
    return None


def explain(promise: Promise, billed: int, hits: int) -> str:
    """One line that says all about a task."""
    parts = [f"task {promise.task_id}", f"billed {billed}", f"max_paid_attempts {promise.max_paid}"]
    parts.append(f"hit {hits} times" + (f", {promise.doubts} scripted" if promise.doubts else ""))
    task = promise.final
    if task is not None:
        state = task_pb2.TaskState.Name(task.state).removeprefix("TASK_STATE_")
        reason = error_reason_pb2.ErrorReason.Name(task.error.reason).removeprefix("ERROR_REASON_")
        parts.append(state + (f" / {reason}" if task.state == FAILED else ""))
        parts.append("attempts: " + (", ".join(map(_attempt, task.attempts)) or "none"))
    return "; ".join(parts)


def _attempt(attempt: attempt_pb2.Attempt) -> str:
    outcome = attempt_pb2.AttemptOutcome.Name(attempt.outcome).removeprefix("ATTEMPT_OUTCOME_")
    started = attempt.start_time.ToMilliseconds()
    ended = (
        f"{(attempt.end_time.ToMilliseconds() - started) / 1000:.2f} s"
        if attempt.end_time.seconds
        else "open"
    )
    why = error_reason_pb2.ErrorReason.Name(attempt.error.reason).removeprefix("ERROR_REASON_")
    told = f" {why}" if attempt.error.reason else ""
    return f"{attempt.number} by {attempt.worker} at {started / 1000 % 10000:.2f} {outcome}{told} {ended}"


def wall_ms() -> int:
    """The time of day, as tasks are stamped with it."""
    return round(time.time() * 1000)

"""What holds for every write: it expects a state and an attempt, and nothing else can pass it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from server.domain import attempt_writes, life, verdicts, writes
from server.domain.task import Task, TaskState
from server.domain.writes import Write, with_images
from tests.unit.domain.record import Record
from tests.unit.domain.tasks import NOW_MS, error, image, pending, running, sequence
from tests.unit.domain.writes import LATER_MS, fail, mark, retry

WAITING: dict[str, Callable[[Task], Write]] = {
    "expire": lambda t: life.expire(t, LATER_MS),
    "cancel": lambda t: life.cancel_pending(t, LATER_MS),
    "mark": mark,
    "end": lambda t: life.end_waiting(t, error(), LATER_MS),
}
RUNNING: dict[str, Callable[[Task], Write]] = {
    "take over": mark,
    "end lost": lambda t: life.end_lost(t, error(), LATER_MS),
    "cancel lost": lambda t: life.cancel_lost(t, LATER_MS),
    "add receipt": lambda t: attempt_writes.add_receipt(t, 0, "what it made", LATER_MS),
    "add early receipt": lambda t: attempt_writes.add_receipt(t, 0, "what it made", LATER_MS, so_far=(0,)),
    "add image": lambda t: attempt_writes.add_image(t, image(), LATER_MS),
    "add failure": lambda t: attempt_writes.add_failure(t, 0, error(), LATER_MS),
    "complete": lambda t: attempt_writes.complete(t, LATER_MS),
    "complete with": lambda t: with_images(attempt_writes.complete(t, LATER_MS), [image()]),
    "fail": fail,
    "cancel": lambda t: attempt_writes.cancel_running(t, LATER_MS),
    "retry": retry,
    "retry without call": lambda t: attempt_writes.without_call(retry(t), t),
    "wait": lambda t: attempt_writes.without_attempt(retry(t), t),
    "retry with images": lambda t: writes.with_images(retry(t), [image()]),
    "drain": lambda t: verdicts.after_drain(t, LATER_MS),
}
ALL = [pytest.param(pending(), step, id=f"waiting-{name}") for name, step in WAITING.items()] + [
    pytest.param(running(), step, id=f"running-{name}") for name, step in RUNNING.items()
]


@pytest.mark.parametrize(("task", "step"), ALL)
def test_a_write_expects_the_state_and_the_attempt_it_was_made_from(
    task: Task, step: Callable[[Task], Write]
) -> None:
    write = step(task)
    assert (write.task_id, write.state, write.attempt) == (task.id, task.state, task.attempt)


@pytest.mark.parametrize(("task", "step"), ALL)
def test_the_token_goes_to_the_attempt_that_is_current_afterwards(
    task: Task, step: Callable[[Task], Write]
) -> None:
    write = step(task)
    record = Record(task)
    assert record.write(write, writer="mine")
    assert record.document["tokens"][str(record.task.attempt)] == "mine"
    assert write.token_slot == record.task.attempt


FIRST = ("add receipt", "add early receipt", "add image", "add failure")
THEN = (*FIRST, "complete with", "fail", "cancel", "retry", "retry without call", "wait", "drain")


@pytest.mark.parametrize("then", THEN)
@pytest.mark.parametrize("first", FIRST)
def test_merged_writes_do_what_both_do_one_after_the_other(first: str, then: str) -> None:
    task = running(sequence(3))
    apart, together = Record(task), Record(task)
    one, other = RUNNING[first](task), RUNNING[then](task)
    apart.after(one)
    apart.after(other)
    merged = writes.merged(one, other)
    together.after(merged)
    together.document["revision"] += 1
    assert together.document == apart.document
    paths = [*merged.set, *merged.unset]
    for path in paths:
        within = [other for other in paths if other.startswith(f"{path}.")]
        assert not within, "MongoDB refuses a path and another within it"
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize(("task", "step"), ALL)
def test_a_write_raises_the_revision_and_the_time(task: Task, step: Callable[[Task], Write]) -> None:
    after = Record(task).after(step(task))
    assert after.revision == task.revision + 1
    assert after.update_time_ms == LATER_MS


@pytest.mark.parametrize(("task", "step"), ALL)
def test_an_end_has_a_time_and_only_an_end(task: Task, step: Callable[[Task], Write]) -> None:
    after = Record(task).after(step(task))
    assert after.end_time_ms == (LATER_MS if after.state.terminal else 0)


@pytest.mark.parametrize(("task", "step"), ALL)
@pytest.mark.parametrize("end", [TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED])
def test_a_terminal_task_never_changes(task: Task, step: Callable[[Task], Write], end: TaskState) -> None:
    """Whatever a worker knew before the end: its write is refused, and the document stays as it is."""
    record = Record(replace(task, state=end, end_time_ms=NOW_MS))
    before = repr(record.document)
    assert not record.write(step(task))
    assert repr(record.document) == before


@pytest.mark.parametrize("step", RUNNING.values(), ids=RUNNING)
def test_an_overtaken_worker_changes_nothing(step: Callable[[Task], Write]) -> None:
    mine = running()
    record = Record(mine)
    record.after(mark(mine))
    before = repr(record.document)
    assert not record.write(step(mine))
    assert repr(record.document) == before

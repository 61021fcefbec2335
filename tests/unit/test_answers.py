"""A task's message is made once for as long as the task stays as it is, and never shows what it was."""

from __future__ import annotations

from itertools import count

import pytest
from msgspec.structs import replace

from server.api import answers, convert
from server.api.answers import Answers
from server.domain.errors import Reason, TaskError
from server.domain.task import TaskState
from server.links import Link
from tests.contract.samples import full_task, new_image, new_task


def minting() -> convert.Mint:
    """Links that differ each time."""
    numbers = count(1)
    return lambda key: Link(url=f"http://host/{key}?{next(numbers)}", expire_time_ms=1_900_000_000_000)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the tasks that messages were made of, as it happens."""
    ids: list[str] = []
    convert_task = convert.task

    def noted(*arguments: object, **options: object) -> object:
        message = convert_task(*arguments, **options)  # type: ignore[arg-type]
        ids.append(message.task_id)
        return message

    monkeypatch.setattr(convert, "task", noted)
    return ids


def test_a_task_that_was_read_again_and_is_the_same_is_made_once(made: list[str]) -> None:
    given, task = Answers(minting()), new_task()
    first = given.of(task)
    assert given.of(replace(task)) == first
    assert made == [task.id]
    assert first == convert.task(task, minting())


@pytest.mark.parametrize(
    "changes",
    [
        {"state": TaskState.PROCESSING, "start_time_ms": 1_800_000_000_001},
        {"labels": {"team": "growth"}},
        {"cancel_requested": True},
        {"attempts": full_task().attempts},
        {"error": TaskError(reason=Reason.TASK_EXPIRED, message="too late"), "state": TaskState.FAILED},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_whatever_changes_is_seen_although_the_revision_were_the_same(changes: dict[str, object]) -> None:
    given, task = Answers(minting()), new_task()
    before = given.of(task)
    changed = replace(task, **changes)
    assert given.of(changed) == convert.task(changed, minting()) != before
    assert given.of(task) == before


def test_views_are_told_apart() -> None:
    given, task = Answers(minting()), replace(full_task(), images={})
    for _ in range(2):
        assert given.of(task).attempts
        assert not given.of(task, attempts=False).attempts


def test_links_to_images_are_new_each_time() -> None:
    given, task = Answers(minting()), replace(new_task(), state=TaskState.COMPLETED, images={0: new_image()})
    urls = {given.of(task).image.images[0].url for _ in range(3)}
    assert len(urls) == 3


def test_a_remembered_task_that_gains_an_image_shows_it_with_new_links_each_time() -> None:
    given, task = Answers(minting()), new_task()
    assert not given.of(task).HasField("image")
    done = replace(task, state=TaskState.COMPLETED, images={0: new_image()})
    urls = {given.of(done).image.images[0].url for _ in range(2)}
    assert len(urls) == 2


def test_only_so_many_are_remembered_and_those_asked_for_last_stay(
    made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MOST", 2)
    given = Answers(minting())
    a, b, c = new_task(), new_task(), new_task()
    for task in (a, b, a, c, a, b):
        given.of(task)
    assert made == [a.id, b.id, c.id, b.id]

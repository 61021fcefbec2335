"""What every task store promises about writes: all of it or nothing, and an honest answer."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from server.domain import attempt_writes, life
from server.domain.task import AttemptOutcome, TaskState
from server.domain.writes import Write, with_images
from server.ports import TaskStore
from tests.contract.samples import NOW_MS, full_task, new_error, new_image, new_task
from tests.contract.steps import either_way, found, kept, running

pytestmark = either_way


async def test_a_write_changes_what_it_names_and_raises_the_revision_by_one(store: TaskStore) -> None:
    task = await kept(store, full_task())
    image, error = new_image(3), new_error("Another.")
    write = Write(
        task_id=task.id,
        state=TaskState.PROCESSING,
        attempt=11,
        token_slot=11,
        set={
            "state": "PENDING",
            "owner": "w-3",
            "cancel_requested": False,
            "error": None,
            "images.3": image,
            "failures.0": error,
            "attempts.1.calls.10.paid": True,
            "attempts.11.end_time_ms": 2**41,
        },
        unset=("not_before_ms", "attempts.1.error", "images.2"),
    )
    assert await store.write(write)
    assert await found(store, task.id) == replace(
        task,
        state=TaskState.PENDING,
        owner="w-3",
        cancel_requested=False,
        error=None,
        not_before_ms=0,
        images={3: image, 10: task.images[10]},
        failures={0: error, 1: task.failures[1]},
        attempts={
            1: replace(
                task.attempts[1],
                error=None,
                calls={
                    **task.attempts[1].calls,
                    10: replace(task.attempts[1].calls[10], paid=True),
                },
            ),
            11: replace(task.attempts[11], end_time_ms=2**41),
        },
        revision=task.revision + 1,
    )
    cancel = life.cancel_pending(await found(store, task.id), NOW_MS)
    assert await store.write(cancel), "the next write is conditional on the new state"


async def test_a_write_that_names_a_revision_is_refused_when_anything_was_written_since(
    store: TaskStore,
) -> None:
    task = await running(store)
    one = replace(attempt_writes.add_image(task, new_image(0), NOW_MS), revision=task.revision)
    two = replace(attempt_writes.add_image(task, new_image(1), NOW_MS), revision=task.revision)
    assert sorted(await asyncio.gather(store.write(one), store.write(two))) == [False, True]
    assert not await store.write(replace(one)), "a copy"
    after = await found(store, task.id)
    assert (len(after.images), after.revision) == (1, task.revision + 1)
    assert await store.write(replace(two, revision=after.revision))
    assert not await store.write(replace(two, revision=after.revision + 7))


async def test_a_write_may_change_very_many_places(store: TaskStore) -> None:
    task = await running(store)
    images = {n: new_image(n) for n in range(130)}
    assert await store.write(with_images(attempt_writes.complete(task, NOW_MS), list(images.values())))
    ended = await found(store, task.id)
    assert (ended.images, ended.state, ended.revision) == (images, TaskState.COMPLETED, task.revision + 1)


async def test_text_of_any_kind_can_be_written(store: TaskStore) -> None:
    task = await kept(store, new_task())
    text = "'\"\\ \n\r\t\0 $ . {} [] %s ? :a \u2028 🎨 <>&"
    assert await store.write(replace(life.cancel_pending(task, NOW_MS), set={"owner": text}))
    assert (await found(store, task.id)).owner == text


@pytest.mark.parametrize(
    "mismatch", [{"state": TaskState.PENDING}, {"attempt": 0}, {"attempt": 2}, {"task_id": "no"}]
)
async def test_a_write_whose_condition_does_not_hold_changes_nothing(
    store: TaskStore, mismatch: dict[str, object]
) -> None:
    task = await running(store)
    write = replace(attempt_writes.complete(task, NOW_MS), **mismatch)
    assert not await store.write(write)
    assert await store.get(task.id) == task
    assert await store.get("no") is None


async def test_no_write_can_expect_a_terminal_state(store: TaskStore) -> None:
    """A caller that overlooks that a task is over changes nothing."""
    task = await kept(store, new_task())
    assert await store.write(life.cancel_pending(task, NOW_MS))
    over = await found(store, task.id)
    assert not await store.write(life.expire(over, NOW_MS))
    assert await store.get(task.id) == over


async def test_the_condition_follows_state_and_attempt(store: TaskStore) -> None:
    task = await running(store)
    again = attempt_writes.retry(
        task, new_error(), NOW_MS, outcome=AttemptOutcome.NOT_SENT, delay_ms=0, counts=task.counts
    )
    assert await store.write(again)
    assert not await store.write(again)
    task = await found(store, task.id)
    write, _ = life.mark(task, worker="w-2", provider="local", paid=False, now_ms=NOW_MS)
    assert await store.write(write)
    assert not await store.write(write)
    assert (await found(store, task.id)).attempt == 2


async def test_of_writes_in_one_batch_each_learns_whether_it_was_its_own(store: TaskStore) -> None:
    """Winners, losers and strangers at one moment, over one connection: nobody may get another's answer."""
    good = [await running(store) for _ in range(10)]
    ended = [await running(store) for _ in range(10)]
    for task in ended:
        assert await store.write(attempt_writes.complete(task, NOW_MS))
    writes = [
        attempt_writes.complete(task, NOW_MS + 2) for pair in zip(good, ended, strict=True) for task in pair
    ]
    writes.append(attempt_writes.complete(new_task(attempt=1, attempts=good[0].attempts), NOW_MS))
    assert await asyncio.gather(*map(store.write, writes)) == [True, False] * 10 + [False]


async def test_of_rivals_in_one_batch_one_wins(store: TaskStore) -> None:
    for _ in range(10):
        task = await kept(store, new_task())
        marks = [
            life.mark(task, worker=f"w-{n}", provider="local", paid=False, now_ms=NOW_MS)[0]
            for n in range(20)
        ]
        won = await asyncio.gather(*map(store.write, marks))
        assert sum(won) == 1
        assert (await found(store, task.id)).owner == f"w-{won.index(True)}"
        assert (await found(store, task.id)).revision == task.revision + 1


async def test_writes_that_do_not_exclude_each_other_all_take_place(store: TaskStore) -> None:
    """A worker stores the images of a sequence as they come, several at one moment."""
    task = await running(store)
    writes = [attempt_writes.add_image(task, new_image(n), NOW_MS + n) for n in range(15)]
    assert await asyncio.gather(*map(store.write, writes)) == [True] * 15
    task_now = await found(store, task.id)
    assert task_now.images == {n: new_image(n) for n in range(15)}
    assert task_now.revision == task.revision + 15


async def test_a_write_and_a_rival_that_it_shuts_out_in_one_batch(store: TaskStore) -> None:
    task = await running(store)
    writes = [
        attempt_writes.add_image(task, new_image(), NOW_MS),
        attempt_writes.complete(task, NOW_MS),
        attempt_writes.fail(task, new_error(), NOW_MS, outcome=AttemptOutcome.REJECTED),
    ]
    _, completed, failed = await asyncio.gather(*map(store.write, writes))
    ended = await found(store, task.id)
    assert [completed, failed].count(True) == 1
    assert ended.state is (TaskState.COMPLETED if completed else TaskState.FAILED)

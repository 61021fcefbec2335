"""A document read lately is written back whole: to the same effect, and never over another's write."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from server.domain import attempt_writes, life
from server.domain.errors import StoreUnavailable
from server.domain.task import Task
from server.domain.writes import Write
from server.store.batching import unavailable
from server.store.documents import Change, encode_task, encode_write, new_token
from server.store.sqlite import SqliteTaskStore
from server.store.sqlite_access import FileAccess
from server.store.sqlite_readings import MOST, Readings
from server.store.sqlite_statements import to_json, update
from tests.contract.every_write import every_kind_of_write
from tests.contract.samples import NOW_MS, full_task, new_id, new_image
from tests.contract.steps import found, kept, running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteTaskStore]:
    store = await SqliteTaskStore.open(path)
    yield store
    await store.aclose()


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks whose documents were changed in place, as it happens."""
    changed: list[str] = []

    def noted(change: Change) -> tuple[str, list[object]]:
        changed.append(change.task_id)
        return update(change)

    monkeypatch.setattr("server.store.sqlite.update", noted)
    return changed


@pytest.mark.parametrize(("task", "write"), every_kind_of_write())
async def test_a_document_is_the_same_whichever_way_it_was_changed(
    store: SqliteTaskStore, path: Path, in_place: list[str], task: Task, write: Write
) -> None:
    read, unread = replace(task, id=new_id()), replace(task, id=new_id())
    for one in (read, unread):
        await kept(store, one)
    await found(store, read.id)
    for one in (read, unread):
        assert await store.write(replace(write, task_id=one.id))
    assert in_place == [unread.id]
    assert _row(path, read.id) == _row(path, unread.id)
    assert await found(store, read.id) == replace(await found(store, unread.id), id=read.id)


async def test_write_upon_write_goes_the_short_way(store: SqliteTaskStore, in_place: list[str]) -> None:
    task = await kept(store, full_task())
    task = await found(store, task.id)
    for index in (4, 5, 6):
        assert await store.write(attempt_writes.add_image(task, new_image(index), NOW_MS))
    assert in_place == []
    after = await found(store, task.id)
    assert (sorted(after.images), after.revision) == ([2, 4, 5, 6, 10], task.revision + 3)


async def test_what_another_process_has_written_since_the_reading_stays(
    store: SqliteTaskStore, path: Path, in_place: list[str]
) -> None:
    task = await running(store)
    other = await SqliteTaskStore.open(path)
    assert await other.write(life.request_cancel(task, NOW_MS))
    await other.aclose()
    in_place.clear()
    assert await store.write(attempt_writes.add_image(task, new_image(0), NOW_MS))
    assert in_place == [task.id]
    after = await found(store, task.id)
    assert (after.cancel_requested, list(after.images), after.revision) == (True, [0], task.revision + 2)


async def test_a_write_on_a_revision_that_another_process_has_passed_is_refused(
    store: SqliteTaskStore, path: Path
) -> None:
    task = await running(store)
    other = await SqliteTaskStore.open(path)
    assert await other.write(life.request_cancel(task, NOW_MS))
    await other.aclose()
    write = replace(attempt_writes.add_image(task, new_image(0), NOW_MS), revision=task.revision)
    assert not await store.write(write)
    assert (await found(store, task.id)).images == {}


async def test_a_task_that_another_process_has_ended_stays_ended(store: SqliteTaskStore, path: Path) -> None:
    task = await running(store)
    other = await SqliteTaskStore.open(path)
    assert await other.write(attempt_writes.complete(task, NOW_MS))
    await other.aclose()
    assert not await store.write(attempt_writes.cancel_running(task, NOW_MS))
    assert (await found(store, task.id)).state == "COMPLETED"


async def test_a_document_is_swapped_by_the_thread_that_waits_for_a_lock(
    store: SqliteTaskStore, path: Path, in_place: list[str]
) -> None:
    task = await running(store)
    in_place.clear()
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(store.write(attempt_writes.add_image(task, new_image(0), NOW_MS)))
        await asyncio.sleep(0)
        holder.execute("COMMIT")
    assert await writing
    assert await store.write(attempt_writes.add_image(task, new_image(1), NOW_MS))
    assert in_place == []
    assert list((await found(store, task.id)).images) == [0, 1]


async def test_after_a_write_of_unknown_end_the_store_is_asked(
    store: SqliteTaskStore, path: Path, in_place: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took place, and its answer was lost: the same once more is refused, as it would be in place."""
    task = await running(store)
    write = replace(attempt_writes.add_image(task, new_image(0), NOW_MS), revision=task.revision)
    transact = FileAccess.transact

    async def lost(*arguments: Any) -> Any:
        await transact(*arguments)
        raise unavailable()

    with monkeypatch.context() as patched:
        patched.setattr(FileAccess, "transact", lost)
        with pytest.raises(StoreUnavailable):
            await store.write(write)
    in_place.clear()
    assert not await store.write(write)
    assert in_place == [task.id]
    assert list((await found(store, task.id)).images) == [0]


async def test_a_batch_that_one_write_spoils_is_done_one_by_one(
    store: SqliteTaskStore, path: Path, in_place: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were read lately and those that were not, each way once more."""
    tasks = [await running(store) for _ in range(4)]
    writes = [attempt_writes.add_image(task, new_image(0), NOW_MS) for task in tasks]
    other = await SqliteTaskStore.open(path)
    for task in tasks[:2]:
        await found(other, task.id)
    transactions: list[object] = []
    transact = FileAccess.transact

    async def noted(self: FileAccess, body: Any, timeout_s: float) -> Any:
        transactions.append(body)
        return await transact(self, body, timeout_s)

    def spoiled(change: Change) -> tuple[str, list[object]]:
        if change.task_id == tasks[2].id:
            return "UPDATE nothing SET at = ?", ["all"]
        in_place.append(change.task_id)
        return update(change)

    monkeypatch.setattr(FileAccess, "transact", noted)
    monkeypatch.setattr("server.store.sqlite.update", spoiled)
    in_place.clear()
    results = await asyncio.gather(*map(other.write, writes), return_exceptions=True)
    assert [results[n] for n in (0, 1, 3)] == [True] * 3
    assert isinstance(results[2], sqlite3.OperationalError)
    assert len(transactions) == 1 + len(tasks), "all together, then each by itself"
    assert in_place == [tasks[3].id]
    assert [len((await found(store, task.id)).images) for task in tasks] == [1, 1, 0, 1]
    await other.aclose()


async def test_tasks_that_are_read_together_go_the_short_way(
    store: SqliteTaskStore, path: Path, in_place: list[str]
) -> None:
    tasks = [await running(store) for _ in range(3)]
    other = await SqliteTaskStore.open(path)
    assert len(await other.get_many([task.id for task in tasks])) == 3
    in_place.clear()
    writes = [attempt_writes.add_image(task, new_image(0), NOW_MS) for task in tasks]
    assert await asyncio.gather(*map(other.write, writes)) == [True] * 3
    assert in_place == []
    await other.aclose()


async def test_two_writes_at_one_moment_both_take_place(store: SqliteTaskStore, in_place: list[str]) -> None:
    task = await running(store)
    in_place.clear()
    writes = [attempt_writes.add_image(task, new_image(index), NOW_MS) for index in range(3)]
    assert await asyncio.gather(*map(store.write, writes[:2])) == [True] * 2
    assert in_place == [task.id], "the second: its document was handed out"
    assert await store.write(writes[2])
    after = await found(store, task.id)
    assert (sorted(after.images), after.revision) == ([0, 1, 2], task.revision + 3)


def test_only_so_many_are_kept_and_those_that_were_read_first_go_first() -> None:
    readings, tasks = Readings(), [replace(full_task(), id=new_id()) for _ in range(MOST + 1)]
    for task in tasks:
        readings.read(task.id, _text(task))
    assert readings.rewrite(_image(tasks[0])) is None
    assert readings.rewrite(_image(tasks[1])) is not None
    assert readings.rewrite(_image(tasks[MOST])) is not None


def test_those_that_are_read_again_go_last() -> None:
    readings, tasks = Readings(), [replace(full_task(), id=new_id()) for _ in range(MOST + 1)]
    texts = {task.id: _text(task) for task in tasks}
    for task in (*tasks[:MOST], tasks[0], tasks[MOST]):
        readings.read(task.id, texts[task.id])
    assert readings.rewrite(_image(tasks[1])) is None
    assert readings.rewrite(_image(tasks[0])) is not None


async def test_what_nobody_has_written_since_is_the_same_task(store: SqliteTaskStore, path: Path) -> None:
    task = await running(store)
    before = await found(store, task.id)
    assert await found(store, task.id) is before
    assert await store.write(attempt_writes.add_image(task, new_image(0), NOW_MS))
    mine = await found(store, task.id)
    other = await SqliteTaskStore.open(path)
    assert await found(other, task.id) == mine
    assert await other.write(life.request_cancel(task, NOW_MS))
    theirs = await found(store, task.id)
    assert await found(other, task.id) == theirs
    await other.aclose()
    assert [list(before.images), list(mine.images), list(theirs.images)] == [[], [0], [0]]
    assert [before.cancel_requested, mine.cancel_requested, theirs.cancel_requested] == [False, False, True]


def test_a_task_that_is_over_is_not_kept() -> None:
    readings, task = Readings(), full_task()
    readings.read(task.id, _text(task))
    ended = readings.rewrite(encode_write(attempt_writes.complete(task, NOW_MS), token=new_token()))
    assert ended is not None
    readings.written(ended)
    assert readings.rewrite(_image(task)) is None
    readings.read(task.id, ended.text)
    assert readings.rewrite(_image(task)) is None


def test_a_document_is_handed_out_once() -> None:
    """It was changed in memory: whether the store took the change is not known yet."""
    readings, task = Readings(), full_task()
    readings.read(task.id, _text(task))
    assert readings.rewrite(_image(task)) is not None
    assert readings.rewrite(_image(task)) is None


def _text(task: Task) -> str:
    return to_json(encode_task(task, token=new_token()))


def _image(task: Task) -> Change:
    return encode_write(attempt_writes.add_image(task, new_image(0), NOW_MS), token=new_token())


def _row(path: Path, task_id: str) -> tuple[str, int, dict[str, Any]]:
    """The row as it is stored, without what no two tasks have in common."""
    with closing(sqlite3.connect(path)) as db:
        state, attempt, text = db.execute(
            "SELECT state, attempt, doc FROM tasks WHERE id = ?", (task_id,)
        ).fetchone()
    document = json.loads(text)
    del document["_id"]
    document["tokens"] = sorted(document["tokens"])
    return state, attempt, document

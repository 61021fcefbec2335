"""A SQLite file of an older version is brought up to date when it is opened, and keeps what it holds."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from server.ports import RequestIdRow, WorkerRow
from server.store.sqlite import SqliteTaskStore
from server.store.sqlite_file import APPLICATION_ID, SCHEMA_VERSION
from tests.contract.samples import new_task
from tests.contract.steps import kept

VERSION_1 = (
    """CREATE TABLE tasks (
        id TEXT NOT NULL PRIMARY KEY,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        doc TEXT NOT NULL
    )""",
    "CREATE INDEX live_tasks ON tasks (id) WHERE state IN ('PENDING', 'PROCESSING')",
    """CREATE TABLE request_ids (
        key TEXT NOT NULL PRIMARY KEY,
        task_id TEXT NOT NULL,
        fingerprint TEXT NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE workers (
        id TEXT NOT NULL PRIMARY KEY,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        beat INTEGER NOT NULL,
        lost INTEGER NOT NULL
    ) WITHOUT ROWID""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    "PRAGMA user_version = 1",
)
VERSION_2 = (
    *VERSION_1,
    "ALTER TABLE workers ADD COLUMN slots INTEGER NOT NULL DEFAULT 0",
    "PRAGMA user_version = 2",
)
ROW = RequestIdRow(task_id="t", fingerprint="f")


def facts(path: Path) -> tuple[int, list[tuple[object, ...]]]:
    """The version of the file, and the columns of its table of workers."""
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return version, connection.execute("PRAGMA table_info(workers)").fetchall()


@pytest.fixture(params=[VERSION_1, VERSION_2], ids=["version 1", "version 2"])
def old_file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file of an older version with two workers, one of them lost."""
    path = tmp_path / "tasks.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in request.param:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO workers (id, host, pid, beat, lost) VALUES ('a', 'h', 1, 7, 0), ('b', 'h', 2, 3, 1)"
        )
        connection.execute("INSERT INTO request_ids VALUES ('key', 't', 'f')")
    return path


async def test_a_file_of_an_older_version_is_opened_and_keeps_what_it_holds(old_file: Path) -> None:
    store = await SqliteTaskStore.open(old_file)
    assert facts(old_file)[0] == SCHEMA_VERSION
    assert await store.find_request_id("key") == ROW
    await kept(store, new_task())
    assert await store.beat("a")
    await store.register_worker("c", host="h", pid=3, slots=10, lease_ms=15_000)
    assert await store.workers() == [
        WorkerRow(id="a", beat=8, lost=False, slots=0),
        WorkerRow(id="b", beat=3, lost=True, slots=0),
        WorkerRow(id="c", beat=0, lost=False, slots=10, lease_ms=15_000),
    ]
    await store.aclose()
    again = await SqliteTaskStore.open(old_file)
    assert len(await again.workers()) == 3
    await again.aclose()


async def test_an_old_file_and_a_new_one_end_up_the_same(old_file: Path, tmp_path: Path) -> None:
    new_file = tmp_path / "new.db"
    for path in (old_file, new_file):
        await (await SqliteTaskStore.open(path)).aclose()
    assert facts(old_file) == facts(new_file)


async def test_many_open_an_old_file_at_once(old_file: Path) -> None:
    stores = await asyncio.gather(*(SqliteTaskStore.open(old_file) for _ in range(6)))
    assert facts(old_file)[0] == SCHEMA_VERSION
    for store in stores:
        assert [(row.slots, row.lease_ms) for row in await store.workers()] == [(0, 0), (0, 0)]
        await store.aclose()

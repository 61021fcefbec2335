"""The SQLite file itself: whose it is, who may open it, and what a disk that fails looks like."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from server.domain.errors import StoreUnavailable
from server.store import connect
from server.store.sqlite import SqliteTaskStore
from server.store.sqlite_access import _fold
from server.store.sqlite_file import (
    APPLICATION_ID,
    CHECKPOINT_CHANGES,
    SCHEMA_VERSION,
    IncompatibleStore,
)
from tests.contract.race import ROOT
from tests.contract.samples import new_task
from tests.contract.steps import found, kept

BEYOND_A_FILE_SIZE_LIMIT = """
import asyncio, resource, sys
from server.domain.errors import StoreUnavailable
from server.store import connect
from tests.contract.samples import new_task

async def main():
    store = await connect.open_store(sys.argv[1])
    first = new_task()
    assert await store.insert(first)
    limit, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    kept = []
    try:
        while True:
            task = new_task()
            assert await store.insert(task)
            kept.append(task.id)
    except StoreUnavailable as error:
        print(error.message)
    try:
        while True:
            await store.ping()
    except StoreUnavailable:
        pass
    assert await store.get(first.id) == first, "what is there can still be read"
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    await store.ping()
    assert await store.insert(task), "the refused one was not kept"
    assert set(await store.revisions(kept)) == set(kept)
    await store.aclose()

asyncio.run(main())
"""


def execute(path: Path, *statements: str) -> None:
    """Change the file behind the store's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def pragma(path: Path, name: str) -> object:
    """What the file says of itself."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


async def test_a_new_file_is_marked_as_ours_and_in_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "below" / "tasks.db"
    store = await SqliteTaskStore.open(path)
    await kept(store, new_task())
    await store.aclose()
    assert pragma(path, "journal_mode") == "wal"
    assert pragma(path, "application_id") == APPLICATION_ID
    assert pragma(path, "user_version") == SCHEMA_VERSION
    assert sorted(p.name for p in path.parent.iterdir()) == ["tasks.db"], "closing leaves one file"


async def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    await (await SqliteTaskStore.open(path)).aclose()
    execute(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(IncompatibleStore, match=f"schema {SCHEMA_VERSION + 1}.*knows {SCHEMA_VERSION}"):
        await SqliteTaskStore.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statements", [["CREATE TABLE theirs (x)"], ["PRAGMA application_id = 7"], ["PRAGMA user_version = 1"]]
)
async def test_a_database_of_another_program_is_refused(tmp_path: Path, statements: list[str]) -> None:
    path = tmp_path / "theirs.db"
    execute(path, *statements)
    with pytest.raises(IncompatibleStore, match="another program"):
        await SqliteTaskStore.open(path)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes. " * 100)
    with pytest.raises(IncompatibleStore, match="no SQLite database"):
        await SqliteTaskStore.open(path)
    assert path.read_text().startswith("These are my notes.")


async def test_a_place_where_no_file_can_be_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "tasks.db", tmp_path):
        with pytest.raises(StoreUnavailable) as unavailable:
            await SqliteTaskStore.open(path)
        assert str(tmp_path) not in unavailable.value.message, "paths are no caller's business"


async def test_a_file_that_another_program_keeps_for_itself_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    await (await SqliteTaskStore.open(path)).aclose()
    with closing(sqlite3.connect(path, isolation_level=None)) as keeper:
        keeper.execute("PRAGMA locking_mode = EXCLUSIVE")
        keeper.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            await SqliteTaskStore.open(path, timeout_s=0.1)


async def test_reads_wait_while_another_program_has_the_file_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store = await SqliteTaskStore.open(path)
    task = await kept(store, new_task())
    await store.aclose()

    keeper = sqlite3.connect(path, isolation_level=None)
    keeper.execute("PRAGMA locking_mode = EXCLUSIVE")
    keeper.execute("BEGIN IMMEDIATE")
    store = SqliteTaskStore(path)  # `open` would be refused: as when the file is taken while we run
    reading = asyncio.create_task(store.get(task.id))
    done, _ = await asyncio.wait([reading], timeout=0.1)
    assert not done
    keeper.close()
    assert await reading == task
    await store.aclose()


async def test_a_connection_that_could_not_be_set_up_is_not_used_half_way(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    await (await SqliteTaskStore.open(path)).aclose()
    store = SqliteTaskStore(path, synchronous="NORMAL", timeout_s=0.2)
    with closing(sqlite3.connect(path, isolation_level=None)) as keeper:
        keeper.execute("PRAGMA locking_mode = EXCLUSIVE")
        keeper.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            await store.ping()
    assert await store._step(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (1,)
    await store.aclose()


async def test_many_open_a_new_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    program = (
        "import asyncio, sys\nfrom server.store import connect\nfrom tests.contract.samples import new_task\n"
        "async def main():\n    store = await connect.open_store(sys.argv[1])\n"
        "    assert await store.insert(new_task())\n    await store.aclose()\nasyncio.run(main())\n"
    )
    arguments = ("-c", program, f"sqlite://{path}")
    started = [await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT) for _ in range(6)]
    assert [await process.wait() for process in started] == [0] * 6
    store = await SqliteTaskStore.open(path)
    assert len(await store.live_page(after="", limit=100)) == 6
    await store.aclose()


def test_a_full_disk_is_unavailable_and_passes(tmp_path: Path) -> None:
    arguments = ["-c", BEYOND_A_FILE_SIZE_LIMIT, f"sqlite://{tmp_path / 'tasks.db'}"]
    run = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "task store" in run.stdout
    assert str(tmp_path) not in run.stdout


async def test_a_file_that_went_away_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store = SqliteTaskStore(path)
    with pytest.raises(StoreUnavailable):
        await store.insert(new_task())
    with pytest.raises(StoreUnavailable):
        await store.get("x")
    assert not path.exists()
    await store.aclose()


async def test_nothing_is_written_to_a_file_that_was_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store = await SqliteTaskStore.open(path)
    task = await kept(store, new_task())
    await store.ping()
    path.rename(tmp_path / "elsewhere.db")
    with pytest.raises(StoreUnavailable):
        await store.insert(new_task())
    with pytest.raises(StoreUnavailable):
        await store.ping()
    with pytest.raises(StoreUnavailable):
        await store.get(task.id)
    assert not path.exists()
    (tmp_path / "elsewhere.db").rename(path)
    await store.ping()
    assert await found(store, task.id) == task
    await store.aclose()


async def test_the_lock_of_a_short_transaction_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store = await SqliteTaskStore.open(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        inserting = asyncio.create_task(store.insert(new_task()))
        done, _ = await asyncio.wait([inserting], timeout=0.2)
        assert not done
        other.execute("COMMIT")
        assert await inserting
    await store.aclose()


async def test_the_log_is_folded_into_the_file_and_does_not_grow_although_writing_never_stops(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tasks.db"
    store = await SqliteTaskStore.open(path)
    left, sizes = 5 * CHECKPOINT_CHANGES, list[int]()

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            assert await store.insert(new_task())
            if left % 100 == 0:
                sizes.append(os.stat(f"{path}-wal").st_size)

    await asyncio.gather(*(caller() for _ in range(40)))
    assert max(sizes) < 1.5 * max(sizes[: len(sizes) // 3]), "it begins again after each fold"
    assert os.stat(path).st_size > 2 * CHECKPOINT_CHANGES * 500, "what was folded is in the file"
    await store.aclose()


async def test_who_reads_an_older_state_holds_up_no_fold(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store = await SqliteTaskStore.open(path)
    assert await store.insert(new_task())
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM tasks").fetchone()
        assert await store.insert(new_task())
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as folding:
            begun = time.monotonic()
            _fold(folding)
            assert time.monotonic() - begun < 10, "the reader is there for good"
            assert folding.execute("PRAGMA busy_timeout").fetchone() == (30_000,)
    await store.aclose()


async def test_the_log_does_not_grow_by_pings_alone(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store = await SqliteTaskStore.open(path)
    sizes = list[int]()
    for number in range(5 * CHECKPOINT_CHANGES):
        await store.ping()
        if number % 100 == 0:
            sizes.append(os.stat(f"{path}-wal").st_size)
    assert max(sizes) < 1.5 * max(sizes[: len(sizes) // 3]), "it begins again after each fold"
    await store.aclose()


async def test_what_was_given_up_does_not_take_place_later(tmp_path: Path) -> None:
    # FULL: its transactions are a thread's, which the callers do not wait for beyond their time.
    store = await SqliteTaskStore.open(tmp_path / "tasks.db", synchronous="FULL", timeout_s=0.2)
    go_on = threading.Event()

    def slow(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO request_ids VALUES ('late', 't', 'f')")
        go_on.wait(30)

    with pytest.raises(StoreUnavailable):
        await store._step(slow)
    go_on.set()
    async with asyncio.timeout(10):
        while True:
            try:
                await store.ping()
                break
            except StoreUnavailable:
                continue
    assert await store.find_request_id("late") is None
    await store.aclose()


async def test_what_cannot_be_kept_fails_alone_and_leaves_no_transaction_open(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    store = await SqliteTaskStore.open(path)
    good = [new_task() for _ in range(3)]
    bad = new_task(caller="half a pair: \ud800")
    answers = await asyncio.gather(*map(store.insert, [*good, bad]), return_exceptions=True)
    assert answers[:3] == [True] * 3
    assert isinstance(answers[3], UnicodeEncodeError)
    for task in good:
        assert await found(store, task.id) == task
    execute(path, "BEGIN IMMEDIATE", "COMMIT")
    await store.aclose()


async def test_closing_leaves_no_thread_and_no_file_open(tmp_path: Path) -> None:
    path, before = tmp_path / "tasks.db", set(threading.enumerate())
    store = await connect.open_store(f"sqlite://{path}?synchronous=FULL")
    task = await kept(store, new_task())
    await asyncio.gather(store.revisions([task.id]), store.get(task.id))
    mine = [t for t in set(threading.enumerate()) - before if t.name.startswith("sqlite-")]
    assert len(mine) == 2
    assert any(name.startswith(str(path)) for name in open_files())
    await store.aclose()
    for thread in mine:
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()
    assert not any(name.startswith(str(path)) for name in open_files())


def open_files() -> set[str]:
    """The names of all files this process has open."""
    return {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}

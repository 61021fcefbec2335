"""The way to the SQLite file: what is done at once, on the event loop, and what a thread does."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from server.domain.errors import StoreUnavailable
from server.store.batching import unavailable
from server.store.sqlite_file import (
    APPLICATION_ID,
    CHECKPOINT_CHANGES,
    Connection,
    ConnectionThread,
    Locked,
    Synchronous,
)

Result = TypeVar("Result")

READERS_MS = 50
"""So long a fold waits for who reads an older state, a backup perhaps. Nobody writes meanwhile, and the next
one comes soon."""

MARGIN_S = 0.05
"""So long before its callers give up a thread gives up a transaction that it has not begun to commit."""


class FileAccess:
    """Reads and write transactions of one process. Raises StoreUnavailable.

    Few rows are read on the event loop itself: in WAL mode that waits for no writer and takes about 20 µs for
    one, while the way through a thread and back costs several hundred, more than the rest of a GetTask.
    With NORMAL so is a transaction while nobody else writes: its commit goes to the system's memory and waits
    for no disk. What may wait has threads: one reads what may be much, the other writes when somebody has
    the lock, flushes what FULL asks for, and folds the log into the file.
    """

    def __init__(self, path: Path, *, synchronous: Synchronous, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._at_once = Connection(path, synchronous=synchronous, checkpoints=False)
        self._writes_at_once = synchronous == "NORMAL"
        self._writer = ConnectionThread(path, name="sqlite-writer", synchronous=synchronous)
        self._reader = ConnectionThread(path, name="sqlite-reader", synchronous=synchronous)
        self._changes = 0
        self._unfolded = 0
        self._folding: asyncio.Task[None] | None = None
        self._closed = False

    async def read_at_once(self, sql: str, parameter: str) -> list[tuple[str, ...]]:
        """The few rows, of texts, that the statement finds."""

        def find(db: sqlite3.Connection) -> list[tuple[str, ...]]:
            return db.execute(sql, (parameter,)).fetchall()

        if not self._closed:
            try:
                return self._at_once.do(find, busy_timeout_ms=0)
            except StoreUnavailable:
                pass  # seldom: another process recovers or closes the file, which the thread can wait for
        return await self.read(find)

    async def read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Read what may be much."""
        return await self._reader.run(work, timeout_s=self._timeout_s)

    async def transact(self, body: Callable[[sqlite3.Connection], Result], timeout_s: float) -> Result:
        """Do the body in a write transaction of its own: all of it, or nothing."""
        # Before the callers are told: what comes after their time does not take place any more.
        deadline = time.monotonic() + timeout_s - MARGIN_S
        if self._writes_at_once and not self._closed:
            try:
                result = self._at_once.do(lambda db: _in_transaction(db, body), busy_timeout_ms=0)
            except Locked:
                pass  # the thread can wait for its turn
            else:
                self._fold_in_time()
                return result

        def in_time(db: sqlite3.Connection) -> Result:
            result = body(db)
            if time.monotonic() > deadline:
                raise unavailable()
            return result

        return await self._writer.run(lambda db: _in_transaction(db, in_time), timeout_s=timeout_s)

    async def aclose(self) -> None:
        """Finish what is under way and let go of the file."""
        self._closed = True
        if self._folding is not None:
            await asyncio.wait([self._folding])
        self._at_once.close()
        await self._reader.aclose()
        await self._writer.aclose()

    def _fold_in_time(self) -> None:
        """After a commit: have the writing thread fold the log into the file once it has grown."""
        changes = self._at_once.changes
        # At least one: a PRAGMA changes no row and yet adds a page, and a connection that is new counts anew.
        self._unfolded += max(1, changes - self._changes)
        self._changes = changes
        if self._unfolded >= CHECKPOINT_CHANGES and self._folding is None:
            self._unfolded = 0
            self._folding = asyncio.get_running_loop().create_task(self._fold(), name="fold-the-log")

    async def _fold(self) -> None:
        try:
            await self._writer.run(_fold, timeout_s=self._timeout_s)
        except StoreUnavailable:
            pass  # the next one comes soon
        finally:
            self._folding = None


def _fold(db: sqlite3.Connection) -> None:
    """Bring the log into the file, and have it written from its beginning again.

    Most of it in a way that holds up nobody. The rest while nobody writes: else what is written meanwhile
    would keep the log from ever beginning again, and it would grow for ever. The first to write to it
    afterwards waits for the disk, and shall not be the event loop.
    """
    db.execute("PRAGMA wal_checkpoint").fetchall()
    [patience_ms] = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute(f"PRAGMA busy_timeout = {READERS_MS}")
    try:
        db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    finally:
        db.execute(f"PRAGMA busy_timeout = {patience_ms}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _in_transaction(db: sqlite3.Connection, body: Callable[[sqlite3.Connection], Result]) -> Result:
    # IMMEDIATE waits for its turn; a deferred transaction that comes to write may be refused at once.
    db.execute("BEGIN IMMEDIATE")
    result = body(db)
    db.execute("COMMIT")
    return result

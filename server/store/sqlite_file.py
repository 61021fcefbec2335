"""One SQLite file as this service uses it: its schema, its connections, and what its errors mean.

Needs SQLite 3.38 or newer (JSON functions built in, RETURNING, partial indexes).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from server.domain.errors import StoreUnavailable
from server.store.batching import unavailable

Result = TypeVar("Result")
Synchronous = Literal["NORMAL", "FULL"]

MIN_SQLITE = (3, 38, 0)
APPLICATION_ID = 0x494D4731
"""Marks a file as ours in its header: `IMG1`."""
SCHEMA_VERSION = 3

_SCHEMA = (
    # The document is the whole truth about a task; `state` and `attempt` repeat it in columns, because
    # writes are conditional on them, and are changed by the same statement: always in agreement with it.
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
        lost INTEGER NOT NULL,
        slots INTEGER NOT NULL DEFAULT 0,
        lease_ms INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID""",
)
_MIGRATIONS = {
    2: ("ALTER TABLE workers ADD COLUMN slots INTEGER NOT NULL DEFAULT 0",),
    3: ("ALTER TABLE workers ADD COLUMN lease_ms INTEGER NOT NULL DEFAULT 0",),
}
"""By the version they lead to: what makes a file of the version before it one of that version."""

_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# These say that a statement or its data is wrong, which no other moment would mend.
_OUR_FAULT = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_TOOBIG,
    }
)


CHECKPOINT_PAGES = 8_000
"""Pages in the write-ahead log before it is folded into the file: each fold costs two flushes of the disk."""
CHECKPOINT_CHANGES = 3_000
"""Rows changed by a connection that never folds the log itself, before somebody else has to; a commit counts
as one at least."""


class Locked(StoreUnavailable):
    """Somebody else writes just now; nothing was done."""


class IncompatibleStore(Exception):
    """This program must not touch the store: made by a newer version, or by another program."""


def prepare(path: Path, *, timeout_s: float) -> None:
    """Make the file and its schema, or bring an older file up to date; many processes may do so at once.

    Raises IncompatibleStore, and StoreUnavailable when the file cannot be opened or is locked too long.
    """
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        raise IncompatibleStore(f"SQLite {sqlite3.sqlite_version} is too old: 3.38 or newer is needed.")
    deadline = time.monotonic() + timeout_s
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = _connect(path, mode="rwc")
    except (OSError, sqlite3.Error) as error:
        raise unavailable("The SQLite file cannot be opened: check STORE_URL and the rights.") from error
    try:
        connection.execute(f"PRAGMA busy_timeout = {round(timeout_s * 1000)}")
        _switch_to_wal(connection, deadline)
        connection.execute("BEGIN IMMEDIATE")
        application_id: int = connection.execute("PRAGMA application_id").fetchone()[0]
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if application_id != APPLICATION_ID and (application_id or version or tables):
            raise IncompatibleStore("The SQLite file belongs to another program: give another STORE_URL.")
        if version > SCHEMA_VERSION:
            raise IncompatibleStore(
                f"The SQLite file has schema {version}, this version of the service knows {SCHEMA_VERSION}: "
                "start the newer version, or give another STORE_URL."
            )
        if version == 0:
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        else:
            for step in range(version + 1, SCHEMA_VERSION + 1):
                for statement in _MIGRATIONS[step]:
                    connection.execute(statement)
        if version < SCHEMA_VERSION:
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        if _code(error) == sqlite3.SQLITE_NOTADB:
            raise IncompatibleStore("STORE_URL names a file that is no SQLite database.") from error
        raise unavailable(_reason(_code(error))) from error
    finally:
        connection.close()


def _switch_to_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Set the journal mode, which the file then keeps. SQLite does not wait for locks here, so we do."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class Connection:
    """A connection that is opened at first use, and anew after the store was away.

    With `checkpoints=False` its commits never fold the write-ahead log into the file, which takes the disk's
    time: whoever asks it for `changes` sees to that.
    """

    def __init__(self, path: Path, *, synchronous: Synchronous, checkpoints: bool = True) -> None:
        self._path = path
        self._synchronous = synchronous
        self._checkpoint_pages = CHECKPOINT_PAGES if checkpoints else 0
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._busy_timeout_ms = 0

    def do(self, work: Callable[[sqlite3.Connection], Result], *, busy_timeout_ms: int) -> Result:
        """Do the work, waiting so long for others' locks; no transaction stays open.

        Raises Locked, and StoreUnavailable when the file is full, read-only, gone or broken.
        """
        try:
            if self._connection is not None and self._identity != _identity(self._path):
                self.close()  # what went into a file that has no name any more would be lost
            connection = self._connection or self._open(busy_timeout_ms)
            if busy_timeout_ms != self._busy_timeout_ms:
                connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
                self._busy_timeout_ms = busy_timeout_ms
            return work(connection)
        except Exception as error:
            code = _code(error)
            if code in _OUR_FAULT or code in _LOCKED:
                if self._connection is not None and self._connection.in_transaction:
                    self._connection.rollback()
                if code in _LOCKED:
                    raise unavailable(_reason(code), Locked) from error
                raise
            self.close()
            raise unavailable(_reason(code)) from error

    @property
    def changes(self) -> int:
        """Rows changed through it since it was opened."""
        return self._connection.total_changes if self._connection is not None else 0

    def close(self) -> None:
        """Let go of the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self, busy_timeout_ms: int) -> sqlite3.Connection:
        # Not "rwc": a file that went away while we ran must not come back empty.
        connection = _connect(self._path, mode="rw")
        self._identity = _identity(self._path)
        try:
            connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {self._checkpoint_pages}")
        except BaseException:
            connection.close()
            raise
        self._connection, self._busy_timeout_ms = connection, busy_timeout_ms
        return connection


class ConnectionThread:
    """One connection and the one thread that uses it."""

    def __init__(self, path: Path, *, name: str, synchronous: Synchronous) -> None:
        self._connection = Connection(path, synchronous=synchronous)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._closed = False

    async def run(self, work: Callable[[sqlite3.Connection], Result], *, timeout_s: float) -> Result:
        """Do the work in the thread. Raises StoreUnavailable, also when the time is over.

        Work that has begun is not broken off: it has to look at the clock itself before it commits.
        """
        if self._closed:
            raise unavailable("The task store was closed.")
        do = partial(self._do, work, time.monotonic() + timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._thread, do)
        except TimeoutError as error:
            raise unavailable() from error

    async def aclose(self) -> None:
        """Close the connection after what the thread is doing."""
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    def _do(self, work: Callable[[sqlite3.Connection], Result], deadline: float) -> Result:
        # Give up on a lock just before the caller gives up on us; in steps, to change it seldom.
        left_ms = int((deadline - time.monotonic()) * 20) * 50
        return self._connection.do(work, busy_timeout_ms=max(left_ms - 50, 0))


def _connect(path: Path, *, mode: Literal["rw", "rwc"]) -> sqlite3.Connection:
    # Transactions are ours (isolation_level=None); nothing waits for a lock until told how long.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=0
    )


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one under the same name; None: there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _code(error: Exception) -> int:
    """SQLite's primary result code; what was raised before SQLite saw it is our fault too."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def _reason(code: int) -> str:
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "The task store is locked by another process."
        case sqlite3.SQLITE_FULL:
            return "The task store's disk is full."
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return "The task store is read-only."
        case _:
            return "The task store cannot be read or written."

"""The task store of a deployment, and how it is sent away for a while."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tests.mongo import database_url, new_database_name
from tests.mongo_process import MongoServer


class Store(Protocol):
    """Where a deployment keeps its tasks."""

    holds_outputs: bool
    """Whether pictures lie in it by default, so that they are away when it is."""

    @property
    def url(self) -> str:
        """For STORE_URL."""
        ...

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody is answered inside."""
        ...


class SqliteStore:
    """A file of its own; away while another connection holds its lock."""

    holds_outputs = False

    def __init__(self, directory: Path) -> None:
        self._file = directory / "tasks.db"

    @property
    def url(self) -> str:
        """See Store."""
        return f"sqlite://{self._file}"

    @contextmanager
    def away(self) -> Iterator[None]:
        """See Store."""
        lock = sqlite3.connect(self._file, isolation_level=None, timeout=5)
        try:
            lock.execute("PRAGMA busy_timeout = 5000")
            lock.execute("BEGIN EXCLUSIVE")
            yield
            lock.execute("ROLLBACK")
        finally:
            lock.close()


class MongoStore:
    """A database of its own on a server of the row's own or shared; away while the server is stopped."""

    holds_outputs = True

    def __init__(self, server: MongoServer | None, server_url: str) -> None:
        self._server = server
        self._url = database_url(server_url, new_database_name())

    @property
    def url(self) -> str:
        """See Store."""
        return self._url

    @contextmanager
    def away(self) -> Iterator[None]:
        """See Store. RuntimeError on a server that is shared."""
        if self._server is None:
            raise RuntimeError("this MongoDB server is not the row's own")
        pid = self._server.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

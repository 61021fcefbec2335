"""The stores under contract: `store` and `outputs` once per adapter, each on data of the test's own.

`store_url` and `outputs_url` lead to the same data on further connections. `outage` takes a store away.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest
from pymongo import MongoClient

from server.ports import OutputStore, TaskStore
from server.store import connect, sqlite_readings
from tests.contract.race import PATIENCE_S
from tests.contract.steps import IN_PLACE
from tests.mongo import MongoServer, database_url, new_database_name


@pytest.fixture(params=["sqlite", "mongo"])
def store_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty task store."""
    if request.param == IN_PLACE:
        monkeypatch.setattr(sqlite_readings, "MOST", 0)
    if request.param in ("sqlite", IN_PLACE):
        tmp_path: Path = request.getfixturevalue("tmp_path")
        yield f"sqlite://{tmp_path / 'tasks.db'}"
    else:
        yield from _mongo_database(request)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[TaskStore]:
    """An empty task store."""
    store = await connect.open_store(store_url, timeout_s=PATIENCE_S)
    yield store
    await store.aclose()


@pytest.fixture
async def stores(store_url: str) -> AsyncIterator[list[TaskStore]]:
    """Five stores on the same data, each with connections of its own, as five processes would have."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(5):
            store = await connect.open_store(store_url, timeout_s=PATIENCE_S)
            stack.push_async_callback(store.aclose)
            opened.append(store)
        yield opened


@pytest.fixture(
    params=["filesystem", "gridfs-mongo", pytest.param("s3", marks=pytest.mark.xdist_group("s3"))]
)
def outputs_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty output store."""
    if request.param == "filesystem":
        tmp_path: Path = request.getfixturevalue("tmp_path")
        yield f"file://{tmp_path / 'outputs'}"
    elif request.param == "s3":
        s3_url: str = request.getfixturevalue("s3_url")
        yield s3_url
    else:
        yield from _mongo_database(request)


@pytest.fixture
async def outputs(outputs_url: str) -> AsyncIterator[OutputStore]:
    """An empty output store."""
    outputs = await connect.open_outputs(outputs_url, timeout_s=PATIENCE_S)
    yield outputs
    await outputs.aclose()


class Outage(Protocol):
    """A task store that can be taken away from whoever uses it."""

    @property
    def url(self) -> str:
        """Where the store is while there is no outage."""
        ...

    @property
    def reads(self) -> bool:
        """Whether reading fails as well as writing."""
        ...

    def begin(self) -> None:
        """From now on no write is taken."""
        ...

    def end(self) -> None:
        """The store is back, with all it held."""
        ...


class LockedFile:
    """Another program holds the write lock of the SQLite file; reading goes on."""

    reads = False

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite://{path}"
        self._path = path
        self._holder: sqlite3.Connection | None = None

    def begin(self) -> None:
        """Take the lock."""
        self._holder = sqlite3.connect(self._path, isolation_level=None)
        self._holder.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        """Let go of the lock."""
        if self._holder is not None:
            self._holder.close()
            self._holder = None


class StoppedServer:
    """The database server is killed."""

    reads = True

    def __init__(self, server: MongoServer) -> None:
        self.url = database_url(server.url, "outage")
        self._server = server
        self._stopped = False

    def begin(self) -> None:
        """Kill the server."""
        self._server.kill()
        self._stopped = True

    def end(self) -> None:
        """Start it again, on the same port and data."""
        if self._stopped:
            self._server.start()
            self._stopped = False


@pytest.fixture(params=["sqlite", "mongo"])
def outage(request: pytest.FixtureRequest) -> Iterator[Outage]:
    """A store of the test's own that can be taken away."""
    if request.param == "sqlite":
        tmp_path: Path = request.getfixturevalue("tmp_path")
        locked = LockedFile(tmp_path / "tasks.db")
        yield locked
        locked.end()
    else:
        yield StoppedServer(request.getfixturevalue("mongo_server"))


def _mongo_database(request: pytest.FixtureRequest) -> Iterator[str]:
    server_url: str = request.getfixturevalue("mongo_url")
    name = new_database_name()
    yield database_url(server_url, name)
    with MongoClient[dict[str, object]](server_url) as client:
        client.drop_database(name)

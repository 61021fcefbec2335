"""MongoDB for tests, as a pytest plugin: `pytest_plugins = ["tests.mongo"]`.

Fixtures: `mongo_url`, `mongo_database`, `mongo_server`, `bare_mongo_server`. In this order they use

1. the server that TEST_MONGO_URL names; nothing is started, so tests that stop their server skip;
2. `mongod` from PATH;
3. where `go` is on PATH, the program in `tests/mongo_server` (FerretDB behind a gate), which is built once
   and kept under the user's cache directory;
4. else tests skip, and the run ends with a line that says so. With REQUIRE_MONGO=1 they fail instead.

A test that asks for one of the fixtures only while it runs (`request.getfixturevalue`) needs "mongo" in its
id, so that a build is done before its time limit starts.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
import types
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient, pool_shared

from tests.mongo_process import MongoServer, MongoUnavailableError, Program, find_ferretdb, find_program

__all__ = ["MongoDatabase", "MongoServer", "database_url", "new_database_name"]

_FIXTURES = frozenset({"mongo_url", "mongo_database", "mongo_server", "bare_mongo_server"})
_NO_MONGO = "no MongoDB server: "


class _Dropped(socket.socket):
    """One that is closed when nobody has it any more, as any is, but without a warning.

    PyMongo drops the socket of a connect that is under way when its client is closed. A test fails on such a
    warning, and the one that happens to run when the collector finds it has done nothing wrong.
    """

    def __del__(self) -> None:
        self.close()


_sockets = types.ModuleType(socket.__name__)
vars(_sockets).update({**vars(socket), "socket": _Dropped})
vars(pool_shared)["socket"] = _sockets


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoDatabase:
    """A database of one test module; `url` is the server's URL with the database's `name` as its path."""

    url: str
    name: str


def new_database_name() -> str:
    """A name that no other test, run or process uses."""
    return f"test_{uuid.uuid4().hex}"


def database_url(server_url: str, name: str) -> str:
    """`server_url` with `name` as its default database; its credentials stay valid."""
    parts = urlsplit(server_url)
    query = parts.query
    if "@" in parts.netloc and "authsource=" not in query.lower():
        query = "&".join(filter(None, [query, f"authSource={parts.path.strip('/') or 'admin'}"]))
    return parts._replace(path=f"/{name}", query=query).geturl()


@pytest.fixture(scope="session")
def mongo_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the server that all tests of this process share. Its tests use databases of their own."""
    if url := os.environ.get("TEST_MONGO_URL"):
        yield url
        return
    server = MongoServer(_program(bare=False), data_dir=tmp_path_factory.mktemp("mongo"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="module")
def mongo_database(mongo_url: str) -> Iterator[MongoDatabase]:
    """An empty database on the shared server, dropped at the end of the module.

    FerretDB reads a whole collection for whatever is not found by its id: keep collections small.
    """
    name = new_database_name()
    yield MongoDatabase(url=database_url(mongo_url, name), name=name)
    with MongoClient[dict[str, object]](mongo_url) as client:
        client.drop_database(name)


@pytest.fixture
def mongo_server(tmp_path: Path) -> Iterator[MongoServer]:
    """A running server of the test's own, to be stopped, killed, suspended and started again."""
    yield from _own_server(tmp_path, bare=False)


@pytest.fixture
def bare_mongo_server(tmp_path: Path) -> Iterator[MongoServer]:
    """FerretDB without its gate: a server whose updates are not atomic, to show that a race test can fail."""
    yield from _own_server(tmp_path, bare=True)


def _own_server(tmp_path: Path, *, bare: bool) -> Iterator[MongoServer]:
    if os.environ.get("TEST_MONGO_URL"):
        pytest.skip(f"{_NO_MONGO}TEST_MONGO_URL names one that is not the test's own")
    server = MongoServer(_program(bare=bare), data_dir=tmp_path / "mongo", bare=bare)
    server.start()
    yield server
    server.stop()


def _program(*, bare: bool) -> Program:
    found = _find(bare=bare)
    if isinstance(found, Program):
        return found
    if os.environ.get("REQUIRE_MONGO") == "1":
        pytest.fail(_NO_MONGO + found, pytrace=False)
    pytest.skip(_NO_MONGO + found)


@functools.cache
def _find(*, bare: bool) -> Program | str:
    """The program to start, or why there is none: a failed build is not tried again for every test."""
    find = find_ferretdb if bare else find_program
    try:
        return find(_announce)
    except MongoUnavailableError as error:
        return str(error)


def _announce(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly or os.environ.get("TEST_MONGO_URL"):
        return
    for item in session.items:
        fixtures = getattr(item, "fixturenames", [])
        if "bare_mongo_server" in fixtures:
            _find(bare=True)
        if "mongo" in item.nodeid.lower() or not _FIXTURES.isdisjoint(fixtures):
            _find(bare=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = Counter(
        report.longrepr[2].partition(_NO_MONGO)[2]
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and _NO_MONGO in report.longrepr[2]
    )
    for reason, tests in reasons.items():
        terminalreporter.write_line(f"MongoDB tests skipped: {tests} ({reason})", yellow=True)

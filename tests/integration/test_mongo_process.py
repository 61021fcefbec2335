"""The life of the tests' MongoDB server process: which one, its data, its end, and doing without."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import pymongo
import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import ConnectionFailure

from tests.mongo import MongoServer, database_url
from tests.mongo_process import STOP_TIMEOUT_S, Program, find_program

Document: TypeAlias = dict[str, Any]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_data_and_port_survive(mongo_server: MongoServer, end: str) -> None:
    url = mongo_server.url
    async with AsyncMongoClient[Document](url, timeoutMS=10_000) as client:
        tasks = client["test"]["tasks"]
        await tasks.insert_one({"_id": "a"})
        getattr(mongo_server, end)()
        with pytest.raises(ConnectionFailure), pymongo.timeout(0.5):
            await tasks.find_one()
        mongo_server.start()
        assert mongo_server.url == url
        assert await tasks.find_one() == {"_id": "a"}


def test_sigterm_ends_it(mongo_server: MongoServer) -> None:
    os.kill(mongo_server.pid, signal.SIGTERM)
    wait_until_refused(mongo_server.url)


STARTS_A_SERVER = """
import sys
from pathlib import Path
from tests.mongo_process import MongoServer, find_program
server = MongoServer(find_program(print), data_dir=Path(sys.argv[1]))
server.start()
print(server.url, flush=True)
sys.stdin.read()
"""


@pytest.mark.usefixtures("mongo_server")
def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTS_A_SERVER, str(tmp_path / "data")]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        url = parent.stdout.readline().strip()
        assert_answers(url)
        parent.kill()
    wait_until_refused(url)


def test_data_belongs_to_one_server(mongo_server: MongoServer, tmp_path: Path) -> None:
    second = MongoServer(mongo_server.program, data_dir=mongo_server.data_dir)
    with pytest.raises(RuntimeError, match="in use"):
        second.start()
    assert_answers(mongo_server.url)


# A mongod as far as its command line goes; its input never ends, so that only a signal ends it.
MONGOD = """#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1" in --dbpath) data=$2 ;; --port) port=$2 ;; esac
    shift
done
mkfifo "$data/input"
exec {server} --data-dir "$data" --port "$port" <>"$data/input"
"""


def test_mongod_from_path_comes_first(
    bare_mongo_server: MongoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mongod = tmp_path / "bin" / "mongod"
    mongod.parent.mkdir()
    mongod.write_text(MONGOD.format(server=bare_mongo_server.program.path))
    mongod.chmod(0o755)
    monkeypatch.setenv("PATH", str(mongod.parent), prepend=os.pathsep)

    program = find_program(pytest.fail)
    assert program == Program(kind="mongod", path=mongod)
    server = MongoServer(program, data_dir=tmp_path / "data")
    server.start()
    assert_answers(server.url)
    start = time.monotonic()
    server.stop()
    assert time.monotonic() - start < STOP_TIMEOUT_S / 2, "ended by its watcher, not by force"
    wait_until_refused(server.url)


@pytest.mark.parametrize(("required", "outcome", "exit_code"), [("", "1 skipped", 0), ("1", "1 error", 1)])
def test_without_a_server_tests_skip_and_say_so(
    tmp_path: Path, required: str, outcome: str, exit_code: int
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]")
    (tmp_path / "test_it.py").write_text("def test_it(mongo_database): pass")
    environment = {"PATH": str(tmp_path), "REQUIRE_MONGO": required, "HOME": str(tmp_path)}
    pytest_command = [sys.executable, "-m", "pytest", "-p", "tests.mongo", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*pytest_command, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == exit_code, run.stdout
    assert outcome in run.stdout
    reason = "TEST_MONGO_URL is not set, and neither mongod nor go is on PATH"
    assert reason in run.stdout
    assert (f"MongoDB tests skipped: 1 ({reason})" in run.stdout) == (not required)


@pytest.mark.parametrize(
    ("server_url", "expected"),
    [
        ("mongodb://127.0.0.1:27017/", "mongodb://127.0.0.1:27017/t"),
        ("mongodb://a:1,b:2/?replicaSet=rs", "mongodb://a:1,b:2/t?replicaSet=rs"),
        ("mongodb://u:p@a/", "mongodb://u:p@a/t?authSource=admin"),
        ("mongodb://u:p@a/users?tls=true", "mongodb://u:p@a/t?tls=true&authSource=users"),
        ("mongodb://u:p@a/?authSource=x", "mongodb://u:p@a/t?authSource=x"),
    ],
)
def test_a_database_url_keeps_everything_else(server_url: str, expected: str) -> None:
    assert database_url(server_url, "t") == expected


def assert_answers(url: str) -> None:
    with MongoClient[Document](url, timeoutMS=10_000) as client:
        assert client.admin.command("ping")["ok"] == 1


def wait_until_refused(url: str) -> None:
    """Until nobody listens there, for at most 10 s."""
    address = urlsplit(url)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection((address.hostname or "", address.port or 0), timeout=1).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            pass  # caught in the listener's backlog as it closed
        time.sleep(0.02)
    pytest.fail(f"{url} still accepts connections")

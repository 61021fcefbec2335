"""MongoDB server processes for tests: which program there is on this machine, and running it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure

from tests.ports import free_port

SOURCES = Path(__file__).with_name("mongo_server")
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
BUILD_TIMEOUT_S = 900.0
GO_COLLECTS_AT = "400"
"""Per cent of growth before FerretDB's garbage collector runs: its documents live for a moment each."""
FERRETDB = "github.com/FerretDB/FerretDB"
PATCHES = (
    # The expression that its index is made of: by another one SQLite reads the whole table instead.
    ("metadata/metadata.go", """->'$._id'\"""", """->'_id'\""""),
    (
        "collection.go",
        "\tq += whereClause\n",
        '\tif byIDs, ids := byIDs(params.Filter); byIDs != "" {\n'
        "\t\twhereClause, args = byIDs, ids\n"
        "\t}\n"
        "\tq += whereClause\n",
    ),
)
"""Changes in FerretDB's SQLite backend, beside `tests/mongo_server/patch`: it shall find ids fast."""

# mongod does not mind losing its standard input, so a child of the shell that it replaces minds for it.
_MONGOD_THAT_ENDS_WITH_STDIN = 'exec 3<&0; (cat <&3 >/dev/null; kill $$) & exec "$@" 3<&-'


class MongoUnavailableError(Exception):
    """No MongoDB server can be started on this machine; the text says why and what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """An executable that serves MongoDB's wire protocol."""

    kind: Literal["mongod", "ferretdb"]
    path: Path


def find_program(announce: Callable[[str], None]) -> Program:
    """`mongod` from PATH, else FerretDB as of `find_ferretdb`. Raises MongoUnavailableError."""
    if mongod := shutil.which("mongod"):
        return Program(kind="mongod", path=Path(mongod))
    return find_ferretdb(announce)


def find_ferretdb(announce: Callable[[str], None]) -> Program:
    """The program in `tests/mongo_server`, built first where that was not done before (one to two minutes).

    `announce` is told before a build what is being built and where it will be kept. Of several processes that
    get here at once, one builds and the others wait for it. Raises MongoUnavailableError.
    """
    if go := shutil.which("go"):
        return Program(kind="ferretdb", path=_built_server(go, announce))
    raise MongoUnavailableError("TEST_MONGO_URL is not set, and neither mongod nor go is on PATH")


def _built_server(go: str, announce: Callable[[str], None]) -> Path:
    key = hashlib.sha256(_go(go, "env", "GOVERSION", "GOOS", "GOARCH").encode())
    for source in sorted([*SOURCES.glob("**/*.go"), SOURCES / "go.mod", SOURCES / "go.sum"]):
        key.update(f"\0{source.name}\0".encode() + source.read_bytes())
    key.update(repr(PATCHES).encode())
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = caches / "imagegen" / "mongo-server" / key.hexdigest()[:16]
    server = directory / "mongo_server"
    if not server.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not server.exists():
                announce(
                    f"building the MongoDB test server (FerretDB; once, a minute or two); kept as {server}"
                )
                unfinished = directory / "unfinished"
                options = ["-trimpath", "-ldflags=-s -w", "-tags=ferretdb_no_postgresql"]
                options += [f"-modfile={_patched_modules(go, directory)}"]
                _go(go, "build", *options, "-o", str(unfinished), ".")
                shutil.rmtree(directory / "ferretdb")
                unfinished.rename(server)
    return server


def _patched_modules(go: str, directory: Path) -> Path:
    """A go.mod with a copy of FerretDB in place of its release: one that looks ids up as `by_id.go` says."""
    release = json.loads(_go(go, "mod", "download", "-json", FERRETDB))
    copy = directory / "ferretdb"
    with zipfile.ZipFile(release["Zip"]) as files:
        files.extractall(copy)
    module = copy / f"{FERRETDB}@{release['Version']}"
    package = module / "internal" / "backends" / "sqlite"
    for name, old, new in PATCHES:
        original = (package / name).read_text()
        if original.count(old) != 1:
            raise MongoUnavailableError(f"this FerretDB is not the one that is patched here: {name}")
        (package / name).write_text(original.replace(old, new))
    shutil.copy(SOURCES / "patch" / "by_id.go", package)
    modules = directory / "go.mod"
    modules.write_text((SOURCES / "go.mod").read_text() + f'\nreplace {FERRETDB} => "{module}"\n')
    shutil.copy(SOURCES / "go.sum", directory)
    return modules


def _go(go: str, *arguments: str) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    try:
        return subprocess.run(
            [go, *arguments],
            cwd=SOURCES,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
        ).stdout
    except subprocess.CalledProcessError as error:
        last_line = (error.stderr.strip().splitlines() or ["no output"])[-1]
        raise MongoUnavailableError(f"`go {arguments[0]}` failed: {last_line}") from error
    except subprocess.TimeoutExpired as error:
        raise MongoUnavailableError(f"`go {arguments[0]}` took over {BUILD_TIMEOUT_S:.0f} s") from error


class MongoServer:
    """A MongoDB server process on loopback that a test may stop, kill and start again.

    The first `start` takes a free port; port and data then stay the same through every stop and start. The
    process ends when this one does, even when this one is killed. `bare` serves FerretDB without its gate:
    updates are then not atomic.
    """

    def __init__(self, program: Program, *, data_dir: Path, bare: bool = False) -> None:
        if bare and program.kind != "ferretdb":
            raise ValueError("only FerretDB has a gate to leave out")
        self.program = program
        self.data_dir = data_dir
        self._bare = bare
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """`mongodb://127.0.0.1:PORT/`, known from the first start on."""
        if not self._port:
            raise RuntimeError("the server was never started")
        return f"mongodb://127.0.0.1:{self._port}/"

    @property
    def pid(self) -> int:
        """Of the running server, for signals. Raises RuntimeError while it is not running."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    @property
    def log(self) -> Path:
        """The file that all its starts write to."""
        return self.data_dir / "server.log"

    def start(self) -> None:
        """Start and wait until it serves. Raises RuntimeError with the end of its log if it does not."""
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError("the server is already running")
        self.kill()  # what is left of one that ended by itself
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            start = self._start_mongod if self.program.kind == "mongod" else self._start_ferretdb
            ready = start(log)
        if not ready:
            self.kill()
            raise RuntimeError(f"{self.program.path.name} does not serve: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it in good order; kill it if that takes more than STOP_TIMEOUT_S. Nothing if not running."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """End it by SIGKILL. Nothing if not running."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        with self._process:  # closes the pipes and waits
            self._process = None

    def _spawn(self, command: list[str], *, stdout: IO[str] | int, stderr: IO[str]) -> subprocess.Popen[str]:
        # A group of its own: Ctrl-C is for the test run, which still needs its server to clean up.
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            text=True,
            process_group=0,
            env={**os.environ, "GOGC": GO_COLLECTS_AT},
        )

    def _start_ferretdb(self, log: IO[str]) -> bool:
        command = [str(self.program.path), "--data-dir", str(self.data_dir), "--port", str(self._port)]
        if self._bare:
            command.append("--bare")
        self._process = self._spawn(command, stdout=subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline() if selector.select(START_TIMEOUT_S) else ""
        if port := re.search(r":(\d+)/", line):
            self._port = int(port[1])
        return port is not None

    def _start_mongod(self, log: IO[str]) -> bool:
        self._port = self._port or free_port()
        database_dir = self.data_dir / "databases"
        database_dir.mkdir(exist_ok=True)
        mongod = [str(self.program.path), "--dbpath", str(database_dir), "--nounixsocket", "--quiet"]
        address = ["--bind_ip", "127.0.0.1", "--port", str(self._port)]
        shell = ["/bin/sh", "-c", _MONGOD_THAT_ENDS_WITH_STDIN, "sh"]
        self._process = self._spawn([*shell, *mongod, *address], stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        with MongoClient[dict[str, object]](self.url, serverSelectionTimeoutMS=500) as client:
            while self._process.poll() is None and time.monotonic() < deadline:
                try:
                    client.admin.command("ping")
                except ConnectionFailure:
                    continue
                return True
        return False

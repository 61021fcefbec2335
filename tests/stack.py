"""The service as separate processes, for tests: `python -m server ROLE`, with a Redis of their own."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc.aio
from image.v1 import image_service_pb2_grpc
from task.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc

from server.queue.keys import DEFAULT_PREFIX
from tests.nursery import shared_nursery
from tests.redis_server import RedisServer, assert_no_leaked_keys

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
LEASE_S = 15.0
"""The default of LEASE_SECONDS."""
TERMINAL = frozenset(
    {task_pb2.TASK_STATE_COMPLETED, task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_CANCELLED}
)


class ServiceProcess:
    """One process of the service, in a directory and with an environment of its own."""

    def __init__(
        self,
        role: str,
        *,
        directory: Path,
        environment: dict[str, str],
        fresh: bool = True,
        program: Sequence[str] = (),
    ) -> None:
        """Start it and return when it is ready. RuntimeError with its log when it ended instead.

        `fresh` starts an interpreter, as production does; else one that has imported everything is forked.
        `program` is the module that runs, with its arguments: one that takes `--ready-fd` like the service.
        """
        self.role = role
        self.log_path = directory / f"{role}-{time.monotonic_ns()}.log"
        module, *arguments = program or ("server", role)
        self._process = shared_nursery().start(
            *arguments,
            directory=directory,
            environment=environment,
            out=self.log_path,
            module=module,
            fresh=fresh,
        )
        try:
            line = self._process.ready(START_TIMEOUT_S)
        except BaseException:  # a time limit, say: nobody else knows of the process
            self.kill()
            raise
        if not line:
            self.kill()
            raise RuntimeError(f"{role} did not start:\n{self.log()}")
        ports = json.loads(line)
        self.grpc_port: int = ports["grpc_port"]
        self.http_port: int = ports["http_port"]

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def target(self) -> str:
        """Where its gRPC server is."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def http(self) -> str:
        """Where its side port is."""
        return f"http://127.0.0.1:{self.http_port}"

    def log(self) -> str:
        """What it has logged so far."""
        return self.log_path.read_text(errors="replace")

    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL it and wait until it is gone."""
        if self.running():
            self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for its end; the exit code."""
        return self._process.wait(timeout_s)

    def stop(self) -> int:
        """SIGTERM it and wait for its end; the exit code."""
        if self.running():
            self._process.terminate()
        return self._process.wait(STOP_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Calls:
    """Stubs over one channel."""

    channel: grpc.aio.Channel
    images: image_service_pb2_grpc.ImageServiceStub
    tasks: task_service_pb2_grpc.TaskServiceStub

    async def ended(self, task_id: str, *, timeout_s: float = 60.0) -> task_pb2.Task:
        """The task at its end. TimeoutError when it does not come in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            request = task_service_pb2.WaitTaskRequest(task_id=task_id)
            request.wait.FromMilliseconds(round(1000 * min(50.0, deadline - time.monotonic())))
            task = (await self.tasks.WaitTask(request)).task
            if task.state in TERMINAL:
                return task
        raise TimeoutError(f"task {task_id} has not ended within {timeout_s} s")


class Stack:
    """Starts processes of one deployment: one Redis, one store, one directory. Use `running_stack`."""

    def __init__(self, directory: Path, redis: RedisServer, store_url: str, settings: dict[str, str]) -> None:
        shared_nursery()  # its start is no part of any process' start
        self.directory = directory
        self.redis = redis
        self.store_url = store_url
        self._settings = settings
        self._processes: list[ServiceProcess] = []

    def start(
        self, role: str, *, fresh: bool = False, program: Sequence[str] = (), **settings: str
    ) -> ServiceProcess:
        """Start `api` or `worker` and return when it is ready. Settings by their names in capitals.

        Forked, unless it shall be `fresh`. A `program` is a module, with its arguments, that runs the role in
        a way of its own.
        """
        environment = {
            "GRPC_PORT": "0",
            "HTTP_PORT": "0",
            "DATA_DIR": str(self.directory / "data"),
            "REDIS_URL": self.redis.url,
            "STORE_URL": self.store_url,
            "SHUTDOWN_GRACE_SECONDS": "10",
            **self._settings,
            **settings,
        }
        process = ServiceProcess(
            role,
            directory=self.directory,
            environment=environment,
            fresh=fresh,
            program=program,
        )
        self._processes.append(process)
        return process

    def leaves_nothing(self) -> None:
        """Unless tasks are unended, soon the queue holds only its singletons. AssertionError if it does not.

        Asked only where somebody can clear up, and of SQLite: over other stores tests say it themselves.
        """
        clearing_up = any(process.role == "worker" and process.running() for process in self._processes)
        if clearing_up and self.redis.running and self.store_url.startswith("sqlite:") and self._all_ended():
            until_no_leaked_keys(self)

    def _all_ended(self) -> bool:
        path = Path(urlsplit(self.store_url).path)
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            unended = db.execute("SELECT 1 FROM tasks WHERE state IN ('PENDING', 'PROCESSING') LIMIT 1")
            return unended.fetchone() is None

    def close(self) -> None:
        """Kill what still runs, all of it, and raise what went wrong with that."""
        with ExitStack() as ending:
            for process in self._processes:
                ending.callback(process.kill)


@contextmanager
def running_stack(*, store_url: str = "", **settings: str) -> Iterator[Stack]:
    """A deployment without processes yet; SQLite unless a store is named. Everything is gone at the end."""
    directory = Path(tempfile.mkdtemp(prefix="stack-"))
    (directory / "data").mkdir()
    with RedisServer() as redis:
        stack = Stack(directory, redis, store_url or f"sqlite://{directory}/data/tasks.db", settings)
        try:
            yield stack
            stack.leaves_nothing()
        finally:
            try:
                stack.close()
            finally:
                shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def calling(process: ServiceProcess) -> AsyncIterator[Calls]:
    """Stubs that call this API process."""
    options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
    async with grpc.aio.insecure_channel(process.target, options=options) as channel:
        yield Calls(
            channel,
            image_service_pb2_grpc.ImageServiceStub(channel),
            task_service_pb2_grpc.TaskServiceStub(channel),
        )


async def no_leaked_keys(stack: Stack) -> None:
    """Every task has ended: soon the queue holds only its singletons. AssertionError if it does not."""
    await asyncio.to_thread(until_no_leaked_keys, stack)


def until_no_leaked_keys(stack: Stack) -> None:
    """The same, to be called where nothing else is to go on meanwhile.

    Soon, not at once: a task that was put in line twice is taken out by the worker that claims it, and one
    that the sweep put back while it ended, when its lease is over.
    """
    deadline = time.monotonic() + LEASE_S + 5.0
    while True:
        try:
            assert_no_leaked_keys(stack.redis.url, DEFAULT_PREFIX)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return

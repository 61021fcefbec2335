"""The whole service on one machine: a supervisor with its children.

Without REDIS_URL and STORE_URL it brings a Redis of its own (append-only file), SQLite and a directory of
outputs, all under DATA_DIR. A child that dies is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import quote

from msgspec.structs import replace

from server.processes import KILL_AFTER_S, Child, OwnRedis, Ports, StackError, stop_all
from server.settings import Settings
from server.stopping import before, cancelled, until


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


@asynccontextmanager
async def running(
    settings: Settings, hurry: asyncio.Event
) -> AsyncIterator[tuple[Ports, Sequence[asyncio.Task[None]]]]:
    """The service as one supervised stack; everything is stopped, in order, on leaving. Raises StackError.

    Once `hurry` is set, who still works is not waited for: on Linux it dies with this process.

    With its ports come the tasks that supervise it: one that ends has run into a bug.

    The children are forked from here: a process that itself uses gRPC takes `child_stack`.
    """
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(sole_use(settings.data_dir))
        supervised: list[OwnRedis | Child] = []
        redis_url = settings.redis_url
        if not redis_url:
            redis = OwnRedis(settings.data_dir)
            stack.push_async_callback(redis.stop)
            await redis.start()
            supervised.append(redis)
            redis_url = redis.url
        data_dir = settings.data_dir.resolve()
        environment = {
            **os.environ,
            **settings.as_environment(),
            "REDIS_URL": redis_url,
            "STORE_URL": settings.store_url or f"sqlite://{quote(str(data_dir / 'tasks.db'))}",
            "DATA_DIR": str(data_dir),
            "OUTPUT_URL": settings.output_url,
        }
        api = Child("api", ["api"], environment)
        worker = Child("worker", ["worker"], environment | {"HTTP_PORT": "0"})

        async def stop_children() -> None:
            await before(hurry, stop_all((api, worker), settings.grace_s + KILL_AFTER_S))

        stack.push_async_callback(stop_children)
        ports, *_ = _all_started(await asyncio.gather(api.start(), worker.start(), return_exceptions=True))
        api.keep_ports(ports)  # a restarted API must be found where it was
        supervised += (api, worker)
        supervising = [asyncio.create_task(part.supervise(), name="supervise") for part in supervised]
        try:
            yield replace(ports, worker_pid=worker.pid), supervising
        finally:
            await cancelled(supervising)


def _all_started(results: Sequence[Ports | BaseException]) -> list[Ports]:
    """The ports of all; raises what the first that did not start ended with."""
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, Ports)]


@asynccontextmanager
async def child_stack(settings: Settings) -> AsyncIterator[Ports]:
    """`python -m server all` as a child of this process, stopped on leaving. Raises StackError."""
    child = Child("stack", ["all"], {**os.environ, **settings.as_environment()})
    try:
        yield await child.start()
    finally:
        await child.stop(settings.grace_s + 2 * KILL_AFTER_S)  # it has children of its own


def run_all(settings: Settings, *, ready_fd: int | None) -> int:
    """Run the stack until SIGTERM or Ctrl-C; returns the exit code."""
    try:
        asyncio.run(_run_all(settings, ready_fd))
    except StackError as error:
        print(f"Cannot start: {error}", file=sys.stderr)
        return 2
    except _Stopped:
        pass
    return 0


class _Stopped(Exception):
    """A stop was asked for while the stack was starting."""


async def _run_all(settings: Settings, ready_fd: int | None) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    main = asyncio.current_task()

    def on_signal() -> None:
        if stop.is_set():
            hurry.set()
            return
        stop.set()
        if main is not None and not started:
            main.cancel()
        elif ready_fd is None:
            print(_farewell(settings), flush=True)

    started = False
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    try:
        async with running(settings, hurry) as (ports, supervising):
            started = True
            _say_ready(ports, ready_fd)
            await until(stop, supervising)
    except asyncio.CancelledError:
        raise _Stopped from None


def _say_ready(ports: Ports, ready_fd: int | None) -> None:
    if ready_fd is None:
        print(_welcome(ports), flush=True)
        return
    announced = {"grpc_port": ports.grpc, "http_port": ports.http, "worker_pid": ports.worker_pid}
    with os.fdopen(ready_fd, "w") as file:
        file.write(json.dumps(announced) + "\n")


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


def _farewell(settings: Settings) -> str:
    return (
        f"Stopping: work under way gets up to {settings.grace_s:g} s (SHUTDOWN_GRACE_SECONDS) to end; "
        "Ctrl-C again stops at once."
    )

"""`python -m server ROLE`: starts one role and turns signals into an orderly stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

# What is imported stays; looking through it again and again takes an eighth of the start.
gc.set_threshold(200_000, 10, 10)

from server import logs  # noqa: E402
from server.settings import Settings, SettingsError, load, require  # noqa: E402

if TYPE_CHECKING:
    from server.app import Listening, OnReady

Run: TypeAlias = "Callable[[Settings, asyncio.Event, OnReady], Awaitable[None]]"
"""What a role does: `run_api`, `run_worker`."""

ROLES = {
    "api": "serve gRPC and the side port",
    "worker": "run tasks",
    "all": "both, and without REDIS_URL and STORE_URL a Redis and a database of their own under DATA_DIR",
    "demo": "show the service at work on pictures under out/, then stop",
    "queue-status": "print what is in the queue",
    "queue-clear": "empty the queue; the sweep brings every unfinished task back from the store",
}

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a role; returns the exit code: 0 stopped as asked, 1 failed, 2 wrong settings or arguments."""
    parser = argparse.ArgumentParser(prog="python -m server", description="The image-generation service.")
    parser.set_defaults(one_of_several=0)  # of the roles that cannot be
    roles = parser.add_subparsers(dest="role", required=True, metavar="ROLE")
    for role, text in ROLES.items():
        options = roles.add_parser(role, help=text, description=text.capitalize() + ".")
        options.add_argument(
            "--ready-fd",
            type=int,
            metavar="FD",
            help="write the ports as one line of JSON to this open file descriptor once listening",
        )
        if role == "api":
            _add_processes(options)
    arguments = parser.parse_args(argv)
    try:
        return _run(arguments)
    except SettingsError as error:
        print(f"The settings are wrong:\n{error}", file=sys.stderr)
        return 2


def _add_processes(api: argparse.ArgumentParser) -> None:
    api.add_argument(
        "--processes",
        type=_at_least_one,
        default=1,
        metavar="N",
        help="so many processes share GRPC_PORT, supervised; default: %(default)s",
    )
    # What the supervisor tells each of them: its number.
    api.add_argument("--one-of-several", type=_at_least_one, default=0, help=argparse.SUPPRESS)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, not {text!r}")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    role: str = arguments.role
    ready_fd: int | None = arguments.ready_fd
    if role == "demo":
        from server.demo import run_demo

        _end_imports()
        return run_demo()
    settings = load()
    begin_logs(settings, role, process=arguments.one_of_several)
    if role == "all":
        from server.embedded import run_all

        _end_imports()
        return run_all(settings, ready_fd=ready_fd)
    if role.startswith("queue-"):
        from server.queue_commands import run_queue_command

        return asyncio.run(run_queue_command(role, settings.redis_url, settings.data_dir))
    require(settings, "store_url", "redis_url")
    return run_until_stopped(_work_of(arguments), settings, ready_fd, role=role)


def _work_of(arguments: argparse.Namespace) -> Run:
    from server.app import run_api, run_worker

    if arguments.role == "worker":
        return run_worker
    if arguments.processes > 1:
        from server.api_processes import run_api_processes

        return partial(run_api_processes, processes=arguments.processes)
    return partial(run_api, one_of_several=arguments.one_of_several > 0)


def begin_logs(settings: Settings, role: str, *, process: int = 0) -> None:
    """Log as the settings say, in the name of the role, and of the process when it is one of several.

    Raises SettingsError.
    """
    try:
        logs.configure(
            level=settings.log_level,
            form=settings.log_format,
            directory=settings.log_dir,
            keep_days=settings.log_keep_days,
            app=settings.app_name,
            version=settings.app_version,
            role=role,
            process=process,
        )
    except OSError as error:
        raise SettingsError(f"LOG_DIR: {settings.log_dir} cannot be written: {error.strerror}") from error


def run_until_stopped(run: Run, settings: Settings, ready_fd: int | None, *, role: str) -> int:
    """Run a process of the service until it is told to stop; returns the exit code, as `main` does."""
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if role == "worker":
        # Saves 5-10 % of a worker's CPU. An api's calls get slower by it: gRPC has a poller of its own.
        import uvloop

        loop_factory = uvloop.new_event_loop
    _end_imports()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        code = runner.run(_serve(run, settings, ready_fd))
    # What is left waits for threads. Should one be stuck, the next signal ends the process: uvloop leaves
    # handlers behind that swallow it, and Python's own for SIGINT only breaks off one wait of several.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    return code


async def _serve(run: Run, settings: Settings, ready_fd: int | None) -> int:
    import structlog

    from server.parts import StartError, StoppedWhileStarting

    log = structlog.get_logger("server")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)

    def on_ready(listening: Listening) -> None:
        ports = {"grpc_port": listening.grpc_port, "http_port": listening.http_port}
        log.info("listening", **{name: port for name, port in ports.items() if port})
        if ready_fd is not None:
            # Who asked may be stopping, and not read it any more.
            with contextlib.suppress(BrokenPipeError), os.fdopen(ready_fd, "w") as file:
                file.write(json.dumps(ports) + "\n")
        gc.freeze()  # as after the imports

    try:
        await run(settings, stop, on_ready)
    except StartError as error:
        print(f"Cannot start: {error}", file=sys.stderr)
        return 2
    except StoppedWhileStarting:
        log.info("stopped before everything was open")
        return 0
    except Exception:  # a log line, redacted, in place of a raw traceback
        log.exception("the process ends: it ran into a bug")
        return 1
    log.info("stopped")
    return 0


def _end_imports() -> None:
    """Spare the loop the garbage collector's full passes, which take as long as all that lives is large.

    With ten thousand waiting calls one takes half a second, and by default there are several a minute. What
    is there now lives as long as the process: it is not looked at again. Else a full pass comes when a
    million containers more were made than dropped.
    """
    gc.freeze()
    gc.set_threshold(5_000, 10, 20)


if __name__ == "__main__":
    sys.exit(main())

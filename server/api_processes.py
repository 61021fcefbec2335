"""The api as several processes that share GRPC_PORT, under a supervisor that answers on HTTP_PORT for all.

The children are interpreters of their own, not forks: gRPC's threads do not survive a fork, and a child must
be able to start again at any time.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack

import structlog

from server.app import Listening, OnReady
from server.joint_side_port import JointSidePort
from server.parts import HOST, LOOPBACK, StartError, StoppedWhileStarting, listen, taken
from server.processes import KILL_AFTER_S, Child, StackError, stop_all
from server.settings import Settings
from server.shared_port import held_port
from server.stopping import before, cancelled, until


async def run_api_processes(
    settings: Settings, stop: asyncio.Event, on_ready: OnReady, *, processes: int
) -> None:
    """Be so many api processes until `stop` is set, then let all drain. One that dies starts again."""
    if sys.platform != "linux":
        raise StartError("--processes: more than one needs Linux, which spreads the connections of one port")
    log = structlog.get_logger(__name__)
    async with AsyncExitStack() as stack:
        try:
            grpc_port = stack.enter_context(held_port(settings.grpc_port))
        except OSError as error:
            raise taken("GRPC_PORT", settings.grpc_port) from error
        children: dict[str, Child] = {}

        def side_ports() -> dict[str, str]:
            listening = ((name, child.listening) for name, child in children.items())
            return {name: f"http://{LOOPBACK}:{ports.http}" for name, ports in listening if ports}

        side = JointSidePort(side_ports, processes=processes)
        stack.push_async_callback(side.stop)
        http_port = await listen(side.start(HOST, settings.http_port), "HTTP_PORT", settings.http_port)
        environment = {
            **os.environ,
            **settings.as_environment(),
            "GRPC_PORT": str(grpc_port),
            "HTTP_PORT": "0",  # one of its own for each start: who is dead refuses
            "PUBLIC_URL": settings.public_url or f"http://localhost:{http_port}",
        }
        for number in range(1, processes + 1):
            name = str(number)
            children[name] = Child(
                f"api-{name}",
                ["api", "--one-of-several", name],
                environment,
                start_timeout_s=None,  # as a single api waits for its store: alive, and not ready
            )
        stack.push_async_callback(stop_all, list(children.values()), settings.grace_s + KILL_AFTER_S)
        supervising: list[asyncio.Task[None]] = []
        try:
            if not await before(stop, _start(children.values(), supervising)):
                raise StoppedWhileStarting
            on_ready(Listening(grpc_port=grpc_port, http_port=http_port))
            await until(stop, supervising)
            log.info("draining", grace_s=settings.grace_s)
            side.draining = True
        except StackError as error:
            raise StartError(str(error)) from error
        finally:
            await cancelled(supervising)


async def _start(children: Iterable[Child], supervising: list[asyncio.Task[None]]) -> None:
    """Start them, and supervise each as soon as it runs.

    The first alone: what is wrong with the settings is said once, and one brings a store up to date.
    """

    async def start(child: Child) -> None:
        await child.start()
        supervising.append(asyncio.create_task(child.supervise(), name="supervise"))

    first, *others = children
    await start(first)
    for result in await asyncio.gather(*(start(child) for child in others), return_exceptions=True):
        if isinstance(result, BaseException):
            raise result

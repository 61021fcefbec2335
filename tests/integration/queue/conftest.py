"""The queue's tests run on a redis-server with keys of their own; some on every one within reach."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack

import pytest

from server.queue.connection import open_client
from server.queue.keys import QueueKeys
from server.queue.scripts import Scripts
from server.queue.task_queue import RedisTaskQueue
from tests.integration.queue.board import Board
from tests.redis_server import RedisServer, redis_executables


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module with EVERY_REDIS runs on every executable, any other on the first.

    The older Redis may differ in what the scripts' commands answer and in what keys take; the stories told in
    Python about the queue as a whole build on nothing else.
    """
    if "redis_server" in metafunc.fixturenames:
        executables = redis_executables()
        chosen = executables if getattr(metafunc.module, "EVERY_REDIS", False) else executables[:1]
        ids = [path.split("/")[-3] for path in chosen]
        metafunc.parametrize("redis_server", chosen, ids=ids, indirect=True)


@pytest.fixture(scope="session")
def redis_servers() -> Iterator[Callable[[str], RedisServer]]:
    """Gives one server per executable, for this folder alone; each is started when it is asked for."""
    with ExitStack() as stack:
        yield functools.cache(lambda executable: stack.enter_context(RedisServer(executable)))


@pytest.fixture
def redis_server(request: pytest.FixtureRequest, redis_servers: Callable[[str], RedisServer]) -> RedisServer:
    """The server of the executable that the test runs on."""
    return redis_servers(request.param)


@pytest.fixture
async def board(redis_url: str, redis_prefix: str) -> AsyncIterator[Board]:
    """The keys behind the test's prefix."""
    client = open_client(redis_url, timeout_s=5.0)
    yield Board(client, QueueKeys(redis_prefix))
    await client.aclose()


@pytest.fixture
def scripts(board: Board) -> Scripts:
    """The scripts, on the same keys."""
    return Scripts(board.client, board.keys)


@pytest.fixture
async def queue(redis_url: str, redis_prefix: str) -> AsyncIterator[RedisTaskQueue]:
    """The queue, on the same keys."""
    queue = await RedisTaskQueue.connect(redis_url, prefix=redis_prefix)
    yield queue
    await queue.aclose()

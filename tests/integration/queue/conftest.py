"""The queue's tests run on every redis-server within reach, each with keys of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from server.queue.connection import open_client
from server.queue.keys import QueueKeys
from server.queue.scripts import Scripts
from server.queue.task_queue import RedisTaskQueue
from tests.integration.queue.board import Board
from tests.redis_server import RedisServer, redis_executables


@pytest.fixture(scope="session", params=redis_executables(), ids=lambda path: path.split("/")[-3])
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One server per executable, for this folder alone."""
    with RedisServer(str(request.param)) as server:
        yield server


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

"""What a client of Redis leaves behind when it is closed: nothing, whatever was under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
import redis
import uvloop

from server.ports import QueueUnavailable
from server.queue.connection import open_client, translated
from tests.redis_server import RedisServer

MOST_STEPS = 200
"""Of the event loop, that a first command may take: connecting takes some forty."""

SEEN_BY_THE_SERVER_S = 5.0


async def closed_after(steps: int, url: str) -> bool:
    """Close a client `steps` steps after its first command began; whether that was carried out by then."""
    client = open_client(url, timeout_s=5.0)

    async def ask() -> bool:
        with translated():
            return bool(await client.exists("no-such-key"))

    asking = asyncio.create_task(ask(), name="ask")
    for _ in range(steps):
        await asyncio.sleep(0)
    over = asking.done()
    await client.aclose()
    await asyncio.wait({asking})
    error = asking.exception()
    assert error is None or isinstance(error, QueueUnavailable), error
    return over


@pytest.mark.parametrize("new_event_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_closing_leaves_no_connection_at_whatever_moment_it_comes(
    redis_server: RedisServer, new_event_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with (
        RedisServer(redis_server.executable) as server,
        asyncio.Runner(loop_factory=new_event_loop) as runner,
        redis.Redis.from_url(server.url) as witness,
    ):
        for steps in range(MOST_STEPS):
            over = runner.run(closed_after(steps, server.url))
            gone_s = time.monotonic() + SEEN_BY_THE_SERVER_S
            while left := [one for one in witness.client_list() if one["id"] != str(witness.client_id())]:
                assert time.monotonic() < gone_s, f"closed {steps} steps after a command began: {left}"
            if over:
                break
        assert over, f"no command was carried out within {MOST_STEPS} steps"


async def test_a_closed_client_connects_no_more(redis_url: str) -> None:
    client = open_client(redis_url, timeout_s=5.0)
    assert await client.ping()
    await client.aclose()
    with pytest.raises(QueueUnavailable, match="closed"), translated():
        await client.ping()
    await client.aclose()

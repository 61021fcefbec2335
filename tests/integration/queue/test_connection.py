"""What a client of Redis leaves behind when it is closed: nothing, whatever was under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
import uvloop
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from server.ports import QueueUnavailable
from server.queue.connection import open_client, translated
from tests.redis_server import RedisServer

Ask = Callable[[Redis], Awaitable[object]]

STEPS = (*range(60), *(60 << more for more in range(10)))
"""Of the event loop. Connecting takes some thirty; those that wait for Redis are many, and alike."""

SEEN_BY_THE_SERVER_S = 5.0


async def look(client: Redis) -> object:
    return await client.exists("no-such-key")


async def connect_and_wait(client: Redis) -> object:
    await look(client)
    return await client.blpop(["no-such-key"], timeout=600)


async def look_twice(client: Redis) -> object:
    await look(client)
    return await look(client)


async def close_after(steps: int, url: str, ask: Ask) -> None:
    """Close a client so many steps after it began to ask."""
    client = open_client(url, timeout_s=None)

    async def asks() -> None:
        with translated():
            await ask(client)

    asking = asyncio.create_task(asks(), name="ask")
    for _ in range(steps):
        await asyncio.sleep(0)
    await client.aclose()
    async with asyncio.timeout(SEEN_BY_THE_SERVER_S):
        (ended,) = await asyncio.gather(asking, return_exceptions=True)
    assert ended is None or isinstance(ended, QueueUnavailable), f"closed after {steps} steps: {ended!r}"


@pytest.mark.timeout(60, method="thread")  # uvloop may wait for a connection that was left, deaf to signals
@pytest.mark.parametrize("ask", [look, look_twice, connect_and_wait])
@pytest.mark.parametrize("new_event_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_closing_leaves_no_connection_at_whatever_moment_it_comes(
    redis_server: RedisServer, new_event_loop: Callable[[], asyncio.AbstractEventLoop], ask: Ask
) -> None:
    with (
        RedisServer(redis_server.executable) as server,
        asyncio.Runner(loop_factory=new_event_loop) as runner,
        redis.Redis.from_url(server.url) as witness,
    ):
        for steps in STEPS:
            runner.run(close_after(steps, server.url, ask))
            gone_s = time.monotonic() + SEEN_BY_THE_SERVER_S
            while left := [one for one in witness.client_list() if one["id"] != str(witness.client_id())]:
                assert time.monotonic() < gone_s, f"closed after {steps} steps: {left}"


async def test_a_closed_client_connects_no_more(redis_url: str) -> None:
    client = open_client(redis_url, timeout_s=5.0)
    assert await client.ping()
    await client.aclose()
    with pytest.raises(QueueUnavailable, match="closed"), translated():
        await client.ping()
    await client.aclose()


@pytest.mark.parametrize(
    "command",
    [
        ("PING",),
        ("CONFIG GET", "maxmemory*"),
        ("ECHO", "一只小猫"),
        ("ECHO", b"\x00\xff\r\n"),
        ("SET", "key", 1.5, "PX", 30_000),
        ("EVALSHA", "0" * 40, 1, "{imagegen}:jobs", "", "a b", -7),
        ("ECHO", "x" * 100_000),
    ],
    ids=lambda command: command[0],
)
def test_a_command_is_packed_as_redis_py_would(command: tuple[Any, ...]) -> None:
    client = open_client("redis://127.0.0.1", timeout_s=1)
    connection = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    theirs = AbstractConnection.pack_command(connection, *command)
    assert b"".join(connection.pack_command(*command)) == b"".join(theirs)


@pytest.mark.parametrize("argument", [None, True, ["a"]])
async def test_what_cannot_be_sent_is_no_outage(redis_url: str, argument: Any) -> None:
    client = open_client(redis_url, timeout_s=5)
    with pytest.raises(TypeError), translated():
        await client.echo(argument)
    assert await client.echo("a") == "a"
    await client.aclose()

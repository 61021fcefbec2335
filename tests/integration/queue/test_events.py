"""Wake-ups: what is announced is heard, and a connection that is lost is made again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from server.domain.task import Priority
from server.ports import Entry, Lane, Pool
from server.queue.events import RedisTaskEvents
from server.queue.scripts import Expired, Over
from server.queue.task_queue import RedisTaskQueue
from tests.integration.queue.board import Board
from tests.redis_server import RedisServer
from tests.waiting import until, until_async

ME = "worker-1"
POOL = Pool(code="lo", lanes=(Lane(name="local", limit=10),))


class Listener:
    """Collects what it is told, call by call."""

    def __init__(self, events: RedisTaskEvents) -> None:
        self.events = events
        self.heard: list[list[str]] = []

    def on_change(self, task_ids: Sequence[str]) -> None:
        self.heard.append(list(task_ids))


@asynccontextmanager
async def listening(url: str, prefix: str, *, silence_s: float = 5.0) -> AsyncIterator[Listener]:
    listener = Listener(RedisTaskEvents(url, prefix=prefix, silence_s=silence_s))
    task = asyncio.create_task(listener.events.listen(listener.on_change), name="listen")
    try:
        await until(lambda: listener.events.connected, within_s=10)
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not listener.events.connected


async def test_scripts_tell_once_per_call_of_all_that_changed(
    queue: RedisTaskQueue, redis_url: str, redis_prefix: str
) -> None:
    entries = [Entry(task_id=f"t{n}", pool="lo", priority=Priority.LOW, caller="ann") for n in range(4)]
    async with listening(redis_url, redis_prefix) as listener:
        await queue.enqueue(entries)
        await queue.claim(worker=ME, free=3, pools=[POOL], lease_ms=60_000)
        await queue.announce(["t0"])
        await queue.finish(worker=ME, task_ids=["t0", "t1", "t2"])
        await queue.finish(worker="worker-9", task_ids=["t3"])
        await queue.discard(["t3"])
        await queue.claim(worker=ME, free=1, pools=[POOL], lease_ms=60_000, over=["t4", "t5"])
        await until(lambda: len(listener.heard) == 5, within_s=10)
    assert listener.heard == [["t0"], ["t0", "t1", "t2"], ["t3"], ["t3"], ["t4", "t5"]]


async def test_a_verdict_that_a_task_is_over_is_told(
    queue: RedisTaskQueue, redis_url: str, redis_prefix: str
) -> None:
    await queue.enqueue([Entry(task_id="t1", pool="lo", priority=Priority.LOW, caller="ann")])
    await queue.claim(worker=ME, free=1, pools=[POOL], lease_ms=0)
    async with listening(redis_url, redis_prefix) as listener:
        lease = Expired(task_id="t1", token=ME)
        assert await queue.recovery.resolve_expired([(lease, Over())], lease_ms=1) == 1
        await until(lambda: listener.heard == [["t1"]], within_s=10)


async def test_other_prefixes_are_not_heard(queue: RedisTaskQueue, redis_url: str, redis_prefix: str) -> None:
    async with (
        listening(redis_url, "{another}:") as stranger,
        listening(redis_url, redis_prefix) as listener,
    ):
        await queue.announce(["t1"])
        await until(lambda: listener.heard == [["t1"]], within_s=10)
    assert stranger.heard == []


async def test_reconnects_after_a_restart(redis_server: RedisServer) -> None:
    with RedisServer(redis_server.executable) as server:
        queue = RedisTaskQueue(server.url)
        async with listening(server.url, "{imagegen}:") as listener:
            server.kill()
            await until(lambda: not listener.events.connected, within_s=10)
            server.start()
            await until(lambda: listener.events.connected, within_s=10)
            await queue.announce(["t1"])
            await until(lambda: listener.heard == [["t1"]], within_s=10)
            assert listener.events.connections == 2
        await queue.aclose()


async def test_a_redis_that_hangs_counts_as_away(redis_server: RedisServer) -> None:
    with RedisServer(redis_server.executable) as server:
        async with listening(server.url, "{imagegen}:", silence_s=0.1) as listener:
            server.pause()
            await until(lambda: not listener.events.connected, within_s=10)
            server.resume()
            await until(lambda: listener.events.connected, within_s=10)


async def test_a_peer_that_accepts_and_does_not_answer_counts_as_away(redis_server: RedisServer) -> None:
    accepted: list[asyncio.StreamWriter] = []

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)

    with RedisServer(redis_server.executable) as server:
        path = urlsplit(server.url).path
        async with listening(server.url, "{imagegen}:", silence_s=0.1) as listener:
            server.kill()
            peer = await asyncio.start_unix_server(accept, path)
            try:
                # The first finds the connection lost in mid-read, the others subscribe anew.
                await until(lambda: len(accepted) >= 3, within_s=10, what="another try")
                assert not listener.events.connected
            finally:  # a loop does not close over a server that is open
                peer.close()
                for writer in accepted:
                    writer.close()
            os.unlink(path)
            server.start()
            await until(lambda: listener.events.connected, within_s=10)


async def test_silence_alone_does_not_disconnect(board: Board, redis_url: str, redis_prefix: str) -> None:
    async def pings() -> int:
        return int((await board.client.info("commandstats")).get("cmdstat_ping", {"calls": 0})["calls"])

    async def connections() -> int:
        return int((await board.client.info("stats"))["total_connections_received"])

    async with listening(redis_url, redis_prefix, silence_s=0.1) as listener:
        before = await pings(), await connections()

        async def pinged_again() -> bool:
            return await pings() >= before[0] + 5

        await until_async(pinged_again, within_s=10)
        assert listener.events.connected
        assert await connections() == before[1]

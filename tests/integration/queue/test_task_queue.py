"""The queue as its callers see it: batches, waiting, and a Redis that is unsuitable, slow or away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from server.domain.task import Priority
from server.ports import Entry, Lane, Pool, QueueStats, QueueUnavailable
from server.queue.connection import CONNECTIONS, UnsuitableRedis, open_client
from server.queue.keys import QueueKeys, line_of
from server.queue.task_queue import BATCH, LONGEST_BLOCK_S, RedisTaskQueue
from tests.integration.queue.board import Board
from tests.redis_server import RedisServer, assert_no_leaked_keys
from tests.waiting import until_async

ME = "worker-1"
OTHER = "worker-2"
LEASE_MS = 60_000
POOL = Pool(code="lo", lanes=(Lane(name="local", limit=100_000),))


def entry(task_id: str, *, delay_ms: int = 0, lane: str = "") -> Entry:
    return Entry(
        task_id=task_id, pool="lo", priority=Priority.DEFAULT, caller="ann", delay_ms=delay_ms, lane=lane
    )


@pytest.fixture
async def own_server(redis_server: RedisServer) -> AsyncIterator[RedisServer]:
    """A server for this test alone, of the same version."""
    with RedisServer(redis_server.executable) as server:
        yield server


@pytest.fixture
async def own_queue(own_server: RedisServer) -> AsyncIterator[RedisTaskQueue]:
    queue = RedisTaskQueue(own_server.url, timeout_s=0.3)
    yield queue
    await queue.aclose()


@pytest.fixture
async def own_board(own_server: RedisServer) -> AsyncIterator[Board]:
    async with open_client(own_server.url, timeout_s=5.0) as client:
        yield Board(client, QueueKeys())


# --- operations ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_leaked_keys")
async def test_a_task_goes_in_and_out_and_leaves_no_key(queue: RedisTaskQueue) -> None:
    await queue.enqueue([entry("t1"), entry("t2", delay_ms=1), entry("t3")])
    held: list[str] = []
    while len(held) < 3:
        claims = await queue.claim(worker=ME, free=3, pools=[POOL], lease_ms=LEASE_MS)
        held += [task.task_id for task in claims.tasks]
    await queue.release(worker=ME, entries=[entry("t1")])
    again = await queue.claim(worker=ME, free=3, pools=[POOL], lease_ms=LEASE_MS)
    assert [task.task_id for task in again.tasks] == ["t1"]
    await queue.hand_over(entry=entry("t1"), worker=ME, owner=OTHER, lease_ms=LEASE_MS)
    await queue.renew(worker=OTHER, entries=[entry("t1", lane="local")], lease_ms=LEASE_MS)
    await queue.finish(worker=ME, task_ids=["t2", "t3"])
    assert await queue.depth() == 1
    await queue.finish(worker=OTHER, task_ids=["t1"])
    assert await queue.depth() == 0


async def test_the_leak_check_finds_a_task_that_nobody_finished(
    queue: RedisTaskQueue, redis_url: str, redis_prefix: str
) -> None:
    await queue.enqueue([entry("t1")])
    with pytest.raises(AssertionError, match="keys without an owner"):
        assert_no_leaked_keys(redis_url, redis_prefix)


async def test_more_than_a_batch_travels_in_several_calls(queue: RedisTaskQueue, board: Board) -> None:
    ids = [f"t{n:05}" for n in range(2 * BATCH + 7)]
    await queue.enqueue([entry(task_id) for task_id in ids])
    await queue.enqueue([entry(task_id) for task_id in ids])
    assert await queue.depth() == len(ids)

    claimed: list[str] = []
    while claims := (await queue.claim(worker=ME, free=BATCH, pools=[POOL], lease_ms=LEASE_MS)).tasks:
        claimed += [task.task_id for task in claims]
    assert claimed == ids, "in the order of their enqueue, each once"

    await queue.renew(worker=ME, entries=[entry(i, lane="local") for i in ids], lease_ms=LEASE_MS)
    await queue.release(worker=ME, entries=[entry(task_id) for task_id in ids[:BATCH]])
    await queue.finish(worker=ME, task_ids=ids)
    assert await queue.depth() == BATCH
    await queue.discard(ids)
    assert await queue.depth() == 0
    state = await board.read()
    assert not state.leased


async def test_more_than_a_batch_of_ends_travels_before_the_claim(queue: RedisTaskQueue) -> None:
    ids = [f"t{n:05}" for n in range(BATCH + 7)]
    await queue.enqueue([entry(task_id) for task_id in ids])
    for free in (BATCH, 7):
        await queue.claim(worker=ME, free=free, pools=[POOL], lease_ms=LEASE_MS)
    for free in (1, 0):
        await queue.claim(worker=ME, free=free, pools=[POOL], lease_ms=LEASE_MS, over=ids)
        assert await queue.depth() == 0
        await queue.enqueue([entry("late")])
        claims = await queue.claim(worker=ME, free=1, pools=[POOL], lease_ms=LEASE_MS)
        ids = [task.task_id for task in claims.tasks]
        assert ids == ["late"]


async def test_stats(queue: RedisTaskQueue) -> None:
    assert await queue.stats() == QueueStats(ready=0, leased=0, delayed=0, oldest_ready_ms=None)
    now_ms = time.time_ns() // 1_000_000
    old = "0" + _base32(now_ms - 90_000) + "0" * 16
    await queue.enqueue([entry("0" + _base32(now_ms) + "0" * 16), entry("t", delay_ms=60_000)])
    await queue.claim(worker=ME, free=1, pools=[POOL], lease_ms=LEASE_MS)
    await queue.enqueue([entry(old)])
    stats = await queue.stats()
    assert (stats.ready, stats.leased, stats.delayed) == (1, 1, 1)
    assert stats.oldest_ready_ms is not None
    assert 90_000 <= stats.oldest_ready_ms < 100_000


def _base32(number: int) -> str:
    """Nine characters of Crockford's alphabet: the time of a ULID behind its leading zero."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    return "".join(alphabet[number >> shift & 31] for shift in range(40, -1, -5))


@pytest.mark.parametrize("code", ["l", "lo2", "é1"])
async def test_a_pool_code_is_two_ascii_characters(queue: RedisTaskQueue, code: str) -> None:
    with pytest.raises(ValueError, match="2 ASCII characters"):
        await queue.enqueue([Entry(task_id="t", pool=code, priority=Priority.LOW, caller="ann")])
    assert await queue.depth() == 0


async def test_a_worker_id_is_eight_characters(queue: RedisTaskQueue) -> None:
    with pytest.raises(ValueError, match="8 ASCII"):
        await queue.claim(worker="w1", free=1, pools=[POOL], lease_ms=LEASE_MS)


def test_a_prefix_without_a_hash_tag_is_refused() -> None:
    for prefix in ("imagegen:", "{}:", "}{:"):
        with pytest.raises(ValueError, match="hash tag"):
            QueueKeys(prefix)


def test_callers_share_no_line() -> None:
    lines = {line_of(pool="lo", priority=Priority.LOW, caller=f"caller {n}") for n in range(1000)}
    assert len(lines) == 1000
    assert {len(line) for line in lines} == {14}


# --- waiting -----------------------------------------------------------------------------------------------


async def test_a_waiting_worker_is_woken_by_ready_work(queue: RedisTaskQueue, board: Board) -> None:
    waiting = asyncio.create_task(queue.wait_for_work(timeout_s=30), name="waiting")
    await _until_blocked(board)
    start_s = time.monotonic()
    await queue.enqueue([entry("t1")])
    assert await waiting
    assert time.monotonic() - start_s < 1.0


async def test_a_wait_ends_in_time(queue: RedisTaskQueue) -> None:
    start_s = time.monotonic()
    assert not await queue.wait_for_work(timeout_s=0.1)
    assert 0.1 <= time.monotonic() - start_s < 1.0
    assert not await queue.wait_for_work(timeout_s=0)


async def test_a_wait_outlasts_one_block(
    queue: RedisTaskQueue, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.queue.task_queue.LONGEST_BLOCK_S", 0.05)
    assert LONGEST_BLOCK_S == 2.0
    before = await _blocks(board)
    waiting = asyncio.create_task(queue.wait_for_work(timeout_s=30), name="waiting")

    async def blocked_again() -> bool:
        return await _blocks(board) >= before + 4

    await until_async(blocked_again, within_s=10, what="blocks one after the other")
    assert not waiting.done()
    await queue.enqueue([entry("t1")])
    assert await waiting


async def test_a_batch_wakes_as_many_workers_as_it_needs(queue: RedisTaskQueue, board: Board) -> None:
    async def work(worker: str) -> int:
        await queue.wait_for_work(timeout_s=30)
        return len((await queue.claim(worker=worker, free=2, pools=[POOL], lease_ms=LEASE_MS)).tasks)

    workers = [asyncio.create_task(work(f"worker-{n}"), name=f"worker {n}") for n in range(4)]
    await _until_blocked(board, 4)
    start_s = time.monotonic()
    await queue.enqueue([entry(f"t{n}") for n in range(8)])
    assert await asyncio.gather(*workers) == [2, 2, 2, 2]
    assert time.monotonic() - start_s < LONGEST_BLOCK_S


async def _until_blocked(board: Board, count: int = 1) -> None:
    async def blocked() -> bool:
        return int((await board.client.info("clients"))["blocked_clients"]) >= count

    await until_async(blocked, within_s=10)


async def _blocks(board: Board) -> int:
    """How many blocking reads Redis has been asked for."""
    stats = await board.client.info("commandstats")
    return int(stats.get("cmdstat_blpop", {}).get("calls", 0))


# --- a Redis that is not there ------------------------------------------------------------------------------


async def test_a_redis_that_died_is_unavailable_and_comes_back(
    own_queue: RedisTaskQueue, own_server: RedisServer
) -> None:
    await own_queue.enqueue([entry("t1")])
    own_server.kill()
    for operation in (
        own_queue.enqueue([entry("t2")]),
        own_queue.depth(),
        own_queue.discard(["t1"]),
        own_queue.claim(worker=ME, free=1, pools=[POOL], lease_ms=LEASE_MS),
        own_queue.finish(worker=ME, task_ids=["t1"]),
        own_queue.release(worker=ME, entries=[entry("t1")]),
        own_queue.renew(worker=ME, entries=[entry("t1")], lease_ms=LEASE_MS),
        own_queue.hand_over(entry=entry("t1"), worker=ME, owner=OTHER, lease_ms=LEASE_MS),
        own_queue.announce(["t1"]),
        own_queue.wait_for_work(timeout_s=1),
        own_queue.stats(),
        own_queue.check(),
        own_queue.recovery.hold_sweep("holder", ttl_ms=LEASE_MS),
    ):
        with pytest.raises(QueueUnavailable):
            await operation
    own_server.start()
    await own_queue.enqueue([entry("t3")])
    assert await own_queue.depth() == 1


async def test_a_redis_that_hangs_is_unavailable_in_time_and_nothing_is_sent_twice(
    own_queue: RedisTaskQueue, own_server: RedisServer, own_board: Board
) -> None:
    assert await own_queue.depth() == 0
    own_server.pause()
    operation = asyncio.create_task(own_queue.announce(["t1"]), name="announce")
    # Longer than one timeout: a client that repeats its commands would be about to do so.
    await asyncio.wait({operation}, timeout=0.45)
    own_server.resume()
    with pytest.raises(QueueUnavailable):
        await operation
    await own_queue.depth()
    statistics = await own_board.client.info("commandstats")
    assert statistics.get("cmdstat_publish", {"calls": 0})["calls"] <= 1


@pytest.mark.parametrize(("option", "most"), [("", CONNECTIONS), ("?max_connections=3", 3)])
async def test_hundreds_of_commands_at_once_take_turns_on_a_few_connections(
    own_server: RedisServer, own_board: Board, option: str, most: int
) -> None:
    async with aclosing(RedisTaskQueue(own_server.url + option, timeout_s=5.0)) as queue:
        async with asyncio.TaskGroup() as group:  # QueueUnavailable would end it
            for number in range(400):
                group.create_task(queue.enqueue([entry(f"t{number}")]), name="enqueue")
        assert await queue.depth() == 400
        clients = await own_board.client.info("clients")
        assert clients["connected_clients"] <= most + 1, "the board's own is one of them"


async def test_commands_that_wait_for_their_turn_hear_in_time_of_a_redis_that_hangs(
    own_queue: RedisTaskQueue, own_server: RedisServer
) -> None:
    assert await own_queue.depth() == 0
    own_server.pause()
    async with asyncio.timeout(10 * 0.3):
        many = [own_queue.announce(["t1"]) for _ in range(20 * CONNECTIONS)]
        answers = await asyncio.gather(*many, return_exceptions=True)
    assert {type(answer) for answer in answers} == {QueueUnavailable}
    own_server.resume()
    assert await own_queue.depth() == 0


async def test_a_command_that_is_cancelled_gives_its_turn_back(
    own_queue: RedisTaskQueue, own_server: RedisServer
) -> None:
    own_server.pause()
    for _ in range(3):
        many = [asyncio.create_task(own_queue.depth(), name="depth") for _ in range(CONNECTIONS)]
        await asyncio.sleep(0)
        for operation in many:
            operation.cancel()
        await asyncio.wait(many)
    own_server.resume()
    assert await asyncio.gather(*(own_queue.depth() for _ in range(CONNECTIONS))) == [0] * CONNECTIONS


async def test_a_wait_on_a_redis_that_hangs_does_not_last_for_ever(
    own_queue: RedisTaskQueue, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.queue.task_queue.ANSWER_GRACE_S", 0.2)
    assert not await own_queue.wait_for_work(timeout_s=0.05)
    own_server.pause()
    with pytest.raises(QueueUnavailable):
        await own_queue.wait_for_work(timeout_s=0.05)
    own_server.resume()
    assert not await own_queue.wait_for_work(timeout_s=0.05)


async def test_starts_without_redis_and_says_so(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_server.kill()
    with caplog.at_level(logging.WARNING, logger="server.queue"):
        queue = await RedisTaskQueue.connect(own_server.url)
    assert "starting without Redis" in caplog.text
    own_server.start()
    await queue.enqueue([entry("t1")])
    await queue.aclose()


async def test_a_wait_for_a_redis_that_hangs_can_be_cancelled(own_server: RedisServer) -> None:
    async with aclosing(RedisTaskQueue(own_server.url, timeout_s=30)) as queue:
        own_server.pause()
        operation = asyncio.create_task(queue.depth(), name="operation")
        # As long as it takes to stand in the middle of a connect.
        await asyncio.wait({operation}, timeout=0.1)
        operation.cancel()
        await asyncio.wait({operation}, timeout=5)
        assert operation.cancelled()
        own_server.resume()
        assert await queue.depth() == 0


async def test_a_task_that_was_cancelled_can_still_tidy_up(queue: RedisTaskQueue) -> None:
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await queue.enqueue([entry("t1")])
            await queue.enqueue([entry("t2")])

    task = asyncio.create_task(work(), name="work")
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert await queue.depth() == 2


# --- a Redis that will not do -------------------------------------------------------------------------------


async def test_a_redis_that_evicts_is_refused(own_server: RedisServer) -> None:
    client = open_client(own_server.url, timeout_s=5.0)
    await client.config_set("maxmemory-policy", "allkeys-lru")
    await (await RedisTaskQueue.connect(own_server.url)).aclose()

    await client.config_set("maxmemory", 100_000_000)
    with pytest.raises(UnsuitableRedis, match=r"allkeys-lru.*noeviction"):
        await RedisTaskQueue.connect(own_server.url)

    await client.config_set("maxmemory-policy", "noeviction")
    await (await RedisTaskQueue.connect(own_server.url)).aclose()
    await client.aclose()


async def test_a_redis_that_is_too_old_is_refused(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.queue.connection.OLDEST_REDIS", (99, 0))
    with pytest.raises(UnsuitableRedis, match="too old"):
        await RedisTaskQueue.connect(redis_url)


@pytest.mark.parametrize("credentials", ["", ":wrong@"])
async def test_a_redis_that_lets_nobody_in_is_refused(own_server: RedisServer, credentials: str) -> None:
    client = open_client(own_server.url, timeout_s=5.0)
    await client.config_set("requirepass", "right")
    await client.aclose()
    with pytest.raises(UnsuitableRedis, match="password"):
        await RedisTaskQueue.connect(own_server.url.replace("://", f"://{credentials}"))
    right = await RedisTaskQueue.connect(own_server.url.replace("://", "://:right@"))
    await right.aclose()


async def test_a_redis_whose_configuration_is_hidden_is_warned_of(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = open_client(own_server.url, timeout_s=5.0)
    untyped: Any = client
    await untyped.execute_command("ACL", "SETUSER", "default", "-config")
    await client.aclose()
    with caplog.at_level(logging.WARNING, logger="server.queue"):
        queue = await RedisTaskQueue.connect(own_server.url)
    await queue.aclose()
    assert "noeviction" in caplog.text

"""The queue over Redis: `ports.WorkQueue`, one script and one round trip per operation."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ulid import ULID

from server.ports import Claims, Entry, Pool, QueueStats, QueueUnavailable, now_ms
from server.queue.connection import check_server, open_client, translated
from server.queue.keys import DEFAULT_PREFIX, QueueKeys, line_of, token_of
from server.queue.recovery import Recovery
from server.queue.scripts import Placed, Running, Scripts

BATCH = 500
"""Most tasks in one script call, about 2 ms of Redis: larger sequences travel in several calls."""

MOST_SKIPS = 100
MOST_DUE = 100
MOST_PARKED = 10
MOST_SURVEYED_LINES = 1_000

LONGEST_BLOCK_S = 2.0
"""Longest blocking read: a lost token or a vanished connection costs no more than this."""

ANSWER_GRACE_S = 3.0
"""After the block ends, Redis gets this long to say so."""

_log = logging.getLogger(__name__)

T = TypeVar("T")


class RedisTaskQueue:
    """Tasks in Redis lists, by pool, priority and caller.

    Nothing is repeated silently: an error, or no answer within `timeout_s`, raises QueueUnavailable, and the
    command may have been carried out. Every operation may be repeated: a second time changes nothing.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = DEFAULT_PREFIX,
        timeout_s: float = 2.0,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._keys = QueueKeys(prefix)
        self._client = open_client(url, timeout_s=timeout_s)
        self._waiting = open_client(url, timeout_s=None)
        self._scripts = Scripts(self._client, self._keys)
        self._clock = clock
        self.recovery = Recovery(self._client, self._scripts, self._keys)

    @classmethod
    async def connect(
        cls, url: str, *, prefix: str = DEFAULT_PREFIX, timeout_s: float = 2.0
    ) -> RedisTaskQueue:
        """Open the queue and refuse an UnsuitableRedis. One that is away is warned of: it is disposable."""
        queue = cls(url, prefix=prefix, timeout_s=timeout_s)
        try:
            await queue.check()
        except QueueUnavailable as error:
            _log.warning("starting without Redis, tasks will be queued when it is back: %s", error)
        except BaseException:
            await queue.aclose()
            raise
        return queue

    async def check(self) -> None:
        """Return if Redis answers and is one to rely on; else raise QueueUnavailable or UnsuitableRedis."""
        await check_server(self._client)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        await self._waiting.aclose()

    # --- those who submit ---------------------------------------------------------------------------

    async def enqueue(self, entries: Sequence[Entry]) -> None:
        """See SubmitQueue."""
        with translated():
            for batch in _batches([_placed(entry) for entry in entries]):
                await self._scripts.enqueue(batch)

    async def depth(self) -> int:
        """See SubmitQueue."""
        with translated():
            return int(await self._client.hlen(self._keys.named("jobs")))

    async def discard(self, task_ids: Sequence[str]) -> None:
        """See SubmitQueue. Whoever holds them."""
        with translated():
            for batch in _batches(task_ids):
                await self._scripts.discard(batch)

    async def ask_to_cancel(self, task_ids: Sequence[str]) -> None:
        """See SubmitQueue."""
        await self._publish(self._keys.cancels, task_ids)

    # --- workers ------------------------------------------------------------------------------------

    async def claim(
        self,
        *,
        worker: str,
        free: int,
        pools: Sequence[Pool],
        lease_ms: int,
        caller_cap: int = 0,
        over: Sequence[str] = (),
    ) -> Claims:
        """See WorkQueue. At most `BATCH` tasks at a time."""
        if free < 1:
            await self.finish(worker=worker, task_ids=over)
            return Claims(tasks=(), next_due_ms=None)
        await self.finish(worker=worker, task_ids=over[BATCH:])
        with translated():
            next_due_ms, tasks = await self._scripts.claim(
                token=token_of(worker),
                free=min(free, BATCH),
                lease_ms=lease_ms,
                cap=caller_cap,
                pools=pools,
                most_skips=MOST_SKIPS,
                most_due=MOST_DUE,
                most_parked=MOST_PARKED,
                over=over[:BATCH],
            )
        return Claims(tasks=tasks, next_due_ms=None if next_due_ms < 0 else next_due_ms)

    async def finish(self, *, worker: str, task_ids: Sequence[str]) -> None:
        """See WorkQueue."""
        with translated():
            for batch in _batches(task_ids):
                await self._scripts.finish(token=token_of(worker), task_ids=batch)

    async def release(self, *, worker: str, entries: Sequence[Entry]) -> None:
        """See WorkQueue."""
        with translated():
            for batch in _batches([_placed(entry) for entry in entries]):
                await self._scripts.release(token=token_of(worker), entries=batch)

    async def renew(self, *, worker: str, entries: Sequence[Entry], lease_ms: int) -> None:
        """See WorkQueue."""
        tasks = [Running(task_id=e.task_id, line=_line(e), lane=e.lane) for e in entries]
        with translated():
            for batch in _batches(tasks):
                await self._scripts.renew(token=token_of(worker), lease_ms=lease_ms, tasks=batch)

    async def keep_only(self, *, worker: str, task_ids: Sequence[str]) -> int:
        """See WorkQueue."""
        with translated():
            return await self._scripts.keep_only(token=token_of(worker), task_ids=task_ids)

    async def hand_over(self, *, entry: Entry, worker: str, owner: str, lease_ms: int) -> None:
        """See WorkQueue."""
        with translated():
            await self._scripts.hand_over(
                token=token_of(worker), owner=token_of(owner), lease_ms=lease_ms, task_id=entry.task_id
            )

    async def announce(self, task_ids: Sequence[str]) -> None:
        """See WorkQueue."""
        await self._publish(self._keys.events, task_ids)

    async def _publish(self, channel: str, task_ids: Sequence[str]) -> None:
        with translated():
            for batch in _batches(task_ids):
                await self._client.publish(channel, " ".join(batch))

    async def wait_for_work(self, *, timeout_s: float) -> bool:
        """See WorkQueue. A cancelled wait may swallow one token, which costs others at most one block."""
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            # Redis takes a timeout of 0 for "for ever".
            block_s = max(0.01, min(left_s, LONGEST_BLOCK_S))
            with translated():
                async with asyncio.timeout(block_s + ANSWER_GRACE_S):
                    if await self._waiting.blpop([self._keys.named("wake")], timeout=block_s):
                        return True
        return False

    async def stats(self) -> QueueStats:
        """See WorkQueue. The oldest task is looked for in the first 1,000 lines."""
        with translated():
            survey = await self._scripts.survey(most_lines=MOST_SURVEYED_LINES)
        oldest_ready_ms = None
        if survey.oldest_id:
            oldest_ready_ms = max(0, self._clock() - ULID.from_str(survey.oldest_id).milliseconds)
        return QueueStats(
            ready=survey.jobs - survey.leases - survey.delayed,
            leased=survey.leases,
            delayed=survey.delayed,
            oldest_ready_ms=oldest_ready_ms,
        )


def _line(entry: Entry) -> str:
    return line_of(pool=entry.pool, priority=entry.priority, caller=entry.caller)


def _placed(entry: Entry) -> Placed:
    return Placed(task_id=entry.task_id, line=_line(entry), delay_ms=entry.delay_ms)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))

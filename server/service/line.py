"""Puts accepted tasks in line, behind the caller's back: the answer never waits for Redis.

What Redis does not take is kept and offered again; what this process cannot keep (it is bounded) or loses
by dying, the workers' sweep finds in the store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice

import structlog

from server.pacing import Pace
from server.ports import Entry, QueueUnavailable, SubmitQueue

KEEP = 100_000
BATCH = 500
GATHER_S = 0.03
"""Under load tasks travel together so often; a lone one goes at once."""
RETRY_S = 1.0
DEPTH_EVERY_S = 1.0


class Line:
    """The way from acceptance into the queue, and what this process knows of the queue's depth."""

    def __init__(self, queue: SubmitQueue) -> None:
        self._queue = queue
        self._kept: deque[Entry] = deque()
        self._offering = asyncio.Lock()
        self._filled = asyncio.Event()
        self._depth = 0
        self._pace = Pace(GATHER_S, full=BATCH)
        self._log = structlog.get_logger(__name__)

    @property
    def depth(self) -> int:
        """Tasks in the queue: its last known depth and what was put in line here since.

        What other processes accept shows at the next reading, a second later. So a limit on it is passed by
        no more than they accept in that second, and each of them by itself keeps to the limit: however fast
        they are, no more than processes times the limit wait, and the submits under way at that moment.
        """
        return self._depth

    def put(self, entry: Entry) -> None:
        """Bring the task into the queue soon."""
        self._depth += 1
        if len(self._kept) < KEEP:  # beyond it the sweep has to find them
            self._kept.append(entry)
        self._filled.set()

    async def run(self) -> None:
        """Feed the queue and follow its depth until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed(), name="line-feed")
            group.create_task(self._follow_depth(), name="line-depth")

    async def drain(self, timeout_s: float) -> None:
        """Offer the rest once more before the process ends."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._kept:
                    await self._offer()
        except (TimeoutError, QueueUnavailable):
            self._log.warning("tasks left to the workers' sweep", tasks=len(self._kept))

    async def _feed(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            try:
                while self._kept:
                    await self._pace.turn(self._kept.__len__)
                    await self._offer()
            except QueueUnavailable as error:
                self._log.warning(
                    "Redis is away; accepted tasks are kept", kept=len(self._kept), error=str(error)
                )
                await asyncio.sleep(RETRY_S)
                self._filled.set()

    async def _offer(self) -> None:
        """Offer the oldest entries; they leave this process only once the queue has them."""
        async with self._offering:
            batch = list(islice(self._kept, BATCH))
            if batch:
                await self._queue.enqueue(batch)
            for _ in batch:
                self._kept.popleft()

    async def _follow_depth(self) -> None:
        while True:
            try:
                self._depth = await self._queue.depth() + len(self._kept)
            except QueueUnavailable:
                pass  # the last known depth stands
            await asyncio.sleep(DEPTH_EVERY_S)

"""Group commit: what callers ask for at one moment travels to the store as one batch.

A batch starts when none is under way; what arrives meanwhile waits and forms the next one. So a busy store
gets few large batches, and a read never sees the answer of a batch that had left before it was asked. Where
the store answers faster than items arrive, `gather_s` has them wait for company, under load alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from server.domain.errors import StoreUnavailable
from server.pacing import Pace

Item = TypeVar("Item")
Result = TypeVar("Result")

TIMEOUT_S = 1.2
"""The stores' time limit. With MIN_SHARE: an answer within 1.5 s, for callers who promise theirs within 2."""

MIN_SHARE = 0.2
"""What a batch gets at least of the time limit, however long its items had to wait for the one before."""


class _Waiting(Struct, Generic[Item, Result], frozen=True, eq=False):
    item: Item
    answer: asyncio.Future[Result]
    deadline: float


class Batcher(Generic[Item, Result]):
    """Collects items of concurrent callers and hands each its own result.

    `flush(items, timeout_s)` does one batch and returns a result for each item, in order; an exception
    in the place of a result is raised to that item's caller. It raises StoreUnavailable when the store
    is away, which fails the whole batch. Any other exception means that an item spoils the batch: its
    items are then done one by one. So doing an item again must be safe and must answer the same.

    Each item is answered within `timeout_s` × 1.2, with StoreUnavailable if need be. A caller that is
    cancelled before its item left takes the item with it.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item], float], Awaitable[Sequence[Result | Exception]]],
        *,
        name: str,
        timeout_s: float,
        max_items: int = 256,
        gather_s: float = 0.0,
    ) -> None:
        self._flush = flush
        self._name = name
        self._timeout_s = timeout_s
        self._max_items = max_items
        self._pace = Pace(gather_s, full=max_items)
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._flusher: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, item: Item) -> Result:
        """Do the item in the next batch; its result. Raises StoreUnavailable, also once closed."""
        if self._closed:
            raise unavailable("The task store was closed.")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        self._waiting.append(_Waiting(item, answer, loop.time() + self._timeout_s))
        if self._flusher is None:
            self._flusher = loop.create_task(self._run(), name=f"batches of {self._name}")
        return await answer

    async def aclose(self) -> None:
        """Take nothing new, and return when all that was taken is answered."""
        self._closed = True
        if self._flusher is not None:
            await asyncio.wait([self._flusher])

    async def _run(self) -> None:
        batch: list[_Waiting[Item, Result]] = []
        try:
            while self._waiting:
                await self._pace.turn(self._waiting.__len__)
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_items))]
                await self._settle(batch)
                if self._waiting:  # a flush that waits for nothing shall not keep the event loop to itself
                    await asyncio.sleep(0)
        finally:
            # Only when the event loop ends this task is anything left here.
            for waiting in (*batch, *self._waiting):
                waiting.answer.cancel()
            self._waiting.clear()
            self._flusher = None

    async def _settle(self, batch: Sequence[_Waiting[Item, Result]]) -> None:
        """Answer every item of the batch that somebody still waits for."""
        now = asyncio.get_running_loop().time()
        live: list[_Waiting[Item, Result]] = []
        for waiting in batch:
            if waiting.answer.done():
                continue
            if waiting.deadline <= now:
                waiting.answer.set_exception(unavailable())
            else:
                live.append(waiting)
        if not live:
            return
        timeout_s = max(live[0].deadline - now, self._timeout_s * MIN_SHARE)
        try:
            async with asyncio.timeout(timeout_s):
                results = await self._flush([waiting.item for waiting in live], timeout_s)
            if len(results) != len(live):
                raise RuntimeError(f"{self._name}: {len(results)} results for {len(live)} items")
        except StoreUnavailable as error:
            _fail(live, error.message)
        except TimeoutError:
            _fail(live)
        except Exception as error:
            if len(live) == 1:
                _answer(live[0], error)
            else:
                for waiting in live:
                    await self._settle([waiting])
        else:
            for waiting, result in zip(live, results, strict=True):
                _answer(waiting, result)


def unavailable(
    message: str = "The task store does not answer.", kind: type[StoreUnavailable] = StoreUnavailable
) -> StoreUnavailable:
    """The store is away: what every method of every adapter raises then."""
    return kind(f"{message} Send the same request again in a moment.", retry_after_s=1.0)


def _fail(batch: Sequence[_Waiting[Item, Result]], message: str = "") -> None:
    for waiting in batch:
        # An exception of its own for each caller: each adds its own traceback.
        error = StoreUnavailable(message, retry_after_s=1.0) if message else unavailable()
        _answer(waiting, error)


def _answer(waiting: _Waiting[Item, Result], result: Result | Exception) -> None:
    if waiting.answer.done():
        return
    if isinstance(result, Exception):
        waiting.answer.set_exception(result)
    else:
        waiting.answer.set_result(result)

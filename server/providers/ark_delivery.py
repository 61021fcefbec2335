"""From what Ark says it made to images handed over, while it may still be making more.

The answer is read, what it names is noted, images are fetched and images are kept at the same time: a slow
download, or an output store that is away, keeps nobody from reading on and nothing from being noted. Images
are handed over one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from msgspec import Struct

from server.providers import ark_receipt
from server.providers.ark_receipt import Bought
from server.providers.contract import ImageFailed, MadeImage, Progress, ProviderError, Receipt
from server.providers.fetch import OutputFetcher

FETCH_S = 60.0
"""The most that one image may take to arrive: one that hangs must not use up the time of the others."""
FETCHES_AT_ONCE = 3
"""So many images of a call are in memory at most."""


class _Fetched(Struct, frozen=True):
    index: int
    data: bytes


class _Over(Struct, frozen=True):
    """The answer, one note, or one download, is over; `error`: it failed."""

    error: Exception | None = None
    answer: bool = False


class Delivery:
    """One call's way from its answer to its last image. For one use."""

    def __init__(
        self,
        fetcher: OutputFetcher,
        *,
        indexes: Sequence[int],
        seed_of: Callable[[int], int],
        timeout_s: float,
        progress: Progress,
        receipt: Receipt | None,
    ) -> None:
        """`timeout_s` bounds answer and downloads, not what `progress` and `receipt` take. `receipt` None:
        what was bought is noted already."""
        self._fetcher = fetcher
        self._indexes = indexes
        self._seed_of = seed_of
        self._progress = progress
        self._receipt = receipt
        self._inbox: asyncio.Queue[_Fetched | ImageFailed | _Over] = asyncio.Queue()
        """Bounded by nature: an answer names each image once, and few are fetched at once."""
        self._room = asyncio.Semaphore(FETCHES_AT_ONCE)
        self._works: list[asyncio.Task[None]] = []
        self._under_way = 0
        self._taken_up: set[int] = set()
        """The images that are fetched, or were seen to have failed."""
        self._answer_error: Exception | None = None
        self._fetch_error: ProviderError | None = None
        self._clock = asyncio.get_running_loop().time
        self._end = self._clock() + timeout_s
        self._steps_of_ours = 0
        self._ours_since = 0.0

    async def run(self, answer: AsyncGenerator[Bought, None]) -> None:
        """Hand over everything that the call bought. `answer` gives what is known of that as it grows.

        Raises what `progress` and `receipt` raise at once. A ProviderError waits until the rest has come; a
        retryable one of a download goes first: what is bought must not be given up.
        """
        reading = self._start(self._read(answer), "ark-answer")
        try:
            while self._under_way:
                await self._take(await self._inbox.get())
        finally:
            try:
                # A task that is cancelled before its next step never takes it: what has come is read …
                await asyncio.sleep(0)
                reading.cancel()
                await asyncio.sleep(0)  # … and told
            finally:
                for work in self._works:
                    work.cancel()
                await asyncio.gather(*self._works, return_exceptions=True)
        if self._fetch_error is not None and (self._fetch_error.retryable or self._answer_error is None):
            raise self._fetch_error
        if self._answer_error is not None:
            raise self._answer_error

    async def _take(self, item: _Fetched | ImageFailed | _Over) -> None:
        match item:
            case ImageFailed():
                await self._ours(self._progress(item))
            case _Fetched(index, data):
                try:
                    await self._ours(
                        self._progress(MadeImage(index=index, data=data, seed=self._seed_of(index)))
                    )
                except ProviderError as error:  # what came is no picture
                    self._failed(error)
                finally:
                    self._room.release()
                self._under_way -= 1
            case _Over(error, answer):
                self._under_way -= 1
                if answer:
                    self._answer_error = error
                elif isinstance(error, ProviderError):
                    self._failed(error)
                elif error is not None:
                    raise error

    async def _note(self, bought: Bought) -> None:
        """Keep what is known, and only then take up what is new in it."""
        error: Exception | None = None
        try:
            if self._receipt is not None:
                so_far = () if bought.complete else tuple(sorted(bought.named))
                await self._ours(self._receipt(ark_receipt.written(bought), so_far=so_far))
            for failed in bought.failures:
                if self._is_new(failed.index):
                    self._inbox.put_nowait(failed)
            for index, link in sorted(bought.links.items()):
                if self._is_new(index):
                    self._start(self._fetch(index, link), f"ark-image-{index}")
        except Exception as caught:
            error = caught
        self._inbox.put_nowait(_Over(error))

    def _is_new(self, index: int) -> bool:
        """Whether the image was asked for and is met for the first time; from now on it is not."""
        if index not in self._indexes or index in self._taken_up:
            return False
        self._taken_up.add(index)
        return True

    async def _read(self, answer: AsyncGenerator[Bought, None]) -> None:
        error: Exception | None = None
        try:
            async with aclosing(answer):
                async for bought in answer:
                    # At once, however long the one before it takes: it is in the worker's hand from here on.
                    self._start(self._note(bought), "ark-note")
        except Exception as caught:
            error = caught
        self._inbox.put_nowait(_Over(error, answer=True))

    async def _fetch(self, index: int, link: str) -> None:
        await self._room.acquire()  # given back once the image is kept
        try:
            left_s = min(FETCH_S, self._end - self._clock())
            item: _Fetched | _Over = _Fetched(index, await self._fetcher.fetch(link, timeout_s=left_s))
        except Exception as error:
            self._room.release()
            item = _Over(error)
        self._inbox.put_nowait(item)

    def _failed(self, error: ProviderError) -> None:
        """Of several failures the one counts that leaves most hope: some of it may still come."""
        if self._fetch_error is None or error.hope > self._fetch_error.hope:
            self._fetch_error = error

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        self._under_way += 1
        task = asyncio.create_task(work, name=name)
        self._works.append(task)
        return task

    async def _ours(self, step: Awaitable[None]) -> None:
        """Time that is not the vendor's, counted once where several steps overlap."""
        if not self._steps_of_ours:
            self._ours_since = self._clock()
        self._steps_of_ours += 1
        try:
            await step
        finally:
            self._steps_of_ours -= 1
            if not self._steps_of_ours:
                self._end += self._clock() - self._ours_since

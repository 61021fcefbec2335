"""A paid provider that sells first and delivers afterwards, as vendors with result links do."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from server.domain.errors import Reason
from server.providers.contract import (
    Generation,
    Progress,
    ProviderError,
    Receipt,
    Sent,
)
from tests.integration.worker.scripted import made


@dataclass(slots=True, kw_only=True)
class Shop:
    """Its receipt is the list of what was sold. `groups` False: it sells one image at a time."""

    name: str = "local"
    paid: bool = True
    capacity: int = 100
    groups: bool = True
    gives_receipts: bool = True
    sold: Counter[int] = field(default_factory=Counter)
    """How often each image was sold."""
    fetched: Counter[int] = field(default_factory=Counter)
    refuses: deque[Exception] = field(default_factory=deque)
    """Each ends one call before anything is sold."""
    loses: deque[Exception] = field(default_factory=deque)
    """Each ends one call after it was sold, before the receipt."""
    tells_at_the_end: bool = False
    """A call that is cancelled before its receipt gives it all the same."""
    names_first: int = 0
    """So many images of a call are named and delivered before the others are."""
    breaks_off: deque[Exception] = field(default_factory=deque)
    """Each ends one call between the two."""
    fails_to_deliver: deque[Exception] = field(default_factory=deque)
    """Each ends one delivery of an image."""
    picture: bytes | None = None
    """What it delivers; None: a picture."""
    selling: asyncio.Event = field(default_factory=asyncio.Event)
    """While cleared, what is sold waits for its receipt."""
    delivering: asyncio.Event = field(default_factory=asyncio.Event)
    """While cleared, what has its receipt waits for its delivery."""

    def __post_init__(self) -> None:
        self.selling.set()
        self.delivering.set()

    async def generate(
        self,
        generation: Generation,
        *,
        timeout_s: float,
        progress: Progress,
        receipt: Receipt,
        resume: str = "",
    ) -> None:
        """See Provider."""
        if resume:
            assert set(generation.indexes) <= set(json.loads(resume)), "what was never sold"
        else:
            if self.refuses:
                raise self.refuses.popleft()
            self.sold.update(generation.indexes)
            try:
                await self.selling.wait()
            except asyncio.CancelledError:
                if self.tells_at_the_end:
                    await receipt(json.dumps(generation.indexes))
                raise
            if self.loses:
                raise self.loses.popleft()
            first = generation.indexes[: self.names_first]
            if first:
                await receipt(json.dumps(first), so_far=first)
                await self._deliver(first, progress)
                if self.breaks_off:
                    raise self.breaks_off.popleft()
            if self.gives_receipts:
                await receipt(json.dumps(generation.indexes))
            await self._deliver(generation.indexes[len(first) :], progress)
            return
        await self._deliver(generation.indexes, progress)

    async def _deliver(self, indexes: Sequence[int], progress: Progress) -> None:
        await self.delivering.wait()
        for index in indexes:
            if self.fails_to_deliver:
                raise self.fails_to_deliver.popleft()
            self.fetched[index] += 1
            await progress(made(index, self.picture))

    async def aclose(self) -> None:
        """See Provider."""


def lost_delivery(*, retryable: bool = True, unlikely: bool = False) -> ProviderError:
    """What a provider says when a link does not answer, or no longer."""
    return ProviderError(
        "The picture could not be fetched.",
        sent=Sent.IN_DOUBT,
        reason=Reason.OUTPUT_FETCH_FAILED,
        retryable=retryable,
        unlikely=unlikely,
        retry_after_s=0.0,
    )

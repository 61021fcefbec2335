"""A paid provider whose calls stand still until they are told how to go on, one stage at a time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from server.providers.contract import Generation, Progress, ProviderError, Receipt
from tests.integration.worker.scripted import made


class OpenCall:
    """One call that stands still."""

    def __init__(self, task_id: str, *, asking: bool) -> None:
        self.task_id = task_id
        self.asking = asking
        """Whether nothing is sold yet: a refusal costs nothing."""
        self._told: asyncio.Queue[ProviderError | None] = asyncio.Queue()
        self._moved = asyncio.Event()
        self.standing = False

    async def stand_still(self) -> None:
        """Until told to go on, or how to fail."""
        self.standing = True
        try:
            error = await self._told.get()
        finally:
            self.standing = False
            self._moved.set()
        if error is not None:
            raise error

    async def go_on(self, error: ProviderError | None = None) -> None:
        """Take the next stage, or fail; returns when the call has left where it stood."""
        self._moved.clear()
        self._told.put_nowait(error)
        await self._moved.wait()


class SalesCounter:
    """Sells to workers: asked → sold → receipt → delivered. Some vendors give no receipt."""

    name = "local"
    paid = True
    groups = True
    capacity = 100

    def __init__(self) -> None:
        self.open: list[OpenCall] = []
        self.receipts = True
        self.sold: Counter[tuple[str, int]] = Counter()
        """How often each image of each task was sold."""

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
        call = OpenCall(generation.task_id, asking=not resume)
        self.open.append(call)
        try:
            if not resume:
                await call.stand_still()
                call.asking = False
                self.sold.update((generation.task_id, index) for index in generation.indexes)
                await call.stand_still()
                if self.receipts:
                    await receipt(json.dumps(generation.indexes))
            for index in generation.indexes:
                await call.stand_still()
                await progress(made(index))
        finally:
            self.open.remove(call)

    async def aclose(self) -> None:
        """See Provider."""

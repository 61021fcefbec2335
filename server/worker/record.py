"""What an attempt has of its task so far, and the writes by which the store comes to know it.

The record knows first and the store afterwards: whatever ends the attempt in between (a stop, a cancel, a
store that is away) ends it by what the worker has in its hand, and its last write brings the rest along.
"""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from server.domain import attempt_writes, purchases, writes
from server.domain.errors import TaskError
from server.domain.task import AttemptOutcome, Call, StoredImage, Task
from server.domain.writes import Write
from server.ports import TaskStore
from server.worker.holding import until_kept


class Fenced(Exception):
    """The store refused a write: a successor has the task, or it is over."""


class Record:
    """The task as its attempt has written it; one write at a time, each on the revision before it."""

    def __init__(self, store: TaskStore, task: Task) -> None:
        self._store = store
        self._task = task
        self._images: dict[int, StoredImage] = dict(task.images)
        self._untold: list[Write] = []
        """What was to be told and the store may not have, oldest first: several tell at the same time."""
        self._opening = False
        """Whether the store may not have the newest call: then nothing of it was sent either."""
        self._writing = asyncio.Lock()

    @property
    def task(self) -> Task:
        """The task as the attempt found it, with its calls, failures and shown images since."""
        return self._task

    @property
    def made(self) -> Task:
        """The task with every image that is stored."""
        if len(self._images) == len(self._task.images):
            return self._task
        return replace(self._task, images=self._images)

    @property
    def may_owe(self) -> bool:
        """Whether a paid call is under way of which more may come."""
        return not self._opening and purchases.open_paid_call(self._task)

    @property
    def opening(self) -> bool:
        """Whether the newest call is not surely in the store, and so was not sent."""
        return self._opening

    async def open_call(self, call: Call, now_ms: int) -> None:
        """Write the next purchase down; the one before it was answered. Raises Fenced."""
        number = max(self._task.attempts[self._task.attempt].calls, default=-1) + 1
        write = attempt_writes.open_call(self._task, number, call, now_ms)
        self._task = attempt_writes.with_call(self._task, number, call)
        self._opening = True
        answers = {path: value for path, value in write.set.items() if path.endswith(".state")}
        await self._tell(write, untold=replace(write, set=answers))
        self._opening = False

    async def add_receipt(self, receipt: str, now_ms: int, *, so_far: tuple[int, ...]) -> None:
        """Write down what the newest call bought. Raises Fenced."""
        number = max(self._task.attempts[self._task.attempt].calls)
        write = attempt_writes.add_receipt(self._task, number, receipt, now_ms, so_far=so_far)
        self._task = attempt_writes.with_receipt(self._task, number, receipt, so_far=so_far)
        await self._tell(write, untold=write)

    async def add_image(self, image: StoredImage, now_ms: int, *, shown: bool) -> None:
        """The image's bytes are stored; `shown`: callers see it at once. Raises Fenced."""
        self._images[image.index] = image
        if shown:
            await self._write(attempt_writes.add_image(self._task, image, now_ms))
            self._task = replace(self._task, images={**self._task.images, image.index: image})

    async def add_failure(self, index: int, error: TaskError, now_ms: int, *, refused: bool) -> None:
        """The image failed for good; `refused`: with the whole call, which bought nothing. Raises Fenced."""
        write = attempt_writes.add_failure(self._task, index, error, now_ms)
        if refused:
            write = attempt_writes.without_call(write, self._task)
            self._task = attempt_writes.as_ended(self._task, AttemptOutcome.REJECTED)
        self._task = replace(self._task, failures={**self._task.failures, index: error})
        await self._tell(write, untold=write)

    def ending(self, write: Write) -> Write:
        """The write that ends the attempt, with all that the store may not have yet."""
        fresh = [image for index, image in sorted(self._images.items()) if index not in self._task.images]
        write = writes.with_images(write, fresh)
        for untold in reversed(self._untold):
            write = writes.merged(untold, write)
        return write

    async def _tell(self, write: Write, *, untold: Write) -> None:
        """Write; until that is acknowledged, an end brings `untold` along."""
        self._untold.append(untold)
        await self._write(write)
        self._untold.remove(untold)

    async def _write(self, write: Write) -> None:
        """Raises Fenced unless the task is still this attempt's; a cancel may have been asked for since."""
        async with self._writing:
            while True:
                mine = replace(write, revision=self._task.revision)
                if await until_kept(lambda mine=mine: self._store.write(mine)):  # type: ignore[misc]
                    self._task = replace(self._task, revision=self._task.revision + 1)
                    return
                seen = await until_kept(lambda: self._store.get(write.task_id))
                if seen is None or _whose(seen) != _whose(self._task) or seen.revision == mine.revision:
                    raise Fenced(write.task_id)
                self._task = replace(self._task, revision=seen.revision)


def _whose(task: Task) -> tuple[object, ...]:
    return task.state, task.attempt, task.owner

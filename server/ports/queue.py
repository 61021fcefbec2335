"""Where tasks wait for workers, and how both sides hear of changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

from server.domain.task import Priority, Task


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """A task as the queue knows it."""

    task_id: str
    pool: str
    priority: Priority
    caller: str
    """Whom it counts for (`Task.queue_caller`), in full; the queue keeps 11 characters of its hash."""
    delay_ms: int = 0
    """How long it is not yet due; 0 = ready now."""
    lane: str = ""
    """The lane whose room it holds, as claimed: `renew` makes a lost lease again with it. '' = not known."""

    @classmethod
    def of(cls, task: Task, *, lane: str = "", delay_ms: int = 0) -> Entry:
        """The task's entry."""
        return cls(
            task_id=task.id,
            pool=task.pool,
            priority=task.priority,
            caller=task.queue_caller,
            lane=lane,
            delay_ms=delay_ms,
        )


class Lane(Struct, frozen=True, kw_only=True):
    """What is capped: one provider account. `limit` calls at once, over all workers."""

    name: str
    limit: int


class Pool(Struct, frozen=True, kw_only=True):
    """What queues together: an ordered choice of lanes. `code` is its two characters in the keys."""

    code: str
    lanes: tuple[Lane, ...]
    most: int | None = None
    """Most of its tasks that one claim takes; None: as many as there are free slots."""


class Claimed(Struct, frozen=True, kw_only=True, gc=False):
    """A task handed to this worker under a lease, with room reserved in `lane`."""

    task_id: str
    lane: str
    pool: str
    """The code of the pool it waited in."""


class Claims(Struct, frozen=True, kw_only=True):
    """The answer to a claim."""

    tasks: Sequence[Claimed]
    next_due_ms: int | None
    """In how many milliseconds to claim again, for a task that is delayed now; None: nothing is delayed."""


class Held(Enum):
    """What a holder's script found."""

    MINE = "mine"
    """The entry was leased to this worker, and the step was taken."""
    NOT_MINE = "not mine"
    """It is leased to another worker or waits: nothing was changed."""
    MISSING = "missing"
    """There was no such entry."""


class QueueStats(Struct, frozen=True, kw_only=True):
    """What is in the queue, for metrics, limits and people."""

    ready: int
    leased: int
    delayed: int
    oldest_ready_ms: int | None
    """Age of the oldest task at the head of a line, by the time in its id; None when none is ready."""


class QueueUnavailable(Exception):
    """Redis does not answer: a delay, never a loss."""


class SubmitQueue(Protocol):
    """The queue as those who submit and wait see it. Raises QueueUnavailable."""

    async def enqueue(self, entries: Sequence[Entry]) -> None:
        """Put the tasks in line; one that is in the queue already stays as it is."""
        ...

    async def depth(self) -> int:
        """How many tasks are in the queue: ready, delayed and leased."""
        ...

    async def discard(self, task_ids: Sequence[str]) -> None:
        """The store says that these waiting tasks are over: take them out, tell who waits for them."""
        ...

    async def ask_to_cancel(self, task_ids: Sequence[str]) -> None:
        """Tell the workers that run these tasks to end them. Lossy: they also look in the store."""
        ...


class WorkQueue(SubmitQueue, Protocol):
    """The queue as a worker sees it: leases are hints, the store's attempt number decides."""

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
        """Take up to `free` ready tasks under a lease, weighted over priorities, round robin over callers.

        First, in the same step, those that are `over` are finished. A caller that holds `caller_cap` leases,
        over all workers and pools, is passed; 0 = no cap.
        """
        ...

    async def finish(self, *, worker: str, task_ids: Sequence[str]) -> None:
        """The store says these are over: take them out, free their room, tell who waits for them."""
        ...

    async def release(self, *, worker: str, entries: Sequence[Entry]) -> None:
        """Give back: to the head of its line, or delayed. A missing entry is made again (rule S4)."""
        ...

    async def renew(self, *, worker: str, entries: Sequence[Entry], lease_ms: int) -> None:
        """Prolong the leases of what this worker runs; a missing one is made again (rule S4)."""
        ...

    async def keep_only(self, *, worker: str, task_ids: Sequence[str]) -> int:
        """Give back what is leased to this worker but for these tasks; how many.

        A claim whose answer was lost may have taken more than its worker knows of.
        """
        ...

    async def hand_over(self, *, entry: Entry, worker: str, owner: str, lease_ms: int) -> None:
        """The store says that `owner` lives and has it: lease it to that worker (rule W3)."""
        ...

    async def announce(self, task_ids: Sequence[str]) -> None:
        """Tell who waits that these tasks changed (a new image). Lossy."""
        ...

    async def wait_for_work(self, *, timeout_s: float) -> bool:
        """Block until work was announced or the time is over; true if it was announced."""
        ...

    async def stats(self) -> QueueStats:
        """What is in the queue now."""
        ...


class TaskEvents(Protocol):
    """Wake-ups: lossy by contract, so every waiter also polls, slowly."""

    @property
    def connected(self) -> bool:
        """Whether wake-ups can be expected at present."""
        ...

    @property
    def connections(self) -> int:
        """How often the connection was made so far: what happened before each was not heard of."""
        ...

    async def listen(self, on_change: Callable[[Sequence[str]], None]) -> None:
        """Call `on_change` with the ids of tasks that changed, until cancelled; reconnects by itself."""
        ...

"""What the core needs from outside: the store, the queue, the outputs, and a clock.

`service`, `api` and `worker` know these protocols and never an implementation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

from server.domain.task import LiveTask, Priority, Task
from server.domain.writes import Write


def now_ms() -> int:
    """The wall clock in whole milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


# --- store ------------------------------------------------------------------------------------------


class RequestIdRow(Struct, frozen=True, kw_only=True, gc=False):
    """The record that one request_id made one task."""

    task_id: str
    fingerprint: str


class WorkerRow(Struct, frozen=True, kw_only=True):
    """One worker process as the store knows it."""

    id: str
    beat: int
    lost: bool
    slots: int = 0
    """How many tasks it runs at once; 0 = it did not say."""
    lease_ms: int = 0
    """How long it may be silent, by its own settings; 0 = it did not say."""


class TaskStore(Protocol):
    """The truth about tasks and workers. Every method raises StoreUnavailable when the store is away.

    A StoreUnavailable of a writing method means "unknown": the write may have happened.
    """

    async def insert(self, task: Task) -> bool:
        """Keep a new task; durable when it returns. False when a task with this id exists already."""
        ...

    async def get(self, task_id: str) -> Task | None:
        """The task as of now, or None."""
        ...

    async def get_many(self, task_ids: Sequence[str]) -> Mapping[str, Task]:
        """Those of the tasks that exist, by id."""
        ...

    async def live_fields(self, task_ids: Sequence[str]) -> Mapping[str, LiveTask]:
        """What the sweep needs of those of the tasks that exist, by id; of those that are over as well."""
        ...

    async def write(self, write: Write) -> bool:
        """Do the conditional write; whether this very write, and no other, took place."""
        ...

    async def revisions(self, task_ids: Sequence[str]) -> Mapping[str, int]:
        """The revisions of those of the tasks that exist, by id."""
        ...

    async def cancel_requested(self, task_ids: Sequence[str]) -> Collection[str]:
        """Those of the tasks whose cancel was asked for."""
        ...

    async def live_page(self, *, after: str, limit: int) -> Sequence[LiveTask]:
        """Tasks that are not over, in ascending order of id, from the first id above `after`."""
        ...

    async def page(self, *, after: str, before: str, limit: int) -> Sequence[Task]:
        """Tasks in any state with ids above `after` and below `before`, in ascending order of id."""
        ...

    async def claim_request_id(self, key: str, row: RequestIdRow) -> RequestIdRow:
        """Bind the key to this row, unless it is bound: the row that holds, mine or the earlier one."""
        ...

    async def find_request_id(self, key: str) -> RequestIdRow | None:
        """The row bound to the key, or None."""
        ...

    async def register_worker(
        self, worker_id: str, *, host: str, pid: int, slots: int = 0, lease_ms: int = 0
    ) -> None:
        """Add the row of a worker that is about to claim: beat 0, not lost."""
        ...

    async def beat(self, worker_id: str) -> bool:
        """Raise the worker's beat; False when it was declared lost or its row is gone."""
        ...

    async def workers(self) -> Sequence[WorkerRow]:
        """All rows, lost ones included."""
        ...

    async def declare_lost(self, worker_id: str, *, beat: int) -> bool:
        """Declare the worker lost if its beat is still the given one and nobody did so before."""
        ...

    async def remove_worker(self, worker_id: str) -> None:
        """Take the row away: the worker holds nothing, and a missing row counts as lost."""
        ...

    async def ping(self) -> None:
        """Return if the store answers and would take a write."""
        ...

    async def aclose(self) -> None:
        """Finish what is under way and let go."""
        ...


# --- queue ------------------------------------------------------------------------------------------


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


# --- outputs ----------------------------------------------------------------------------------------


class StoredObject(Struct, frozen=True, kw_only=True):
    """Bytes with their media type."""

    data: bytes
    mime_type: str


class OutputStore(Protocol):
    """Bytes under keys that are written once. Raises StoreUnavailable when it is away."""

    async def put(self, key: str, data: bytes, *, mime_type: str) -> None:
        """Keep the bytes; durable when it returns. A key that exists already is left as it is."""
        ...

    async def get(self, key: str) -> StoredObject | None:
        """The bytes under the key, or None."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


# --- links of others --------------------------------------------------------------------------------


class DownloadFailed(Exception):
    """A link gave no bytes. `what` is said of "the link"; `retryable`: may it give them later?

    `refused`: its server answered, and would not give them. None holds anything of the link itself.
    """

    def __init__(self, what: str, *, retryable: bool, refused: bool = False) -> None:
        super().__init__(f"The link {what}.")
        self.what = what
        self.retryable = retryable
        self.refused = refused


class Downloads(Protocol):
    """Reads links that others gave us, as far as the deployment lets links lead."""

    def check(self, link: str) -> None:
        """Raise DownloadFailed for a link of a form that is never read, whatever lies behind it."""
        ...

    async def download(self, link: str, *, timeout_s: float) -> bytes:
        """All bytes behind the link, within `timeout_s`. Raises DownloadFailed."""
        ...

"""The sweep: one rule set that repairs a crash between store and queue, a flush, an empty restart, failover.

Every worker takes a step on a timer, never driven by traffic. The order is always: read the store, then act
in Redis, in a script that looks again. The store is only read; so the worst that a sweep can do is to offer
a task to a worker that then learns from the store that there is nothing to do.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct
from ulid import ULID

from server.domain.task import LiveTask, TaskState
from server.ports import WorkerRow, now_ms
from server.queue.keys import TOKEN_LENGTH, line_of
from server.queue.recovery import Marker, SweepState
from server.queue.scripts import Over, Owned, Ready
from server.queue.task_queue import RedisTaskQueue

GRACE_MS = 600_000
"""The marker stays so far behind: an id is minted before its task is inserted, and by any process's clock."""

WALK_INTERVAL_MS = 5_000
"""From the start of one walk over the last minutes to the next; a rebuild does not wait."""

COMPARE_INTERVAL_MS = 600_000
"""From the start of one walk over everything to the next."""

PAGE = 500
PAGES_PER_STEP = 4
MOST_DUE = 500
MOST_EXPIRED = 100

LINES_PER_WALK = 1_000
LINES_PER_COMPARE = 10_000
"""Most lines to walk when counting: with more than that a lost line shows only when the queue runs empty."""

_log = logging.getLogger(__name__)


class SweepReport(Struct, frozen=True, kw_only=True):
    """What one step did."""

    expired: int = 0
    """Expired leases that were given back, given to their owner, or taken out."""
    added: int = 0
    """Tasks that the store holds and the queue did not."""
    removed: int = 0
    """Tasks that waited in the queue although the store calls them over."""
    overdue: tuple[str, ...] = ()
    """Waiting tasks whose ttl is over, as far as this step has walked: who claims them ends them, if anybody
    serves their pool."""
    rebuilding: bool = False
    """A rebuild was begun: the marker was missing, or written by another Redis."""
    inconsistent: bool = False
    """The counts did not agree: the queue was dropped, to be rebuilt."""
    more: bool = False
    """There is work left that should not wait for the timer."""


class SweptStore(Protocol):
    """The part of `ports.TaskStore` that the sweep reads."""

    async def live_fields(self, task_ids: Sequence[str]) -> Mapping[str, LiveTask]:
        """See TaskStore."""
        ...

    async def live_page(self, *, after: str, limit: int) -> Sequence[LiveTask]:
        """See TaskStore."""
        ...

    async def workers(self) -> Sequence[WorkerRow]:
        """See TaskStore."""
        ...


class Sweep:
    """Rules S1 to S4 over one queue and one store.

    One process at a time walks the store (S2, S3), for a lease at a time; all look after expired leases (S1).
    """

    def __init__(
        self,
        queue: RedisTaskQueue,
        store: SweptStore,
        *,
        lease_ms: int,
        clock: Callable[[], int] = now_ms,
        walk_interval_ms: int = WALK_INTERVAL_MS,
        page: int = PAGE,
        pages_per_step: int = PAGES_PER_STEP,
    ) -> None:
        self._queue = queue.recovery
        self._discard = queue.discard
        self._store = store
        self._lease_ms = lease_ms
        self._clock = clock
        self._walk_interval_ms = walk_interval_ms
        self._page = page
        self._pages_per_step = pages_per_step
        self._holder = secrets.token_hex(4)
        self._nonce = ""
        self._position: str | None = None
        """Up to where this walk has come; None between two walks."""
        self._grace_id = ""
        """The id that the marker does not pass in this walk."""
        self._cursor: int | None = None
        """Up to where the queue was looked through for what is over; None: not at present."""
        self._walked_ms = 0
        """When the newest walk began …"""
        self._compared_ms = 0
        """… and the newest one over everything."""

    async def step(self) -> SweepReport:
        """One bounded pass. Raises QueueUnavailable or StoreUnavailable; the next step goes on from there."""
        expired, more = await self._resolve_expired()
        held = await self._queue.hold_sweep(self._holder, ttl_ms=self._lease_ms)
        if held is None:
            self._position = None
            return SweepReport(expired=expired, more=more)
        marker = held.marker
        if marker is None:
            return await self._begin_rebuild(held, expired=expired)
        if marker.nonce != self._nonce:
            self._adopt(marker)
        removed = await self._take_out_what_is_over()
        if self._position is None:
            if marker.complete and not self._due(self._walked_ms, self._walk_interval_ms):
                return SweepReport(expired=expired, removed=removed, more=more)
            if not await self._start_walk(marker):
                return SweepReport(expired=expired, removed=removed, inconsistent=True, more=True)
        overdue: list[str] = []
        added, more_pages = await self._walk(marker, overdue)
        return SweepReport(
            expired=expired, added=added, removed=removed, overdue=tuple(overdue), more=more or more_pages
        )

    # --- S1 -----------------------------------------------------------------------------------------

    async def _resolve_expired(self) -> tuple[int, bool]:
        """Due tasks are made ready, expired leases get their verdict: how many, and whether more may wait."""
        leases = await self._queue.due(most_due=MOST_DUE, most_expired=MOST_EXPIRED)
        if not leases:
            return 0, False
        tasks = await self._store.live_fields([lease.task_id for lease in leases])
        # Read after the tasks: a worker has its row before it is any task's owner.
        alive = {worker.id for worker in await self._store.workers() if not worker.lost}
        now = self._clock()
        verdicts = [(lease, _verdict(tasks.get(lease.task_id), alive, now)) for lease in leases]
        # An owner that lives renews its leases itself every third of a lease; one that is dead but not yet
        # found lost must not get another whole one.
        resolved = await self._queue.resolve_expired(verdicts, lease_ms=self._lease_ms // 3)
        return resolved, resolved > 0 and len(leases) == MOST_EXPIRED

    # --- S2 and S3 ----------------------------------------------------------------------------------

    def _adopt(self, marker: Marker) -> None:
        """Go on from a marker that is new here. Where nothing is in a hurry, the last minutes come first and
        the comparison of everything after them: it takes its time."""
        self._nonce, self._position = marker.nonce, None
        if marker.complete:
            soon = self._clock() + self._walk_interval_ms - COMPARE_INTERVAL_MS
            self._compared_ms = max(self._compared_ms, soon)

    def _due(self, last_ms: int, interval_ms: int) -> bool:
        """Whether so long has passed since then, or the clock was set back, which may hide that it has."""
        return not 0 <= self._clock() - last_ms < interval_ms

    async def _begin_rebuild(self, held: SweepState, *, expired: int) -> SweepReport:
        """The start marker comes before any page: a flush after it takes it along, and all begins again."""
        unfinished = await self._store.live_page(after="", limit=1)
        start = Marker(run_id=held.run_id, nonce=secrets.token_hex(4), last_id="")
        begun = await self._queue.replace_marker(held.swept, start)
        if begun and unfinished:
            _log.warning("rebuilding the queue from the store: %s", "other Redis" if held.swept else "empty")
        elif begun:  # as at every first start
            _log.info("the queue begins empty: the store holds no unfinished task")
        return SweepReport(expired=expired, rebuilding=begun, more=True)

    async def _start_walk(self, marker: Marker) -> bool:
        """Choose where to start; False when the queue was found damaged and dropped instead.

        What a rebuild has only begun to fill is not looked at: a damage is repaired at most once per walk.
        """
        now = self._clock()
        compare = marker.complete and self._due(self._compared_ms, COMPARE_INTERVAL_MS)
        if marker.complete:
            survey = await self._queue.survey(most_lines=LINES_PER_COMPARE if compare else LINES_PER_WALK)
            if not survey.consistent:
                _log.error("the queue is damaged and will be rebuilt from the store: %s", survey)
                await self._queue.reset()
                return False
        self._position = "" if compare else marker.last_id
        self._grace_id = first_id(now - GRACE_MS)
        self._walked_ms = now
        if not self._position:
            self._compared_ms = now
        if compare:
            self._cursor = 0
        return True

    async def _take_out_what_is_over(self) -> int:
        """The comparison's other half: what waits here, has ended in the store, and may never be claimed."""
        removed = 0
        for _ in range(self._pages_per_step):
            if self._cursor is None:
                break
            cursor, waiting = await self._queue.waiting(self._cursor)
            tasks = await self._store.live_fields(waiting) if waiting else {}
            over = [task_id for task_id, task in tasks.items() if task.state.terminal]
            if over:
                await self._discard(over)
            removed += len(over)
            self._cursor = cursor or None
        return removed

    async def _walk(self, marker: Marker, overdue: list[str]) -> tuple[int, bool]:
        """Add what is missing, page by page: how many, and whether to go on at once. Notes what is `overdue`.

        A walk starts at the marker or before it and has no gaps, so the marker may follow it; not past the
        grace before the walk's start, for tasks with later ids may yet appear in pages that were read.
        """
        total = 0
        for _ in range(self._pages_per_step):
            tasks = await self._store.live_page(after=self._position or "", limit=self._page)
            last = len(tasks) < self._page
            reached = self._grace_id if last else min(tasks[-1].id, self._grace_id)
            advanced = marker.advanced_to(reached, at_end=last)
            now = self._clock()
            overdue += (t.id for t in tasks if t.state is TaskState.PENDING and t.ttl_time_ms <= now)
            added = await self._queue.add_page(
                [(task.id, _line(task), _place(task, now)) for task in tasks],
                old=marker,
                new=advanced,
                lease_ms=self._lease_ms // 3,  # as in S1; the page may also be older than the task's end
            )
            if added is None:
                self._position = None
                return total, True
            total += added
            marker = advanced
            if last:
                self._position = None
                return total, False
            self._position = tasks[-1].id
        return total, not marker.complete or total > 0


def first_id(time_ms: int) -> str:
    """The smallest id that can be minted at this time."""
    return str(ULID.from_bytes(max(0, time_ms).to_bytes(6, "big") + bytes(10)))


def _line(task: LiveTask) -> str:
    return line_of(pool=task.pool, priority=task.priority, caller=task.queue_caller)


def _place(task: LiveTask, now: int) -> Ready | Owned:
    """Where a live task belongs that the queue does not know."""
    if task.state is TaskState.PROCESSING and len(task.owner) == TOKEN_LENGTH:
        return Owned(token=task.owner)
    return Ready(delay_ms=max(0, task.not_before_ms - now))


def _verdict(task: LiveTask | None, alive: set[str], now: int) -> Ready | Owned | Over:
    """What becomes of a task whose lease has expired."""
    if task is None or task.state.terminal:
        return Over()
    if task.state is TaskState.PENDING:
        return Ready(delay_ms=max(0, task.not_before_ms - now))
    return Owned(token=task.owner) if task.owner in alive else Ready()

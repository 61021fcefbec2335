"""Proof of life, and the verdict on those who give none (rules W1 and W2 of the queue's design)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence

import structlog
from msgspec import Struct
from msgspec.structs import replace

from server.domain.errors import StoreUnavailable
from server.metrics import Metrics
from server.ports import TaskStore, WorkerRow

_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
READS_UNTIL_LOST = 4
KEEP_LOST_S = 3600.0
"""How long the row of a lost worker is kept: a missing row counts as lost too."""
MOST_LOST = 100
"""So many rows of lost workers are kept at most: where all die within that hour, nobody would see it pass."""
MOST_REMOVED = 20
"""So many rows are removed at most after one read: the next one must not be late."""


def new_worker_id() -> str:
    """Eight characters: the row's id in the store and the token of every lease in the queue."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))


class Beat:
    """This process' row: registered before the first claim, raised every third of a lease.

    A worker that finds itself declared lost registers under a new id; what it ran under the old one is
    fenced by the store and may already be somebody else's.
    """

    def __init__(self, store: TaskStore, *, lease_s: float, slots: int = 0) -> None:
        self._store = store
        self._lease_s = lease_s
        self._slots = slots
        self._acknowledged = 0.0
        self._log = structlog.get_logger(__name__)
        self.id = ""

    @property
    def fresh(self) -> bool:
        """Whether the store acknowledged a beat less than a lease ago: without it no call may start."""
        return bool(self.id) and time.monotonic() - self._acknowledged < self._lease_s

    async def register(self) -> None:
        """Add the row, under a new id; returns when the store has it."""
        while True:
            sent, new_id = time.monotonic(), new_worker_id()
            try:
                await self._store.register_worker(
                    new_id,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    slots=self._slots,
                    lease_ms=round(self._lease_s * 1000),
                )
            except StoreUnavailable as error:
                self._log.warning("cannot register with the store yet", error=str(error))
                await asyncio.sleep(self._lease_s / 3)
                continue
            self.id, self._acknowledged = new_id, sent
            self._log.info("worker registered", worker=new_id)
            return

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            sent = time.monotonic()
            try:
                alive = await self._store.beat(self.id)
            except StoreUnavailable as error:
                self._log.warning("the store did not take the beat", error=str(error))
                continue
            if alive:
                self._acknowledged = sent
            else:
                self._log.warning("this worker was declared lost; going on under a new id", worker=self.id)
                await self.register()

    async def deregister(self) -> None:
        """Take the row away; only once nothing is held, and nobody beats any more."""
        try:
            await self._store.remove_worker(self.id)
        except StoreUnavailable as error:
            self._log.warning("the worker's row stays until it is declared lost", error=str(error))


class _Stand(Struct, frozen=True, kw_only=True):
    """A beat, and since when and in how many reads it has been the same."""

    beat: int
    since: float
    reads: int = 0


class Observer:
    """Watches everybody's beats and declares lost who stands still; adds up the slots of the others.

    The same beat in four successful reads a third of a lease apart is a verdict. A failed read, or a gap of
    more than two thirds of a lease between reads, starts the window again: then it may have been the store,
    or this very process, that stood still. A worker whose own lease is longer than this one's has until its
    end: it beats more seldom.
    """

    def __init__(
        self,
        store: TaskStore,
        *,
        lease_s: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._lease_s = lease_s
        self._metrics = metrics
        self._clock = clock
        self._seen: dict[str, _Stand] = {}
        self._last_read = 0.0
        self._lost_since: dict[str, float] = {}
        self.live_slots = 0
        """Slots of all workers that were not lost when they were last read; 0 before the first read."""
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Observe until cancelled."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            await self.observe()

    async def observe(self) -> list[str]:
        """Read once; the ids of workers declared lost by it."""
        try:
            rows = await self._store.workers()
            self.live_slots = sum(row.slots for row in rows if not row.lost)
            now = self._clock()
            if now - self._last_read > self._lease_s * 2 / 3:
                self._seen.clear()
            self._last_read = now
            before, self._seen = self._seen, {}
            verdicts: list[str] = []
            for row in rows:
                if row.lost:
                    continue
                stand = before.get(row.id)
                if stand is None or stand.beat != row.beat:
                    stand = _Stand(beat=row.beat, since=now)
                self._seen[row.id] = stand = replace(stand, reads=stand.reads + 1)
                if self._silent(row, stand, now) and await self._store.declare_lost(row.id, beat=row.beat):
                    verdicts.append(row.id)
        except StoreUnavailable:
            self._seen.clear()
            return []
        for worker in verdicts:
            self._metrics.workers_lost.inc()
            self._log.warning("worker declared lost", worker=worker)
        with contextlib.suppress(StoreUnavailable):  # their turn comes again
            await self._forget([row.id for row in rows if row.lost], now)
        return verdicts

    def _silent(self, row: WorkerRow, stand: _Stand, now: float) -> bool:
        """Whether the beat has stood still too long, by this process' lease and by the worker's own."""
        own_s = row.lease_ms / 1000
        return stand.reads >= READS_UNTIL_LOST and (own_s <= self._lease_s or now - stand.since >= own_s)

    async def _forget(self, lost: Sequence[str], now: float) -> None:
        """Remove rows of workers that have been lost for long, or are too many."""
        kept, surplus = lost[:MOST_LOST], lost[MOST_LOST:]
        self._lost_since = {worker: self._lost_since.get(worker, now) for worker in kept}
        old = [worker for worker, since in self._lost_since.items() if now - since > KEEP_LOST_S]
        for worker in [*old, *surplus][:MOST_REMOVED]:
            await self._store.remove_worker(worker)

"""What the sweep does to the queue: the marker, pages of a rebuild, expired leases, and the last resort.

Every step may be taken by several processes at once and repeated at will.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from redis.asyncio import Redis

from server.queue.connection import translated
from server.queue.keys import QueueKeys
from server.queue.scripts import Expired, Over, Owned, Ready, Scripts, Survey

SCAN_COUNT = 500
LEASED = "l"
"""How the string in `jobs` begins that a holder has."""
_COMPLETE = "complete"


class Marker(Struct, frozen=True, kw_only=True):
    """How far a Redis holds what the store holds: every live task with an id up to `last_id`."""

    run_id: str
    """The Redis process it was written to: another one may have started from older data."""
    nonce: str
    """Tells one rebuild from the next."""
    last_id: str
    complete: bool = False
    """Whether a walk has come to the end since the rebuild was begun: nothing is in a hurry any more."""

    @classmethod
    def decode(cls, value: str) -> Marker | None:
        """Take apart what `encode` made; None for a string of another form, or none at all."""
        run_id, nonce, last_id, complete = (value.split(":") + [""] * 4)[:4]
        marker = cls(run_id=run_id, nonce=nonce, last_id=last_id, complete=complete == _COMPLETE)
        return marker if marker.encode() == value else None

    def encode(self) -> str:
        """The string kept in `swept`. An incomplete one is as earlier builds write and read theirs."""
        value = f"{self.run_id}:{self.nonce}:{self.last_id}"
        return f"{value}:{_COMPLETE}" if self.complete else value

    def advanced_to(self, task_id: str, *, at_end: bool) -> Marker:
        """The marker at this id, or where it is when that is further, after a page that may be the last."""
        return replace(self, last_id=max(self.last_id, task_id), complete=self.complete or at_end)


class SweepState(Struct, frozen=True, kw_only=True):
    """What who walks the store goes by."""

    swept: str
    """The marker as it is kept; empty after a flush or an empty start."""
    run_id: str
    """The identity of the Redis process that answers at present."""

    @property
    def marker(self) -> Marker | None:
        """The marker, if it was written to this Redis and can be read."""
        marker = Marker.decode(self.swept)
        return marker if marker is not None and marker.run_id == self.run_id else None


class Recovery:
    """The sweep's side of the queue. Every method raises QueueUnavailable."""

    def __init__(self, client: Redis, scripts: Scripts, keys: QueueKeys) -> None:
        self._client = client
        self._scripts = scripts
        self._keys = keys

    async def due(self, *, most_due: int, most_expired: int) -> list[Expired]:
        """Make due delayed tasks ready; the longest expired leases, for a verdict."""
        with translated():
            return await self._scripts.due(most_due=most_due, most_expired=most_expired)

    async def resolve_expired(
        self, verdicts: Sequence[tuple[Expired, Ready | Owned | Over]], *, lease_ms: int
    ) -> int:
        """Act on those leases that still are as they were seen; how many these were."""
        with translated():
            return await self._scripts.resolve_expired(lease_ms=lease_ms, verdicts=verdicts)

    async def hold_sweep(self, holder: str, *, ttl_ms: int) -> SweepState | None:
        """Make this holder the one to walk the store, for `ttl_ms`; None while it is another one.

        It spares work and decides nothing: it may lapse in mid-walk, and two then do the same twice. What
        makes that right is the marker, which each step replaces only as it was read.
        """
        with translated():
            found = await self._scripts.hold_sweep(holder=holder, ttl_ms=ttl_ms)
        return None if found is None else SweepState(swept=found[0], run_id=found[1])

    async def replace_marker(self, old: str, new: Marker) -> bool:
        """Write the new marker if what is kept is still `old` (empty: missing)."""
        with translated():
            return await self._scripts.mark(old=old, new=new.encode())

    async def add_page(
        self,
        page: Iterable[tuple[str, str, Ready | Owned]],
        *,
        old: Marker,
        new: Marker,
        lease_ms: int,
    ) -> int | None:
        """Add what is missing of (id, line, place) and advance the marker: how many were missing.

        None, and nothing was done, when the old marker is not there any more.
        """
        with translated():
            return await self._scripts.rebuild_page(
                old=old.encode(), new=new.encode(), lease_ms=lease_ms, page=page
            )

    async def waiting(self, cursor: int) -> tuple[int, list[str]]:
        """Some of those that wait, ready or delayed, from this cursor on, and the next one: from 0 to 0.

        As of SCAN: all that wait the whole time are met, some perhaps twice.
        """
        with translated():
            found: Any = await self._client.hscan(self._keys.named("jobs"), cursor, count=SCAN_COUNT)
        cursor, jobs = found  # the stubs know of no `decode_responses`
        return cursor, [task_id for task_id, job in jobs.items() if not job.startswith(LEASED)]

    async def survey(self, *, most_lines: int) -> Survey:
        """Count the queue, walking up to so many lines."""
        with translated():
            return await self._scripts.survey(most_lines=most_lines)

    async def reset(self) -> None:
        """Drop what is queued, marker included, so that it is rebuilt from the store as after a flush.

        The order keeps each moment between harmless: without its ring a line is not claimed from, and a line
        that is gone leaves at worst a caller in a ring, or parked, whom claims drop. What says where a line
        stands goes before the line: a line that is left alone would never be found. `jobs` goes last.
        """
        with translated():
            await self._client.unlink(self._keys.named("parked"))
            for family in ("ring:*", "park:*", "q:*"):
                cursor = 0
                while True:
                    cursor, found = await self._client.scan(
                        cursor, match=_literal(self._keys.prefix) + family, count=SCAN_COUNT
                    )
                    if found:
                        await self._client.unlink(*found)
                    if not cursor:
                        break
            await self._client.unlink(
                *(self._keys.named(name) for name in ("jobs", "leases", "delayed", "load", "swept"))
            )


def _literal(prefix: str) -> str:
    """The prefix as a pattern that matches only itself."""
    return "".join("\\" + c if c in "*?[]\\^" else c for c in prefix)

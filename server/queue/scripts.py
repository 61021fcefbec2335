"""The scripts of `lua/` as typed functions: one per file, one round trip each.

Arguments are given by name and put into place here, so that a call and its script cannot drift apart.
Durations are milliseconds. Errors of Redis pass through unchanged: see `connection.translated`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from msgspec import Struct
from redis.asyncio import Redis

from server.ports import Claimed, Held, Pool
from server.queue.keys import Job, QueueKeys

_HELD = {1: Held.MINE, 0: Held.NOT_MINE, -1: Held.MISSING}

Argument = str | int


class Placed(Struct, frozen=True, kw_only=True, gc=False):
    """A task and where it is to wait: `delay_ms` 0 = ready."""

    task_id: str
    line: str
    delay_ms: int = 0


class Running(Struct, frozen=True, kw_only=True):
    """A task that a worker runs, and the lane whose room it holds ('' = not known)."""

    task_id: str
    line: str
    lane: str = ""


class Expired(Struct, frozen=True, kw_only=True):
    """A lease whose time is over: whose it was."""

    task_id: str
    token: str


class Ready(Struct, frozen=True, kw_only=True):
    """Verdict, or page entry: it waits. `delay_ms` 0 = ready."""

    delay_ms: int = 0


class Owned(Struct, frozen=True, kw_only=True):
    """Verdict, or page entry: the worker with this token has it."""

    token: str


class Over(Struct, frozen=True):
    """Verdict: the store calls it over."""


class Survey(Struct, frozen=True, kw_only=True):
    """What the queue holds, counted in one moment."""

    jobs: int
    leases: int
    delayed: int
    lanes: int
    """Leases counted for lanes: sum over all of them."""
    callers: int
    """Leases counted for callers."""
    entries: int
    """Ids in the lines that were walked, dead ones included."""
    lines: int
    complete: bool
    """Whether these were all lines."""
    oldest_id: str
    """The smallest live id at the head of a line, '' when there is none."""

    @property
    def consistent(self) -> bool:
        """Whether each job has its place, as far as counts tell: dead entries can hide a loss for a while."""
        places = self.leases + self.delayed
        return (
            places <= self.jobs
            and self.lanes == self.callers == self.leases
            and (not self.complete or self.jobs <= places + self.entries)
        )


@cache
def _source(name: str) -> str:
    folder = files("server.queue") / "lua"
    return "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("prelude", name))


class Scripts:
    """The scripts, bound to a client (which must decode its answers) and to the keys behind one prefix."""

    def __init__(self, client: Redis, keys: QueueKeys) -> None:
        self._keys = keys.script_keys
        self._prefix = keys.prefix
        self._client = client
        self._scripts = {
            name: client.register_script(_source(name))
            for name in (
                "enqueue",
                "claim",
                "finish",
                "discard",
                "release",
                "renew",
                "hand_over",
                "keep_only",
                "hold_sweep",
                "due",
                "resolve_expired",
                "mark",
                "rebuild_page",
                "survey",
            )
        }

    async def _run(self, name: str, *arguments: Argument) -> Any:
        return await self._scripts[name](keys=self._keys, args=[self._prefix, *arguments])

    async def enqueue(self, entries: Iterable[Placed]) -> int:
        """Put tasks at the tail of their lines, or delayed; how many were not there before."""
        return int(await self._run("enqueue", *_placed(entries)))

    async def claim(
        self,
        *,
        token: str,
        free: int,
        lease_ms: int,
        cap: int,
        pools: Sequence[Pool],
        most_skips: int,
        most_due: int,
        most_parked: int,
        over: Sequence[str] = (),
    ) -> tuple[int, list[Claimed]]:
        """In how many ms to come back (-1 = nothing waits for a time), and what was taken.

        First what is `over` is taken out, as by `finish`.
        """
        arguments: list[Argument] = [token, free, lease_ms, cap, most_skips, most_due, most_parked]
        arguments += [len(over), *over]
        for pool in pools:
            arguments += [pool.code, free if pool.most is None else pool.most, len(pool.lanes)]
            for lane in pool.lanes:
                arguments += [lane.name, lane.limit]
        due_ms, *taken = await self._run("claim", *arguments)
        return int(due_ms), [
            Claimed(task_id=task_id, lane=lane, pool=pool)
            for task_id, lane, pool in zip(taken[::3], taken[1::3], taken[2::3], strict=True)
        ]

    async def finish(self, *, token: str, task_ids: Sequence[str]) -> list[Held]:
        """Take out what this token holds."""
        return [_HELD[code] for code in await self._run("finish", token, *task_ids)]

    async def discard(self, task_ids: Sequence[str]) -> int:
        """Take out whatever holds it; how many were in the queue."""
        return int(await self._run("discard", *task_ids))

    async def release(self, *, token: str, entries: Iterable[Placed]) -> list[Held]:
        """Give back what this token holds, and make again what is missing."""
        return [_HELD[code] for code in await self._run("release", token, *_placed(entries))]

    async def renew(self, *, token: str, lease_ms: int, tasks: Iterable[Running]) -> list[Held]:
        """Prolong what this token holds, and make again what is missing."""
        arguments = [part for task in tasks for part in (task.task_id, task.line, task.lane)]
        return [_HELD[code] for code in await self._run("renew", token, lease_ms, *arguments)]

    async def keep_only(self, *, token: str, task_ids: Sequence[str]) -> int:
        """Give back what this token holds but for these; how many."""
        return int(await self._run("keep_only", token, *task_ids))

    async def hand_over(self, *, token: str, owner: str, lease_ms: int, task_id: str) -> Held:
        """Make the owner the holder of what this token holds."""
        return _HELD[await self._run("hand_over", token, owner, lease_ms, task_id)]

    async def hold_sweep(self, *, holder: str, ttl_ms: int) -> tuple[str, str] | None:
        """The marker ('' = missing) and Redis's run id for who now holds the walk; None: another one does."""
        held, *found = await self._run("hold_sweep", holder, ttl_ms)
        return (found[0], found[1]) if held else None

    async def due(self, *, most_due: int, most_expired: int) -> list[Expired]:
        """Make due delayed tasks ready and list expired leases."""
        reply = await self._run("due", most_due, most_expired)
        return [
            Expired(task_id=task_id, token=Job.decode(value).token)
            for task_id, value in zip(reply[::2], reply[1::2], strict=True)
        ]

    async def resolve_expired(
        self, *, lease_ms: int, verdicts: Iterable[tuple[Expired, Ready | Owned | Over]]
    ) -> int:
        """Act on those that are still as they were seen; on how many."""
        arguments: list[Argument] = []
        for lease, verdict in verdicts:
            arguments += [lease.task_id, lease.token]
            match verdict:
                case Ready(delay_ms=delay_ms):
                    arguments += ["r", delay_ms]
                case Owned(token=token):
                    arguments += ["l", token]
                case Over():
                    arguments += ["x", ""]
        return int(await self._run("resolve_expired", lease_ms, *arguments))

    async def mark(self, *, old: str, new: str) -> bool:
        """Replace the marker if it is still `old` ('' = missing)."""
        return bool(await self._run("mark", old, new))

    async def rebuild_page(
        self, *, old: str, new: str, lease_ms: int, page: Iterable[tuple[str, str, Ready | Owned]]
    ) -> int | None:
        """Add the missing ones of (id, line, place) and move the marker; None if it is no longer `old`."""
        arguments: list[Argument] = []
        for task_id, line, place in page:
            arguments += [task_id, line]
            match place:
                case Ready(delay_ms=0):
                    arguments += ["r", ""]
                case Ready(delay_ms=delay_ms):
                    arguments += ["d", delay_ms]
                case Owned(token=token):
                    arguments += ["l", token]
        added = int(await self._run("rebuild_page", old, new, lease_ms, *arguments))
        return None if added < 0 else added

    async def survey(self, *, most_lines: int) -> Survey:
        """Count, and walk up to so many lines."""
        reply = await self._run("survey", most_lines)
        jobs, leases, delayed, lanes, callers, entries, lines, complete, oldest = reply
        return Survey(
            jobs=jobs,
            leases=leases,
            delayed=delayed,
            lanes=lanes,
            callers=callers,
            entries=entries,
            lines=lines,
            complete=bool(complete),
            oldest_id=oldest,
        )


def _placed(entries: Iterable[Placed]) -> list[Argument]:
    return [part for entry in entries for part in (entry.task_id, entry.line, entry.delay_ms)]

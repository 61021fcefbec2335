"""The queue's keys as a state that a test lays out, reads back and checks, without the scripts under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from server.queue.keys import Job, QueueKeys

PAST_MS = 1_000
FUTURE_MS = 2**52


@dataclass(frozen=True, slots=True)
class Leased:
    """A task that is held."""

    line: str
    token: str
    lane: str = "lane"
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Delayed:
    """A task that is not yet due, or is."""

    line: str
    due: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """Everything but the order of the rings. Ids in `lines` that have no other place are ready, or dead."""

    lines: Mapping[str, Sequence[str]] = field(default_factory=dict)
    parked: frozenset[str] = frozenset()
    """Those of the lines that are parked; the others stand in their rings."""
    leased: Mapping[str, Leased] = field(default_factory=dict)
    delayed: Mapping[str, Delayed] = field(default_factory=dict)
    dead: frozenset[str] = frozenset()
    """Ids in lines that `jobs` does not know."""


class Board:
    """Lays out and reads the keys behind one prefix."""

    def __init__(self, client: Redis, keys: QueueKeys) -> None:
        self.client = client
        self.keys = keys

    def key(self, name: str) -> str:
        """The full name of a key."""
        return self.keys.named(name)

    async def lay_out(self, state: State) -> None:
        """Write the state into an empty queue."""
        for line, ids in state.lines.items():
            await self.client.rpush(self.key(f"q:{line}"), *ids)
            await self._place(line, parked=line in state.parked)
            for task_id in ids:
                if task_id not in state.dead:
                    await self._job(task_id, Job(flag="r", line=line))
        for task_id, lease in state.leased.items():
            await self._job(task_id, Job(flag="l", line=lease.line, token=lease.token, lane=lease.lane))
            await self.client.zadd(self.key("leases"), {task_id: PAST_MS if lease.expired else FUTURE_MS})
            for counted in ("l" + lease.lane, "c" + lease.line[3:]):
                await self.client.hincrby(self.key("load"), counted, 1)
        for task_id, delayed in state.delayed.items():
            await self._job(task_id, Job(flag="d", line=delayed.line))
            await self.client.zadd(self.key("delayed"), {task_id: PAST_MS if delayed.due else FUTURE_MS})

    async def _place(self, line: str, *, parked: bool) -> None:
        """Put the line into its ring, or park it."""
        if parked:
            await self.client.rpush(self.key(f"park:{line[3:]}"), line[:3])
            await self.client.zadd(self.key("parked"), {line[3:]: PAST_MS})
            return
        await self.client.rpush(self.key(f"ring:{line[:3]}"), line[3:])
        if line[:2] not in await self.members(f"ring:{line[2]}"):
            await self.client.rpush(self.key(f"ring:{line[2]}"), line[:2])

    async def _job(self, task_id: str, job: Job) -> None:
        await self.client.hset(self.key("jobs"), task_id, job.encode())

    async def jobs(self) -> dict[str, Job]:
        """The hash, taken apart."""
        found = await self.client.hgetall(self.key("jobs"))
        return {str(task_id): Job.decode(str(value)) for task_id, value in found.items()}

    async def read(self) -> State:
        """The state as it is now, after checking that it is sound."""
        jobs = await self.jobs()
        now_s, us = await self.client.time()
        now_ms = int(now_s) * 1000 + int(us) // 1000
        leases = await self._scores("leases")
        waiting = await self._scores("delayed")
        lines = await self.lines()
        parked = await self.parked()
        await self._check(jobs, lines, parked, leases=set(leases), delayed=set(waiting))
        return State(
            lines=lines,
            parked=frozenset(parked),
            leased={
                i: Leased(jobs[i].line, jobs[i].token, jobs[i].lane, expired=end <= now_ms)
                for i, end in leases.items()
            },
            delayed={i: Delayed(jobs[i].line, due=time <= now_ms) for i, time in waiting.items()},
            dead=frozenset(i for ids in lines.values() for i in ids if i not in jobs),
        )

    async def lines(self) -> dict[str, list[str]]:
        """Every line that is not empty, dead entries included."""
        return await self._lists("q:")

    async def parked(self) -> list[str]:
        """Every line that is parked."""
        lists = await self._lists("park:")
        assert set(lists) == set(await self._scores("parked"))
        return [ring + caller for caller, rings in lists.items() for ring in rings]

    async def _lists(self, family: str) -> dict[str, list[str]]:
        """Every list of this family, by the rest of its name."""
        prefix = self.key(family)
        names = [str(name) async for name in self.client.scan_iter(match=f"{prefix}*", count=1000)]
        return {name.removeprefix(prefix): await self.members(family + name[len(prefix) :]) for name in names}

    async def members(self, name: str) -> list[str]:
        """The list under this key, head first."""
        return [str(member) for member in await self.client.lrange(self.key(name), 0, -1)]

    async def _scores(self, name: str) -> dict[str, float]:
        client: Any = self.client
        return {str(i): float(at) for i, at in await client.zrange(self.key(name), 0, -1, withscores=True)}

    async def _check(
        self,
        jobs: dict[str, Job],
        lines: dict[str, list[str]],
        parked: list[str],
        *,
        leases: set[str],
        delayed: set[str],
    ) -> None:
        """Each job in exactly the place its flag says; loads = leases; rings + parked = lines, each once.

        A caller that is parked holds a lease: its end is what brings the caller back.
        """
        by_flag: dict[str, set[str]] = {"r": set(), "d": set(), "l": set()}
        for task_id, job in jobs.items():
            by_flag[job.flag].add(task_id)
        assert by_flag["l"] == leases
        assert by_flag["d"] == delayed
        for task_id in by_flag["r"]:
            assert task_id in lines.get(jobs[task_id].line, ()), f"{task_id} is ready and in no line"
        load: dict[str, int] = {}
        for task_id in leases:
            for counted in ("l" + jobs[task_id].lane, "c" + jobs[task_id].line[3:]):
                load[counted] = load.get(counted, 0) + 1
        found = {counted: int(n) for counted, n in (await self.client.hgetall(self.key("load"))).items()}
        assert found == load
        assert len(parked) == len(set(parked)), "parked once"
        assert set(parked) <= set(lines), "only what holds something is parked"
        assert {"c" + line[3:] for line in parked} <= set(load), "who is parked holds a lease"
        rings: dict[str, set[str]] = {"c": set(), "d": set(), "l": set()}
        for line in set(lines) - set(parked):
            rings[line[2]].add(line[:2])
            rings.setdefault(line[:3], set()).add(line[3:])
        for name, members in rings.items():
            assert sorted(await self.members(f"ring:{name}")) == sorted(members), f"ring:{name}"
        assert await self.client.llen(self.key("wake")) <= 1

    async def expire_leases(self) -> None:
        """Put the end of every lease into the past."""
        for task_id in await self._scores("leases"):
            await self.client.zadd(self.key("leases"), {task_id: PAST_MS})

    async def make_due(self) -> None:
        """Make every delayed task due."""
        for task_id in await self._scores("delayed"):
            await self.client.zadd(self.key("delayed"), {task_id: PAST_MS})

    async def snapshot(self) -> dict[str, bytes]:
        """All keys of the queue as they are."""
        names = [str(name) async for name in self.client.scan_iter(match=f"{self.keys.prefix}*", count=1000)]
        found = {name: await self.client.dump(name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    async def restore(self, snapshot: Mapping[str, bytes]) -> None:
        """What a replica that stopped following at that time has, as a Redis process of its own."""
        await self.client.flushall()
        for name, value in snapshot.items():
            await self.client.restore(name, 0, value, replace=True)
        swept = await self.client.get(self.key("swept"))
        if swept is not None:
            await self.client.set(self.key("swept"), "another-run" + str(swept))

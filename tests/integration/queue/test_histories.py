"""Random histories: workers that die or go on unknowing, flushes, stale replicas, lost keys; all end well."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.domain.task import Priority
from server.queue.connection import open_client
from server.queue.keys import QueueKeys
from server.queue.task_queue import RedisTaskQueue
from tests.integration.queue.board import Board, State
from tests.integration.queue.world import POOLS, World
from tests.redis_server import assert_no_leaked_keys

Step = tuple[str, int, int]

QUIET_STEPS = (
    "submit",
    "submit",
    "forget",
    "take",
    "take",
    "look",
    "complete",
    "hand back",
    "delay",
    "renew",
)
TIME_STEPS = ("start", "expire", "due", "sweep", "sweep", "cap")
FAULTS = ("lost", "flush", "snapshot", "fail over", "lose a key")

number = st.integers(0, 5)
histories = st.lists(
    st.tuples(st.sampled_from(QUIET_STEPS * 3 + TIME_STEPS * 2 + FAULTS), number, number),
    min_size=5,
    max_size=40,
)
quiet_histories = st.lists(
    st.tuples(st.sampled_from(QUIET_STEPS + TIME_STEPS), number, number), min_size=10, max_size=60
)

KEYS = (
    "jobs",
    "leases",
    "delayed",
    "load",
    "swept",
    "ring:d",
    "ring:lod",
    "wake",
    "turn",
    "sweeper",
)


class History:
    """Plays steps on a world; each is (what, two numbers that choose the worker, the task, …)."""

    def __init__(self, queue: RedisTaskQueue, board: Board) -> None:
        self.world = World(queue, board, caller_cap=2)
        self.board = board
        self.workers = [self.world.start_worker(), self.world.start_worker()]
        self.snapshot: Mapping[str, bytes] = {}
        self.sound = True
        """Whether no single key was lost so far."""

    async def play(self, step: Step) -> None:
        """Take one step; one that has nothing to act upon does nothing."""
        what, first, second = step
        world = self.world
        worker = self.workers[first % len(self.workers)]
        running = sorted(world.running[worker])
        task_id = running[second % len(running)] if running else None
        match what:
            case "submit" | "forget":
                await world.submit(
                    f"t{len(world.store.tasks):03}",
                    enqueue=what == "submit",
                    pool=POOLS[first % 2].code,
                    priority=list(Priority)[second % 3],
                    caller=f"caller {first % 3}",
                )
            case "take" if self.sound:
                await self._take(worker, free=second + 1)
            case "take":
                await world.take(worker, free=second + 1)
            case "look":
                await world.look(worker)
            case "complete" if task_id:
                await world.complete(worker, task_id)
            case "hand back" | "delay" if task_id:
                await world.hand_back(worker, task_id, delay_ms=60_000 if what == "delay" else 0)
            case "renew":
                await world.renew(worker)
            case "start":
                self.workers.append(world.start_worker())
            case "lost":
                world.declare_lost(worker)
                if second % 2:
                    world.claimed[worker], world.running[worker] = [], {}
            case "cap":
                world.caller_cap = second % 4
            case "expire":
                await self.board.expire_leases()
            case "due":
                await self.board.make_due()
            case "sweep":
                await world.sweep.step()
            case "flush":
                await self.board.client.flushall()
            case "snapshot":
                self.snapshot = await self.board.snapshot()
            case "fail over":
                await self.board.restore(self.snapshot)
            case "lose a key":
                self.sound = False
                parked = sorted(await self.board.client.keys(self.board.key("park*")))
                keys = [*map(self.board.key, KEYS), *map(str, parked)]
                await self.board.client.delete(keys[(6 * first + second) % len(keys)])

    async def _take(self, worker: str, *, free: int) -> None:
        """Claim, and check what was given against the state before."""
        before = await self.board.read()
        known = len(self.world.claimed[worker])
        await self.world.take(worker, free=free)
        taken = self.world.claimed[worker][known:]
        after = await self.board.read()
        assert len(taken) <= free
        for claimed in taken:
            assert claimed.task_id not in before.leased
            assert after.leased[claimed.task_id].token == worker
        for line, ids in before.lines.items():
            mine = [c.task_id for c in taken if after.leased[c.task_id].line == line]
            assert mine == [i for i in dict.fromkeys(ids) if i in mine], "in the order of the line"
        held_by = Counter(lease.line[3:] for lease in after.leased.values())
        cap = self.world.caller_cap
        for claimed in taken:
            assert not cap or held_by[after.leased[claimed.task_id].line[3:]] <= cap
        load = {
            lane: [held.lane for held in after.leased.values()].count(lane) for lane in ("narrow", "shared")
        }
        limits = {lane.name: lane.limit for pool in POOLS for lane in pool.lanes}
        for claimed in taken:
            assert load[claimed.lane] <= limits[claimed.lane]
        if len(taken) < free:
            full = {lane for lane, limit in limits.items() if load[lane] >= limit}
            for pool in POOLS:
                if not {lane.name for lane in pool.lanes} <= full:
                    left = [line for line in _ready(after, pool.code) if not 0 < cap <= held_by[line[3:]]]
                    assert not left, "no work is left where there is room, but that of callers at their cap"


def _ready(state: State, pool: str) -> list[str]:
    """The lines of this pool in which a task is ready."""
    return [
        line
        for line, ids in state.lines.items()
        if line.startswith(pool)
        for task_id in ids
        if task_id not in state.dead and task_id not in state.leased and task_id not in state.delayed
    ]


async def play(url: str, prefix: str, steps: Sequence[Step], *, check_each: bool) -> None:
    """One history from an empty Redis to the end of all its tasks."""
    async with aclosing(RedisTaskQueue(url, prefix=prefix)) as queue, open_client(url, timeout_s=5) as client:
        await client.flushall()
        board = Board(client, QueueKeys(prefix))
        history = History(queue, board)
        for step in steps:
            await history.play(step)
            if check_each:
                await board.read()
        history.world.caller_cap = history.world.caller_cap or 1
        await history.world.settle(sound=history.sound)
    assert_no_leaked_keys(url, prefix)


@given(steps=quiet_histories)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_without_faults_every_step_leaves_the_queue_sound(
    redis_url: str, redis_prefix: str, steps: list[Step]
) -> None:
    asyncio.run(play(redis_url, redis_prefix, steps, check_each=True))


@given(steps=histories)
@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_with_faults_every_task_still_ends_once(redis_url: str, redis_prefix: str, steps: list[Step]) -> None:
    asyncio.run(play(redis_url, redis_prefix, steps, check_each=False))

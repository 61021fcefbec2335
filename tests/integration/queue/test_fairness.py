"""Who gets how much: callers share within a priority, none takes all, and LOW is never forgotten."""

from __future__ import annotations

from collections import Counter

import pytest

from server.domain.fairness import caller_cap
from server.domain.task import Priority
from server.ports import Entry, Lane, Pool
from server.queue.task_queue import RedisTaskQueue
from tests.integration.queue.board import Board

LEASE_MS = 60_000
SLOTS = 10
WORKERS = ("worker-1", "worker-2", "worker-3")
POOL = Pool(code="lo", lanes=(Lane(name="local", limit=1_000),))
CRITICAL, DEFAULT, LOW = Priority.CRITICAL, Priority.DEFAULT, Priority.LOW


def entries(name: str, count: int, *, priority: Priority = DEFAULT, pool: str = "lo") -> list[Entry]:
    """Tasks of one caller, all named after it."""
    return [Entry(task_id=f"{name}-{n:05}", pool=pool, priority=priority, caller=name) for n in range(count)]


class Shift:
    """Workers that claim in turn and finish what they hold when told."""

    def __init__(self, queue: RedisTaskQueue, *, cap: int = 0) -> None:
        self.queue = queue
        self.cap = cap
        self.held: dict[str, list[str]] = {worker: [] for worker in WORKERS}

    async def claim(self, worker: str, *, free: int, pool: Pool = POOL) -> list[str]:
        """What the worker gets."""
        claims = await self.queue.claim(
            worker=worker, free=free, pools=[pool], lease_ms=LEASE_MS, caller_cap=self.cap
        )
        taken = [task.task_id for task in claims.tasks]
        self.held[worker] += taken
        return taken

    async def fill(self) -> list[str]:
        """Every worker claims for all its free slots; what was taken."""
        taken: list[str] = []
        for worker in WORKERS:
            if free := SLOTS - len(self.held[worker]):
                taken += await self.claim(worker, free=free)
        return taken

    async def finish(self, worker: str, task_id: str) -> None:
        """The worker is done with one task."""
        self.held[worker].remove(task_id)
        await self.queue.finish(worker=worker, task_ids=[task_id])

    async def finish_all(self) -> None:
        """Everybody is done with everything."""
        for worker, held in self.held.items():
            await self.queue.finish(worker=worker, task_ids=held)
            held.clear()

    def running(self) -> Counter[str]:
        """Tasks that are held, by caller."""
        return Counter(task_id.split("-")[0] for held in self.held.values() for task_id in held)


# --- callers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("priority", "flood"), [(CRITICAL, 1_000), (DEFAULT, 10_000), (LOW, 1_000)])
async def test_one_task_beside_thousands_of_another_is_next(
    queue: RedisTaskQueue, board: Board, priority: Priority, flood: int
) -> None:
    await queue.enqueue(entries("ann", flood, priority=priority))
    shift = Shift(queue, cap=caller_cap(SLOTS * len(WORKERS)))
    await shift.fill()
    assert shift.running() == {"ann": 23}, "three quarters of 30 slots"

    await queue.enqueue(entries("ben", 1, priority=priority))

    assert await shift.fill() == ["ben-00000"]
    await board.read()


async def test_before_the_cap_a_new_caller_waits_one_turn_of_each_other(queue: RedisTaskQueue) -> None:
    for name in ("ann", "cat", "dan"):
        await queue.enqueue(entries(name, 1_000))
    shift = Shift(queue)
    await shift.claim(WORKERS[0], free=7)
    await queue.enqueue(entries("ben", 2))
    taken = [task_id.split("-")[0] for task_id in await shift.claim(WORKERS[0], free=8)]
    assert taken == ["cat", "dan", "ann", "ben", "cat", "dan", "ann", "ben"]


async def test_a_quarter_of_the_slots_stays_free_for_others(queue: RedisTaskQueue, board: Board) -> None:
    """Whatever ends in which order; those who are not at the cap find a slot at once."""
    await queue.enqueue(entries("ann", 400))
    await queue.enqueue(entries("ann", 100, priority=CRITICAL)[50:])
    shift = Shift(queue, cap=caller_cap(SLOTS * len(WORKERS)))
    for turn in range(30):
        await shift.fill()
        assert shift.running()["ann"] == 23
        if turn % 3 == 0:
            newcomer = f"caller {turn}"
            await queue.enqueue(entries(newcomer, 7))
            assert [i for i in await shift.fill() if i.startswith(newcomer)], "at once"
            assert shift.running()["ann"] == 23
        if turn % 5 == 4:
            await shift.finish_all()
        else:
            worker = WORKERS[turn % 3]
            for task_id in list(shift.held[worker])[turn % 4 :]:
                await shift.finish(worker, task_id)
    await board.read()


@pytest.mark.usefixtures("no_leaked_keys")
async def test_everything_is_claimed_in_the_end_whatever_the_cap(queue: RedisTaskQueue, board: Board) -> None:
    """Workers come and go, so the cap rises and falls; nobody who is parked is forgotten."""
    for name in ("ann", "ben", "cat"):
        for priority in Priority:
            await queue.enqueue(entries(f"{name}-{priority.value}", 0))
            await queue.enqueue(
                [
                    Entry(task_id=f"{name}-{priority.value}-{n}", pool="lo", priority=priority, caller=name)
                    for n in range(40)
                ]
            )
    shift = Shift(queue)
    done = 0
    for turn in range(200):
        shift.cap = (5, 1, 9, 2, 1, 23)[turn % 6]
        await shift.fill()
        assert any(shift.held.values()), "there is work, and nobody holds anything"
        worker = next(w for w in (*WORKERS[turn % 3 :], *WORKERS) if shift.held[w])
        for task_id in list(shift.held[worker]):
            await shift.finish(worker, task_id)
            done += 1
        await board.read()
        if done == 360:
            break
    assert done == 360


async def test_a_cap_that_rises_frees_a_parked_caller_without_an_end(queue: RedisTaskQueue) -> None:
    await queue.enqueue(entries("ann", 20))
    shift = Shift(queue, cap=caller_cap(SLOTS))
    assert len(await shift.fill()) == 8
    shift.cap = caller_cap(2 * SLOTS)
    assert len(await shift.fill()) == 15 - 8


# --- priorities --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3, 10, 25])
async def test_every_head_of_low_is_claimed_within_ten_claims(queue: RedisTaskQueue, batch: int) -> None:
    """The bound of the lowest priority's wait, under floods of the others, over several workers."""
    await queue.enqueue(entries("flood", 300, priority=CRITICAL))
    await queue.enqueue(entries("flow", 300, priority=DEFAULT))
    await queue.enqueue(entries("low", 12, priority=LOW))
    shift = Shift(queue)
    claimed: list[str] = []
    while len(claimed) < 120:
        claimed += await shift.claim(WORKERS[len(claimed) % 3], free=min(batch, 120 - len(claimed)))
    places = [place for place, task_id in enumerate(claimed) if task_id.startswith("low")]
    assert places == [9 + 10 * n for n in range(12)]


async def test_low_work_that_comes_late_waits_no_longer(queue: RedisTaskQueue) -> None:
    """Wherever the wheel stands when it comes."""
    await queue.enqueue(entries("flood", 300, priority=CRITICAL))
    await queue.enqueue(entries("flow", 300, priority=DEFAULT))
    shift = Shift(queue)
    for n in range(20):
        await queue.enqueue([Entry(task_id=f"low-{n}", pool="lo", priority=LOW, caller="low")])
        waited = 1
        while not (await shift.claim(WORKERS[waited % 3], free=1))[0].startswith("low"):
            waited += 1
        assert waited <= 10
        await shift.claim(WORKERS[0], free=n % 4 + 1)


async def test_the_wheel_turns_once_for_each_task_whoever_claims(queue: RedisTaskQueue, board: Board) -> None:
    for priority in Priority:
        await queue.enqueue(entries(priority.value, 100, priority=priority))
    shift = Shift(queue)
    claimed: list[str] = []
    for turn in range(30):
        claimed += await shift.claim(WORKERS[turn % 3], free=turn % 4 + 1)
        assert await board.client.get(board.key("turn")) == str(len(claimed) % 10)
    for start in range(0, 70, 10):
        turns = Counter(task_id.split("-")[0] for task_id in claimed[start : start + 10])
        assert turns == {"CRITICAL": 6, "DEFAULT": 3, "LOW": 1}


async def test_a_caller_at_its_cap_leaves_the_turns_to_others_of_any_priority(queue: RedisTaskQueue) -> None:
    await queue.enqueue(entries("ann", 50, priority=CRITICAL))
    await queue.enqueue(entries("ben", 50, priority=LOW))
    shift = Shift(queue, cap=3)
    assert [i.split("-")[0] for i in await shift.claim(WORKERS[0], free=6)] == ["ann"] * 3 + ["ben"] * 3


# --- pools -------------------------------------------------------------------------------------------------


async def test_no_more_of_a_pool_than_the_worker_asks_for(queue: RedisTaskQueue, board: Board) -> None:
    """What it leaves may be for another worker, so that one is woken."""
    await queue.enqueue(entries("ann", 6))
    await queue.enqueue(entries("ben", 2, pool="xx", priority=LOW))
    await board.client.delete(board.key("wake"))
    few = Pool(code="lo", lanes=POOL.lanes, most=4)
    other = Pool(code="xx", lanes=(Lane(name="other", limit=10),), most=8)

    claims = await queue.claim(worker=WORKERS[0], free=10, pools=[few, other], lease_ms=LEASE_MS)

    assert Counter(task.pool for task in claims.tasks) == {"lo": 4, "xx": 2}
    assert await board.client.llen(board.key("wake")) == 1
    claims = await queue.claim(worker=WORKERS[1], free=10, pools=[few, other], lease_ms=LEASE_MS)
    assert Counter(task.pool for task in claims.tasks) == {"lo": 2}
    await board.read()

"""Claim: who is served in what order, what is passed, and what comes back."""

from __future__ import annotations

from collections import Counter

import pytest

from server.domain.task import Priority
from server.ports import Claimed, Entry, Lane, Pool
from server.queue.keys import line_of
from server.queue.scripts import Scripts
from server.queue.task_queue import MOST_SKIPS, RedisTaskQueue
from tests.integration.queue.board import Board, Delayed, Leased, State

EVERY_REDIS = True

ME = "worker-1"
LEASE_MS = 60_000
WIDE = Pool(code="lo", lanes=(Lane(name="local", limit=1000),))
ANN = line_of(pool="lo", priority=Priority.DEFAULT, caller="ann")
BEN = line_of(pool="lo", priority=Priority.DEFAULT, caller="ben")
CRITICAL, DEFAULT, LOW = Priority.CRITICAL, Priority.DEFAULT, Priority.LOW


def entry(task_id: str, *, caller: str = "ann", priority: Priority = DEFAULT, pool: str = "lo") -> Entry:
    return Entry(task_id=task_id, pool=pool, priority=priority, caller=caller)


async def claim_ids(queue: RedisTaskQueue, free: int, *pools: Pool) -> list[str]:
    claims = await queue.claim(worker=ME, free=free, pools=pools or (WIDE,), lease_ms=LEASE_MS)
    return [task.task_id for task in claims.tasks]


async def test_takes_a_lease_and_room_for_each(queue: RedisTaskQueue, board: Board) -> None:
    await queue.enqueue([entry("t1"), entry("t2"), entry("t3")])

    claims = await queue.claim(worker=ME, free=2, pools=[WIDE], lease_ms=LEASE_MS)

    assert claims.tasks == [Claimed(task_id=task_id, lane="local", pool="lo") for task_id in ("t1", "t2")]
    assert claims.next_due_ms is None
    assert await board.read() == State(
        lines={ANN: ["t3"]}, leased={"t1": Leased(ANN, ME, "local"), "t2": Leased(ANN, ME, "local")}
    )


@pytest.mark.parametrize("free", [0, -1])
async def test_takes_nothing_without_a_free_slot(queue: RedisTaskQueue, board: Board, free: int) -> None:
    await queue.enqueue([entry("t1")])
    assert await claim_ids(queue, free) == []
    assert await board.read() == State(lines={ANN: ["t1"]})


@pytest.mark.parametrize("batch", [1, 7, 10, 200])
async def test_of_ten_turns_six_are_critical_three_default_one_low(queue: RedisTaskQueue, batch: int) -> None:
    priorities = (CRITICAL, DEFAULT, LOW)
    await queue.enqueue([entry(f"{p.value}-{n}", priority=p) for p in priorities for n in range(200)])

    claimed: list[str] = []
    while len(claimed) < 200:
        claimed += await claim_ids(queue, min(batch, 200 - len(claimed)))

    for start in range(0, 200, 10):
        turns = Counter(task_id.split("-")[0] for task_id in claimed[start : start + 10])
        assert turns == {"CRITICAL": 6, "DEFAULT": 3, "LOW": 1}


async def test_a_priority_without_work_leaves_its_turns_to_the_others(queue: RedisTaskQueue) -> None:
    await queue.enqueue([entry(f"{p.value}-{n}", priority=p) for p in (DEFAULT, LOW) for n in range(100)])
    first = Counter(i.split("-")[0] for i in await claim_ids(queue, 100))
    rest = Counter(i.split("-")[0] for i in await claim_ids(queue, 100))
    assert first == {"DEFAULT": 90, "LOW": 10}
    assert rest == {"DEFAULT": 10, "LOW": 90}


async def test_callers_take_turns_however_much_each_has_queued(queue: RedisTaskQueue) -> None:
    await queue.enqueue([entry(f"ann-{n}", caller="ann") for n in range(50)])
    await queue.enqueue([entry(f"ben-{n}", caller="ben") for n in range(3)])
    await queue.enqueue([entry("cat-0", caller="cat")])

    one_by_one = [await claim_ids(queue, 1) for _ in range(3)]
    at_once = await claim_ids(queue, 5)

    assert one_by_one == [["ann-0"], ["ben-0"], ["cat-0"]]
    assert at_once == ["ann-1", "ben-1", "ann-2", "ben-2", "ann-3"]


async def test_pools_take_turns(queue: RedisTaskQueue) -> None:
    await queue.enqueue([entry(f"aa-{n}", pool="aa") for n in range(20)])
    await queue.enqueue([entry(f"bb-{n}", pool="bb") for n in range(2)])
    pools = [Pool(code=code, lanes=(Lane(name=code, limit=100),)) for code in ("aa", "bb")]
    assert await claim_ids(queue, 6, *pools) == ["aa-0", "bb-0", "aa-1", "bb-1", "aa-2", "aa-3"]


async def test_a_full_pool_blocks_no_other(queue: RedisTaskQueue, board: Board) -> None:
    await queue.enqueue([entry(f"aa-{n}", pool="aa", priority=CRITICAL) for n in range(5)])
    await queue.enqueue([entry(f"bb-{n}", pool="bb", priority=LOW) for n in range(5)])
    pools = [
        Pool(code="aa", lanes=(Lane(name="small", limit=2),)),
        Pool(code="bb", lanes=(Lane(name="big", limit=100),)),
    ]

    assert await claim_ids(queue, 4, *pools) == ["aa-0", "aa-1", "bb-0", "bb-1"]
    assert await claim_ids(queue, 1, *pools) == ["bb-2"]
    await queue.finish(worker=ME, task_ids=["aa-0"])
    assert await claim_ids(queue, 2, *pools) == ["aa-2", "bb-3"]
    await board.read()


async def test_the_first_lane_with_room_is_taken(queue: RedisTaskQueue) -> None:
    await queue.enqueue([entry(f"t{n}") for n in range(4)])
    pool = Pool(code="lo", lanes=(Lane(name="first", limit=1), Lane(name="second", limit=2)))
    claims = await queue.claim(worker=ME, free=4, pools=[pool], lease_ms=LEASE_MS)
    assert [task.lane for task in claims.tasks] == ["first", "second", "second"]


async def test_two_pools_may_share_a_lane(queue: RedisTaskQueue) -> None:
    await queue.enqueue([entry(f"aa-{n}", pool="aa") for n in range(3)])
    await queue.enqueue([entry(f"bb-{n}", pool="bb") for n in range(3)])
    shared = (Lane(name="account", limit=3),)
    pools = [Pool(code="aa", lanes=shared), Pool(code="bb", lanes=shared)]
    assert await claim_ids(queue, 6, *pools) == ["aa-0", "bb-0", "aa-1"]


async def test_a_pool_that_was_not_asked_for_is_left(queue: RedisTaskQueue, board: Board) -> None:
    await queue.enqueue([entry("t1", pool="zz"), entry("t2")])
    assert await claim_ids(queue, 5) == ["t2"]
    assert len((await board.read()).lines) == 1


async def test_dead_entries_are_skipped(queue: RedisTaskQueue, board: Board) -> None:
    await board.lay_out(
        State(
            lines={ANN: ["x1", "t1", "t1", "x2", "t2"], BEN: ["x3", "l1", "d1", "t9"]},
            leased={"l1": Leased(BEN, "worker-2", "local")},
            delayed={"d1": Delayed(BEN)},
            dead=frozenset({"x1", "x2", "x3"}),
        )
    )
    # An id is only live in the line that `jobs` names.
    await board.client.hset(board.key("jobs"), "t9", "r" + ANN)
    await board.client.rpush(board.key("q:" + ANN), "t9")

    assert await claim_ids(queue, 10) == ["t1", "t2", "t9"]

    state = await board.read()
    assert not state.lines
    assert set(state.leased) == {"t1", "t2", "t9", "l1"}


async def test_what_dies_behind_a_caller_at_its_cap_goes_with_the_next_claim(
    queue: RedisTaskQueue, board: Board
) -> None:
    """A stale Redis may hold an id twice in its line: the second entry dies as the first is over."""
    await board.lay_out(State(lines={ANN: ["t1", "t1"]}))
    claims = await queue.claim(worker=ME, free=2, pools=[WIDE], lease_ms=LEASE_MS, caller_cap=1)
    assert [task.task_id for task in claims.tasks] == ["t1"]
    await queue.finish(worker=ME, task_ids=["t1"])
    assert await board.read() == State(lines={ANN: ["t1"]}, dead=frozenset({"t1"}))
    assert await claim_ids(queue, 1) == []
    assert await board.read() == State()


async def test_a_long_row_of_dead_entries_is_skipped_over_several_calls(
    queue: RedisTaskQueue, board: Board
) -> None:
    dead = [f"x{n}" for n in range(MOST_SKIPS + 50)]
    await board.lay_out(State(lines={ANN: [*dead, "t1"]}, dead=frozenset(dead)))

    claims = await queue.claim(worker=ME, free=1, pools=[WIDE], lease_ms=LEASE_MS)

    assert not claims.tasks
    assert claims.next_due_ms == 0, "there is more: come back at once"
    assert await board.read() == State(
        lines={ANN: [*dead[MOST_SKIPS:], "t1"]}, dead=frozenset(dead[MOST_SKIPS:])
    )
    assert await claim_ids(queue, 1) == ["t1"]


async def test_due_tasks_are_claimed_first_the_earliest_first(queue: RedisTaskQueue, board: Board) -> None:
    await board.lay_out(
        State(lines={ANN: ["t3"]}, delayed={"t2": Delayed(ANN), "t1": Delayed(ANN), "t4": Delayed(ANN)})
    )
    await board.client.zadd(board.key("delayed"), {"t1": 1000, "t2": 2000})

    claims = await queue.claim(worker=ME, free=5, pools=[WIDE], lease_ms=LEASE_MS)

    assert [task.task_id for task in claims.tasks] == ["t1", "t2", "t3"]
    assert claims.next_due_ms is not None
    assert claims.next_due_ms > LEASE_MS


async def test_says_when_the_next_delayed_task_is_due(queue: RedisTaskQueue) -> None:
    await queue.enqueue([Entry(task_id="t1", pool="lo", priority=DEFAULT, caller="ann", delay_ms=5_000)])
    claims = await queue.claim(worker=ME, free=1, pools=[WIDE], lease_ms=LEASE_MS)
    assert not claims.tasks
    assert claims.next_due_ms is not None
    assert 4_000 < claims.next_due_ms <= 5_000


async def test_a_caller_with_an_empty_line_is_dropped(
    queue: RedisTaskQueue, board: Board, scripts: Scripts
) -> None:
    await board.lay_out(State(lines={ANN: ["t1"], BEN: ["t2"]}))
    await board.client.delete(board.key("q:" + ANN))
    await board.client.hdel(board.key("jobs"), "t1")

    assert await claim_ids(queue, 2) == ["t2"]

    assert not (await board.read()).lines
    assert (await scripts.survey(most_lines=10)).consistent


async def test_work_left_behind_wakes_the_next_worker(queue: RedisTaskQueue, board: Board) -> None:
    wake = board.key("wake")
    await queue.enqueue([entry(f"t{n}") for n in range(3)])
    assert await board.client.lpop(wake)

    await claim_ids(queue, 2)
    assert await board.client.lpop(wake)

    await claim_ids(queue, 2)
    assert await board.client.lpop(wake) is None


async def test_work_that_has_no_room_wakes_nobody_until_there_is(queue: RedisTaskQueue, board: Board) -> None:
    wake = board.key("wake")
    narrow = Pool(code="lo", lanes=(Lane(name="local", limit=1),))
    await queue.enqueue([entry(f"t{n}") for n in range(3)])
    await board.client.delete(wake)

    assert await claim_ids(queue, 2, narrow) == ["t0"]
    assert await board.client.exists(wake) == 0

    await queue.finish(worker=ME, task_ids=["t0"])
    assert await board.client.llen(wake) == 1

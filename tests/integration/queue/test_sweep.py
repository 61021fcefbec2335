"""The sweep: verdicts on expired leases, rebuilds, and the repair of damage."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
from ulid import ULID

from server.domain.errors import StoreUnavailable
from server.domain.task import Priority, TaskState
from server.ports import QueueUnavailable, now_ms
from server.queue.keys import line_of
from server.queue.recovery import Marker
from server.queue.sweep import (
    COMPARE_INTERVAL_MS,
    GRACE_MS,
    WALK_INTERVAL_MS,
    Sweep,
    SweepReport,
    first_id,
)
from server.queue.task_queue import RedisTaskQueue
from tests.fakes_store import MemoryStore
from tests.integration.queue.board import Board, Delayed, Leased, State
from tests.redis_server import RedisServer

LEASE_MS = 60_000
ANN = line_of(pool="lo", priority=Priority.DEFAULT, caller="caller:ann")
ME, OWNER, DEAD = "worker-1", "worker-2", "worker-3"
HOUR_MS = 3_600_000


class Clock:
    """A wall clock that a test can put forward."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead_ms


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.worker(ME)
    store.worker(OWNER)
    store.worker(DEAD, lost=True)
    return store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sweep(queue: RedisTaskQueue, store: MemoryStore, clock: Clock) -> Sweep:
    return Sweep(queue, store, lease_ms=LEASE_MS, clock=clock, walk_interval_ms=0, page=3, pages_per_step=2)


async def run(sweep: Sweep) -> list[SweepReport]:
    """Steps until one leaves nothing to do at once."""
    reports = [await sweep.step()]
    while reports[-1].more:
        assert len(reports) < 100, "the sweep does not come to rest"
        reports.append(await sweep.step())
    return reports


async def marker(board: Board) -> Marker:
    found = Marker.decode(str(await board.client.get(board.key("swept"))))
    assert found is not None
    return found


# --- S1 ----------------------------------------------------------------------------------------------------

LAPSED = Leased(ANN, ME, expired=True)


@pytest.mark.parametrize(
    ("task", "after"),
    [
        pytest.param({}, State(lines={ANN: ["t1", "t0"]}), id="it waits: to the head of its line"),
        pytest.param(
            {"not_before_ms": now_ms() + HOUR_MS},
            State(lines={ANN: ["t0"]}, delayed={"t1": Delayed(ANN)}),
            id="it waits, not yet due: delayed",
        ),
        pytest.param(
            {"state": TaskState.PROCESSING, "owner": DEAD},
            State(lines={ANN: ["t1", "t0"]}),
            id="its owner is lost: to the head of its line",
        ),
        pytest.param(
            {"state": TaskState.PROCESSING, "owner": "worker-9"},
            State(lines={ANN: ["t1", "t0"]}),
            id="its owner has no row any more: to the head of its line",
        ),
        pytest.param(
            {"state": TaskState.PROCESSING, "owner": ME},
            State(lines={ANN: ["t0"]}, leased={"t1": Leased(ANN, ME)}),
            id="its owner lives: renewed",
        ),
        pytest.param(
            {"state": TaskState.PROCESSING, "owner": OWNER},
            State(lines={ANN: ["t0"]}, leased={"t1": Leased(ANN, OWNER)}),
            id="another has it and lives: leased to that one",
        ),
        *(
            pytest.param({"state": state}, State(lines={ANN: ["t0"]}), id=f"it is {state}: taken out")
            for state in TaskState
            if state.terminal
        ),
        pytest.param(None, State(lines={ANN: ["t0"]}), id="the store does not know it: taken out"),
    ],
)
async def test_an_expired_lease_gets_the_store_s_verdict(
    sweep: Sweep, board: Board, store: MemoryStore, task: dict[str, object] | None, after: State
) -> None:
    await board.lay_out(State(lines={ANN: ["t0"]}, leased={"t1": LAPSED}))
    store.add("t0")
    if task is not None:
        store.add("t1", **task)

    report = await sweep.step()

    assert report.expired == 1
    assert await board.read() == after


async def test_an_owner_that_let_its_lease_run_out_gets_a_third_of_one(
    sweep: Sweep, board: Board, store: MemoryStore
) -> None:
    """It may be dead and its verdict on the way: whole leases would add up to more than the promise."""
    await board.lay_out(State(leased={"t1": LAPSED}))
    store.add("t1", state=TaskState.PROCESSING, owner=ME)
    assert (await sweep.step()).expired == 1
    seconds, microseconds = await board.client.time()
    end_ms = await board.client.zscore(board.key("leases"), "t1")
    assert end_ms is not None
    left_ms = end_ms - (seconds * 1000 + microseconds // 1000)
    assert 0 < left_ms <= LEASE_MS / 3


async def test_a_lease_that_is_renewed_while_the_store_is_asked_stays(
    sweep: Sweep, board: Board, store: MemoryStore
) -> None:
    await board.lay_out(State(leased={"t1": LAPSED}))
    store.add("t1")

    async def renew() -> None:
        await board.client.zadd(board.key("leases"), {"t1": 2**52})

    store.after_read = renew

    assert (await sweep.step()).expired == 0
    assert await board.read() == State(leased={"t1": Leased(ANN, ME)})


async def test_a_living_lease_is_left_alone(sweep: Sweep, board: Board, store: MemoryStore) -> None:
    store.add("t1", state=TaskState.PROCESSING, owner=DEAD)
    await board.lay_out(State(leased={"t1": Leased(ANN, DEAD)}))
    await run(sweep)
    assert await board.read() == State(leased={"t1": Leased(ANN, DEAD)})


async def test_due_tasks_become_ready_without_a_claim(sweep: Sweep, board: Board, store: MemoryStore) -> None:
    store.add("t1")
    await board.lay_out(State(delayed={"t1": Delayed(ANN, due=True)}))
    await run(sweep)
    assert await board.read() == State(lines={ANN: ["t1"]})


# --- S2 ----------------------------------------------------------------------------------------------------


async def test_an_empty_redis_is_filled_from_the_store(
    sweep: Sweep, board: Board, store: MemoryStore
) -> None:
    for n in range(10):
        store.add(f"t{n}")
    store.change("t1", state=TaskState.COMPLETED)
    store.change("t2", state=TaskState.PROCESSING, owner=OWNER)
    store.change("t3", state=TaskState.PROCESSING, owner=DEAD)
    store.change("t4", not_before_ms=now_ms() + HOUR_MS)

    reports = await run(sweep)

    assert reports[0].rebuilding
    assert sum(report.added for report in reports) == 9
    assert await board.read() == State(
        lines={ANN: ["t0", "t5", "t6", "t7", "t8", "t9"]},
        leased={"t2": Leased(ANN, OWNER, lane=""), "t3": Leased(ANN, DEAD, lane="")},
        delayed={"t4": Delayed(ANN)},
    )
    assert await board.client.llen(board.key("wake")) == 1


async def test_a_second_sweep_finds_nothing_to_do(sweep: Sweep, board: Board, store: MemoryStore) -> None:
    for n in range(10):
        store.add(f"t{n}")
    await run(sweep)
    before = await marker(board)

    assert await run(sweep) == [SweepReport()]

    assert (await marker(board)).nonce == before.nonce


@pytest.mark.parametrize("strike", range(7))
async def test_a_flush_between_reading_the_store_and_acting_begins_the_rebuild_again(
    sweep: Sweep, board: Board, store: MemoryStore, strike: int
) -> None:
    for n in range(10):
        store.add(f"t{n}")
    reads = 0

    async def flush() -> None:
        nonlocal reads
        if reads == strike:
            await board.client.flushall()
        reads += 1

    store.after_read = flush

    reports = await run(sweep)

    assert sum(report.rebuilding for report in reports) == (2 if 0 < strike < 5 else 1)
    if strike < 5:
        assert await board.read() == State(lines={ANN: [f"t{n}" for n in range(10)]})


async def test_only_a_queue_that_lacks_something_is_worth_a_warning(
    sweep: Sweep, board: Board, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="server.queue.sweep")
    store.add("over", state=TaskState.COMPLETED)
    first_start = await run(sweep)
    assert [record.levelname for record in caplog.records] == ["INFO"]

    store.add("t1")
    await board.client.flushall()
    lost = await run(sweep)

    assert first_start[0].rebuilding
    assert lost[0].rebuilding
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert caplog.messages[1] == "rebuilding the queue from the store: empty"


async def test_the_marker_follows_up_to_the_grace(
    sweep: Sweep, board: Board, store: MemoryStore, clock: Clock
) -> None:
    start = now_ms()
    ids = [str(ULID.from_timestamp((start - age) / 1000)) for age in (3 * GRACE_MS, 2 * GRACE_MS, 1000)]
    for task_id in ids:
        store.add(task_id)

    await run(sweep)

    reached = await marker(board)
    assert first_id(start - GRACE_MS) <= reached.last_id <= first_id(now_ms() - GRACE_MS)
    assert ids[1] < reached.last_id < ids[2]

    clock.ahead_ms = GRACE_MS
    await run(sweep)
    assert (await marker(board)).last_id > ids[2]


async def test_the_grace_counts_from_the_start_of_a_walk(
    queue: RedisTaskQueue, board: Board, store: MemoryStore, clock: Clock
) -> None:
    """A task that is inserted behind the pages that were read must not be passed by the marker."""
    sweep = Sweep(queue, store, lease_ms=LEASE_MS, clock=clock, walk_interval_ms=0, page=1, pages_per_step=1)
    for age in (20, 15, 5):
        store.add(str(ULID.from_timestamp(now_ms() / 1000 - age)))
    late = str(ULID.from_timestamp(now_ms() / 1000 - 10))
    await sweep.step()
    reports = [await sweep.step() for _ in range(3)]
    assert sum(report.added for report in reports) == 3
    store.add(late)
    clock.ahead_ms = GRACE_MS

    assert not (await sweep.step()).more

    assert (await marker(board)).last_id < late
    assert sum([(await sweep.step()).added for _ in range(4)]) == 1


async def test_a_task_whose_enqueue_was_lost_is_found_by_the_next_step(
    sweep: Sweep, board: Board, store: MemoryStore
) -> None:
    await run(sweep)
    task_id = str(ULID())
    store.add(task_id)
    assert (await sweep.step()).added == 1
    assert await board.read() == State(lines={ANN: [task_id]})


async def test_walks_keep_their_interval_but_a_rebuild_does_not_wait(
    queue: RedisTaskQueue, board: Board, store: MemoryStore, clock: Clock
) -> None:
    sweep = Sweep(queue, store, lease_ms=LEASE_MS, clock=clock)
    await run(sweep)
    store.add("t1")
    assert (await sweep.step()).added == 0
    clock.ahead_ms = WALK_INTERVAL_MS
    assert (await sweep.step()).added == 1

    await board.client.flushall()
    assert sum(report.added for report in await run(sweep)) == 1


async def test_a_clock_that_is_set_back_stops_no_walk(
    queue: RedisTaskQueue, board: Board, store: MemoryStore, clock: Clock
) -> None:
    sweep = Sweep(queue, store, lease_ms=LEASE_MS, clock=clock)
    await run(sweep)
    clock.ahead_ms = -HOUR_MS
    task_id = str(ULID.from_timestamp(clock() / 1000))
    store.add(task_id)
    assert sum(report.added for report in await run(sweep)) == 1
    assert await board.read() == State(lines={ANN: [task_id]})


async def test_a_rebuild_is_gone_on_with_where_another_process_left_it(
    sweep: Sweep, queue: RedisTaskQueue, board: Board, store: MemoryStore
) -> None:
    ids = [f"00-{n}" for n in range(10)]
    for task_id in ids:
        store.add(task_id)
    begun = Sweep(queue, store, lease_ms=LEASE_MS, page=3, pages_per_step=1)
    await begun.step()
    await begun.step()
    await board.client.delete(board.key("sweeper"))
    assert not (await marker(board)).complete
    store.afters.clear()

    reports = await run(sweep)

    assert store.afters[0] == ids[2]
    assert [report.more for report in reports] == [True, False], "it does not wait"
    assert (await marker(board)).complete
    assert await board.read() == State(lines={ANN: ids})


async def test_a_process_that_finds_the_queue_whole_is_not_in_a_hurry(
    queue: RedisTaskQueue, board: Board, store: MemoryStore, clock: Clock
) -> None:
    """Else each worker that starts would look at all that is queued before it does anything else."""
    for n in range(10):
        store.add(f"t{n}")
    await run(Sweep(queue, store, lease_ms=LEASE_MS))
    await board.client.delete(board.key("sweeper"))
    left_at = (await marker(board)).last_id
    store.afters.clear()

    sweep = Sweep(queue, store, lease_ms=LEASE_MS, clock=clock, page=3, pages_per_step=2)
    assert await sweep.step() == SweepReport()
    assert store.afters == [left_at, "t2"], "a bounded step over the last minutes"

    while store.afters[-1] != "t8":
        await sweep.step()
    store.afters.clear()
    clock.ahead_ms = WALK_INTERVAL_MS
    assert await sweep.step() == SweepReport()
    assert store.afters == ["", "t2"], "and then one of the comparison"


async def test_another_redis_is_compared_from_the_start(
    sweep: Sweep, board: Board, queue: RedisTaskQueue, store: MemoryStore
) -> None:
    """A replica that had stopped following takes over: it has an older queue, and another run id."""
    store.add("t1")
    store.add("t2")
    await run(sweep)
    old = await marker(board)
    await board.client.hdel(board.key("jobs"), "t2")
    await board.client.rpop(board.key("q:" + ANN))
    stale = Marker(run_id="f" * 40, nonce=old.nonce, last_id=old.last_id)
    await board.client.set(board.key("swept"), stale.encode())

    reports = await run(sweep)

    assert reports[0].rebuilding
    assert sum(report.added for report in reports) == 1
    assert await board.read() == State(lines={ANN: ["t1", "t2"]})


@pytest.mark.parametrize("here", [True, False], ids=["this Redis", "another one"])
@pytest.mark.parametrize(
    "form", ["{run_id}:abc:{last_id}", "{run_id}:abc:", "{run_id}:abc:{last_id}:done:of 2031"]
)
async def test_a_marker_of_another_version_is_gone_on_with_or_replaced(
    sweep: Sweep, board: Board, store: MemoryStore, here: bool, form: str
) -> None:
    """Old and new workers run side by side while a deployment is replaced."""
    store.add("t1")
    await run(sweep)
    now = await marker(board)
    run_id = now.run_id if here else "f" * 40
    await board.client.set(board.key("swept"), form.format(run_id=run_id, last_id=now.last_id))
    store.add("t2")

    assert sum(report.added for report in await run(sweep)) == 1
    assert (await marker(board)).complete
    assert await board.read() == State(lines={ANN: ["t1", "t2"]})


def test_an_incomplete_marker_is_one_of_earlier_builds() -> None:
    """They read it in mid-rebuild, and go on with it."""
    assert Marker(run_id="run", nonce="abc", last_id="01A").encode() == "run:abc:01A"


@pytest.fixture
async def own_server(redis_server: RedisServer, keeps_its_data: bool) -> AsyncIterator[RedisServer]:
    with RedisServer(redis_server.executable, appendonly=keeps_its_data) as server:
        yield server


@pytest.mark.parametrize("keeps_its_data", [True, False])
async def test_a_restart_of_redis(own_server: RedisServer, store: MemoryStore, keeps_its_data: bool) -> None:
    queue = RedisTaskQueue(own_server.url)
    sweep = Sweep(queue, store, lease_ms=LEASE_MS)
    for n in range(5):
        store.add(f"t{n}")
    await run(sweep)
    if keeps_its_data:
        own_server.stop()
    else:
        own_server.kill()
    with pytest.raises(QueueUnavailable):
        await sweep.step()
    own_server.start()

    reports = await run(sweep)

    assert any(report.rebuilding for report in reports)
    assert sum(report.added for report in reports) == (0 if keeps_its_data else 5)
    assert await queue.depth() == 5
    await queue.aclose()


async def test_goes_on_after_the_store_was_away(sweep: Sweep, board: Board, store: MemoryStore) -> None:
    for n in range(10):
        store.add(f"t{n}")
    reads = 0

    async def fail() -> None:
        nonlocal reads
        reads += 1
        if reads == 2:
            raise StoreUnavailable("away")

    store.before_read = fail
    await sweep.step()
    with pytest.raises(StoreUnavailable):
        await sweep.step()

    await run(sweep)

    assert await board.read() == State(lines={ANN: [f"t{n}" for n in range(10)]})


async def test_one_process_at_a_time_walks_the_store(
    queue: RedisTaskQueue, store: MemoryStore, board: Board
) -> None:
    first, second = (Sweep(queue, store, lease_ms=LEASE_MS, walk_interval_ms=0) for _ in range(2))
    store.add("t1")
    assert (await first.step()).rebuilding
    assert await second.step() == SweepReport()
    await run(first)
    await board.lay_out(State(leased={"t2": LAPSED}))
    assert (await second.step()).expired == 1, "expired leases are everybody's"

    await board.client.delete(board.key("sweeper"))
    store.add("t3")
    await run(second)
    assert "t3" in await board.jobs()
    assert await first.step() == SweepReport()


# --- S3 ----------------------------------------------------------------------------------------------------


async def test_a_full_compare_finds_what_the_marker_has_passed(
    sweep: Sweep, board: Board, store: MemoryStore, clock: Clock
) -> None:
    await run(sweep)
    store.add("000-an-id-far-behind-the-marker")
    assert sum(report.added for report in await run(sweep)) == 0

    clock.ahead_ms = COMPARE_INTERVAL_MS
    assert sum(report.added for report in await run(sweep)) == 1
    assert await board.read() == State(lines={ANN: ["000-an-id-far-behind-the-marker"]})


@pytest.mark.parametrize(
    "lost", ["q:" + ANN, "ring:d", "ring:lod", "leases", "delayed", "load", "jobs", "swept"]
)
async def test_whichever_key_is_lost_the_queue_is_whole_again(
    sweep: Sweep, board: Board, store: MemoryStore, lost: str
) -> None:
    for n in range(4):
        store.add(f"t{n}")
    store.change("t2", state=TaskState.PROCESSING, owner=OWNER)
    store.change("t3", not_before_ms=now_ms() + HOUR_MS)
    await run(sweep)
    whole = await board.read()
    await board.client.delete(board.key(lost))

    reports = await run(sweep)

    assert await board.read() == whole
    assert any(report.inconsistent for report in reports) == (lost != "swept")


async def test_a_reset_leaves_other_keys_alone(queue: RedisTaskQueue, board: Board) -> None:
    await board.lay_out(State(lines={ANN: ["t1"]}, leased={"t2": Leased(ANN, ME)}))
    others = ["q:other", "{other}:q:" + ANN, board.keys.prefix.replace("-", "?", 1) + "q:" + ANN]
    for key in others:
        await board.client.set(key, "x")

    await queue.recovery.reset()

    assert await board.read() == State()
    assert await board.client.exists(*others) == len(others)
    await board.client.delete(*others)

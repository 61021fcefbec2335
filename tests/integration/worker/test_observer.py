"""Verdicts on silent workers (rule W2): four reads of the same beat, and any doubt starts again."""

from __future__ import annotations

import asyncio

import pytest

from server.worker.beat import KEEP_LOST_S, MOST_LOST, MOST_REMOVED, Beat, Observer
from tests.integration.worker.bench import Bench
from tests.waiting import until_async

LEASE_S = 15.0
THIRD_S = LEASE_S / 3
DEAD = "worker-d"
ALIVE = "worker-a"


class Watch:
    """An observer and its clock."""

    def __init__(self, bench: Bench) -> None:
        self.now_s = 1_000.0
        self.observer = Observer(
            bench.store, lease_s=LEASE_S, metrics=bench.metrics, clock=lambda: self.now_s
        )

    async def look(self, *, after_s: float = THIRD_S) -> list[str]:
        """Read once, so many seconds after the last time; the verdicts."""
        self.now_s += after_s
        return await self.observer.observe()

    async def look_until_the_last_but_one(self) -> None:
        """Three reads, none of which is a verdict."""
        for _ in range(3):
            assert await self.look() == []


@pytest.fixture
async def watch(bench: Bench) -> Watch:
    await bench.store.register_worker(DEAD, host="h", pid=1)
    return Watch(bench)


async def lost(bench: Bench) -> list[str]:
    return [row.id for row in await bench.store.workers() if row.lost]


async def test_the_fourth_read_of_one_beat_is_the_verdict(bench: Bench, watch: Watch) -> None:
    await watch.look_until_the_last_but_one()
    assert await lost(bench) == []
    assert await watch.look() == [DEAD]
    assert await lost(bench) == [DEAD]
    assert bench.count("imagegen_workers_lost_total") == 1
    assert await watch.look() == [], "once"


@pytest.mark.parametrize("beats_before", [1, 2, 3])
async def test_a_beat_starts_the_window_again(bench: Bench, watch: Watch, beats_before: int) -> None:
    for _ in range(beats_before):
        assert await watch.look() == []
    assert await bench.store.beat(DEAD)
    await watch.look_until_the_last_but_one()
    assert await watch.look() == [DEAD]


async def test_who_beats_is_never_lost(bench: Bench, watch: Watch) -> None:
    await bench.store.register_worker(ALIVE, host="h", pid=2)
    for _ in range(12):
        assert await bench.store.beat(ALIVE)
        await watch.look()
    assert await lost(bench) == [DEAD]


async def test_each_worker_has_its_own_window(bench: Bench, watch: Watch) -> None:
    await watch.look()
    await watch.look()
    await bench.store.register_worker(ALIVE, host="h", pid=2)
    await watch.look()
    assert await watch.look() == [DEAD]
    await watch.look()
    assert await watch.look() == [ALIVE], "silent as well, two reads later"


async def test_a_failed_read_starts_the_window_again(bench: Bench, watch: Watch) -> None:
    """The store may have been away for everybody: nobody could beat."""
    await watch.look_until_the_last_but_one()
    bench.store_faults.away = True
    assert await watch.look() == []
    bench.store_faults.wake()
    await watch.look_until_the_last_but_one()
    assert await watch.look() == [DEAD]


@pytest.mark.parametrize(("gap_s", "verdict"), [(LEASE_S * 2 / 3, [DEAD]), (LEASE_S * 2 / 3 + 0.001, [])])
async def test_a_gap_starts_the_window_again(
    bench: Bench, watch: Watch, gap_s: float, verdict: list[str]
) -> None:
    """This very process may have been suspended, and with it the whole host."""
    await watch.look_until_the_last_but_one()
    assert await watch.look(after_s=gap_s) == verdict
    if not verdict:
        await watch.look()
        await watch.look()
        assert await watch.look() == [DEAD], "the read after the gap was the first of the new window"


async def test_a_beat_between_reading_and_the_verdict_saves_the_worker(bench: Bench, watch: Watch) -> None:
    await watch.look_until_the_last_but_one()
    gate = bench.store_faults.gates["declare_lost"] = asyncio.Event()
    looking = asyncio.create_task(watch.look())

    async def declaring() -> bool:
        return bench.store_faults.calls["declare_lost"] == 1

    await until_async(declaring, within_s=5)
    assert await bench.store.beat(DEAD)
    gate.set()
    assert await looking == []
    assert await lost(bench) == []


async def test_two_observers_give_one_verdict(bench: Bench, watch: Watch) -> None:
    other = Watch(bench)
    for one in (watch, other):
        await one.look_until_the_last_but_one()
    assert sorted([*await watch.look(), *await other.look()]) == [DEAD]
    assert bench.count("imagegen_workers_lost_total") == 1


async def test_a_verdict_the_store_did_not_take_needs_a_new_window(bench: Bench, watch: Watch) -> None:
    await watch.look_until_the_last_but_one()
    bench.store_faults.failing.add("declare_lost")
    assert await watch.look() == []
    bench.store_faults.wake()
    assert await lost(bench) == []
    await watch.look_until_the_last_but_one()
    assert await watch.look() == [DEAD]


async def test_a_lost_worker_that_registers_again_is_another_worker(bench: Bench, watch: Watch) -> None:
    await watch.look_until_the_last_but_one()
    assert await watch.look() == [DEAD]
    await bench.store.register_worker(ALIVE, host="h", pid=1)
    await watch.look_until_the_last_but_one()
    assert await watch.look() == [ALIVE]
    assert await lost(bench) == [ALIVE, DEAD]


async def test_a_row_that_is_taken_away_is_nobody(bench: Bench, watch: Watch) -> None:
    await watch.look_until_the_last_but_one()
    await bench.store.remove_worker(DEAD)
    assert await watch.look() == []


async def test_the_row_of_a_lost_worker_goes_after_an_hour(bench: Bench, watch: Watch) -> None:
    """A missing row counts as lost as well; rows must not pile up."""
    await watch.look_until_the_last_but_one()
    assert await watch.look() == [DEAD]
    await watch.look()
    await watch.look(after_s=KEEP_LOST_S)
    assert await lost(bench) == [DEAD]
    await watch.look(after_s=1.0)
    assert await bench.store.workers() == []
    assert not await bench.store.beat(DEAD), "were it to come back, it would learn so"


async def test_of_many_lost_workers_some_rows_are_kept_though_no_observer_lives_an_hour(
    bench: Bench, watch: Watch
) -> None:
    for number in range(MOST_LOST + 20):
        await bench.store.register_worker(f"dead-{number:03}", host="h", pid=1)
    await bench.store.register_worker(ALIVE, host="h", pid=2)
    for _ in range(6):
        assert await bench.store.beat(ALIVE)
        await watch.look()
    assert len(await lost(bench)) == MOST_LOST
    assert ALIVE in [row.id for row in await bench.store.workers()]


async def lose(bench: Bench, workers: int) -> None:
    for number in range(workers):
        await bench.store.register_worker(f"dead-{number:03}", host="h", pid=1)
        assert await bench.store.declare_lost(f"dead-{number:03}", beat=0)


async def test_one_look_removes_few_rows_however_many_there_are(bench: Bench, watch: Watch) -> None:
    await lose(bench, MOST_LOST + 2 * MOST_REMOVED + 1)
    left = []
    for _ in range(3):
        await watch.look()
        left.append(len(await lost(bench)))
    assert left == [MOST_LOST + MOST_REMOVED + 1, MOST_LOST + 1, MOST_LOST]


async def test_a_row_that_cannot_be_removed_keeps_nobody_from_being_judged(
    bench: Bench, watch: Watch
) -> None:
    await lose(bench, MOST_LOST + 1)
    bench.store_faults.failing.add("remove_worker")
    await watch.look_until_the_last_but_one()
    assert await watch.look() == [DEAD]
    assert bench.count("imagegen_workers_lost_total") == 1


@pytest.mark.parametrize(
    ("own_lease_s", "reads"), [(0.0, 4), (LEASE_S / 5, 4), (LEASE_S, 4), (2 * LEASE_S, 7), (40.0, 9)]
)
async def test_a_worker_is_judged_by_the_longer_of_both_leases(
    bench: Bench, watch: Watch, own_lease_s: float, reads: int
) -> None:
    """LEASE_SECONDS may differ, for good or while it is being changed; 0 is a worker that did not say."""
    await bench.store.remove_worker(DEAD)
    await bench.store.register_worker("worker-1", host="h", pid=1, lease_ms=round(own_lease_s * 1_000))
    for _ in range(reads - 1):
        assert await watch.look() == []
    assert await watch.look() == ["worker-1"]


async def test_who_beats_by_a_longer_lease_is_never_lost(bench: Bench, watch: Watch) -> None:
    """A beat in every fourth read is in time for a lease four times as long."""
    beat = Beat(bench.store, lease_s=4 * LEASE_S)
    await beat.register()
    for n in range(24):
        if n % 4 == 3:
            assert await bench.store.beat(beat.id)
        await watch.look()
    assert await lost(bench) == [DEAD]


async def test_the_slots_of_all_who_are_not_lost_are_added_up(bench: Bench, watch: Watch) -> None:
    for name, slots in (("worker-1", 10), ("worker-2", 4)):
        await bench.store.register_worker(name, host="h", pid=1, slots=slots)
    known = [watch.observer.live_slots]
    await watch.look()
    known.append(watch.observer.live_slots)
    bench.store_faults.away = True
    await watch.look()
    known.append(watch.observer.live_slots)
    bench.store_faults.wake()
    assert await bench.store.declare_lost("worker-1", beat=0)
    await watch.look()
    known.append(watch.observer.live_slots)
    await bench.store.remove_worker("worker-2")
    await watch.look()
    known.append(watch.observer.live_slots)
    assert known == [0, 14, 14, 4, 0], "not read yet, read, as last known, one lost, one gone"


async def test_it_goes_on_by_itself(bench: Bench) -> None:
    await bench.store.register_worker(DEAD, host="h", pid=1)
    observer = Observer(bench.store, lease_s=0.3, metrics=bench.metrics)
    observing = asyncio.create_task(observer.run(), name="observer")

    async def verdict() -> bool:
        return await lost(bench) == [DEAD]

    await until_async(verdict, within_s=5)
    observing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await observing

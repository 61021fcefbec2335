"""What every task store promises about inserting, reading, and request ids."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace

from server.domain import attempt_writes, life
from server.domain.task import Priority, Task, TaskState
from server.domain.writes import Write
from server.ports import RequestIdRow, TaskStore
from tests.contract.any_task import tasks
from tests.contract.samples import NOW_MS, full_task, new_id, new_image, new_task
from tests.contract.steps import kept, running


async def test_a_task_comes_back_as_it_was_inserted(store: TaskStore) -> None:
    task = full_task()
    assert await store.insert(task)
    assert await store.get(task.id) == task


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(task=tasks)
async def test_any_task_comes_back_as_it_was_inserted(store: TaskStore, task: Task) -> None:
    task = replace(task, id=new_id())
    assert await store.insert(task)
    assert await store.get(task.id) == task


async def test_an_id_is_taken_once(store: TaskStore) -> None:
    first = await kept(store, new_task(caller="first"))
    assert not await store.insert(replace(first, caller="second"))
    assert await store.get(first.id) == first


async def test_of_concurrent_inserts_of_one_id_one_is_kept(stores: list[TaskStore]) -> None:
    ids = [new_id() for _ in range(10)]
    racers = [
        (store, new_task(id=task_id, caller=f"caller-{s}-{copy}"))
        for task_id in ids
        for s, store in enumerate(stores)
        for copy in range(4)
    ]
    won = await asyncio.gather(*(store.insert(task) for store, task in racers))
    winners = {task.id: task for (_, task), mine in zip(racers, won, strict=True) if mine}
    assert sum(won) == len(ids)
    assert await stores[0].get_many(ids) == winners


async def test_what_is_not_there_is_not_found(store: TaskStore) -> None:
    await kept(store, new_task())
    for task_id in (new_id(), "task_1234567890", "", "a.b", "$where", "日本"):
        assert await store.get(task_id) is None
        assert not await store.get_many([task_id])
        assert not await store.revisions([task_id])


async def test_hundreds_are_read_at_once(store: TaskStore) -> None:
    some = [new_task() for _ in range(300)]
    assert all(await asyncio.gather(*map(store.insert, some)))
    for number in (1, 63, 64, 65, 300):
        asked = some[:number]
        assert await store.get_many([task.id for task in asked]) == {task.id: task for task in asked}


async def test_many_are_read_at_once(store: TaskStore) -> None:
    some = [await kept(store, new_task()) for _ in range(20)]
    await store.write(life.cancel_pending(some[0], NOW_MS))
    ids = [task.id for task in some]
    asked = [*ids, new_id(), ids[3]]
    assert set(await store.get_many(asked)) == set(ids)
    assert (await store.get_many(asked))[ids[5]] == some[5]
    assert await store.revisions(asked) == {**dict.fromkeys(ids, 1), ids[0]: 2}
    live = await store.live_fields(asked)
    assert set(live) == set(ids)
    assert [live[task_id].state for task_id in ids[:2]] == [TaskState.CANCELLED, TaskState.PENDING]
    assert live[ids[5]] == (await store.live_page(after="", limit=100))[4]
    assert await store.get_many([]) == {}
    assert await store.live_fields([]) == {}
    assert await store.revisions([]) == {}


async def test_what_a_newer_version_wrote_keeps_nobody_from_other_tasks(store: TaskStore) -> None:
    """During a rollout, or after one was taken back: the sweep must go on, and so must all who read."""
    newer, newest, known = [await kept(store, new_task()) for _ in range(3)]
    told = ((newer, {"type": "VIDEO", "priority": "URGENT"}), (newest, {"state": "PAUSED"}))
    for task, values in told:
        write = Write(task_id=task.id, state=task.state, attempt=0, token_slot=1, set=values)
        assert await store.write(write)

    live = await store.live_fields([newer.id, newest.id, known.id])
    assert [live[task.id].priority for task in (newer, known)] == [Priority.DEFAULT] * 2
    assert not live[newest.id].state.terminal
    assert {task.id for task in await store.live_page(after="", limit=10)} == {newer.id, known.id}

    reads = await asyncio.gather(*(store.get(task.id) for task in (newer, known)), return_exceptions=True)
    assert isinstance(reads[0], KeyError)
    assert reads[1] == known


async def test_concurrent_reads_each_get_their_own(store: TaskStore) -> None:
    some = [await kept(store, new_task()) for _ in range(10)]
    asked = [*some, *reversed(some)]
    assert await asyncio.gather(*(store.get(task.id) for task in asked)) == asked


async def test_what_one_store_has_acknowledged_every_store_reads(stores: list[TaskStore]) -> None:
    for n in range(10):
        task = await kept(stores[n % 5], new_task())
        for store in stores:
            assert await store.get(task.id) == task


async def test_a_cancel_that_was_asked_for_is_found(store: TaskStore) -> None:
    task, other, waiting = await running(store), await running(store), await kept(store, new_task())
    assert await store.write(life.request_cancel(task, NOW_MS))
    ids = [task.id, other.id, waiting.id, new_id()]
    assert set(await store.cancel_requested(ids)) == {task.id}
    assert set(await store.cancel_requested([])) == set()
    asked = await store.get(task.id)
    assert asked is not None
    assert asked.cancel_requested
    assert asked.revision == task.revision + 1


async def test_asking_for_a_cancel_takes_no_write_from_the_worker(store: TaskStore) -> None:
    """They keep their tokens apart, so each learns rightly whether its own write took place."""
    task = await running(store)
    asked, added, again = await asyncio.gather(
        store.write(life.request_cancel(task, NOW_MS)),
        store.write(attempt_writes.add_image(task, new_image(), NOW_MS)),
        store.write(life.request_cancel(task, NOW_MS)),
    )
    assert added, "the worker's own write won, and it is told so"
    assert asked or again


async def test_live_tasks_come_in_pages_in_order_of_id(store: TaskStore) -> None:
    some = [await kept(store, new_task(caller=f"c{n}", not_before_ms=n)) for n in range(10)]
    marked = await running(store)
    for task in some[:10:3]:
        assert await store.write(life.cancel_pending(task, NOW_MS))
    live = [task for n, task in enumerate(some) if n % 3] + [marked]
    page = await store.live_page(after="", limit=4)
    assert [task.id for task in page] == [task.id for task in live[:4]]
    rest = await store.live_page(after=page[-1].id, limit=100)
    assert [task.id for task in rest] == [task.id for task in live[4:]]
    assert await store.live_page(after=rest[-1].id, limit=100) == []
    for read, task in zip([*page, *rest], live, strict=True):
        for name in ("caller", "state", "priority", "pool", "owner", "not_before_ms"):
            assert getattr(read, name) == getattr(task, name), name


async def test_paging_over_changing_tasks_misses_none_that_stays_and_repeats_none(store: TaskStore) -> None:
    some = sorted([await kept(store, new_task()) for _ in range(60)], key=lambda task: task.id)
    end, stay = some[::2], some[1::2]
    seen: list[str] = []
    after, pages = "", 0
    while page := await store.live_page(after=after, limit=7):
        seen += [task.id for task in page]
        after = page[-1].id
        pages += 1
        # Behind us, before us, and new ones at the end.
        for task in (end[pages % 30], end[-1 - pages % 30]):
            await store.write(life.cancel_pending(task, NOW_MS))
        if pages < 10:
            await kept(store, new_task())
    assert seen == sorted(set(seen))
    assert {task.id for task in stay} <= set(seen)
    over = {t for t, task in (await store.get_many(seen)).items() if task.state.terminal}
    assert over <= {task.id for task in end}
    assert pages > 5


async def test_a_page_holds_tasks_in_every_state_between_two_ids(store: TaskStore) -> None:
    some = sorted([await kept(store, new_task()) for _ in range(9)], key=lambda task: task.id)
    full = full_task()
    assert await store.insert(full)
    for task in some[::2]:
        assert await store.write(life.cancel_pending(task, NOW_MS))
    found = await store.get_many([full.id, *(task.id for task in some)])
    every = [found[task_id] for task_id in sorted(found)]
    assert await store.page(after="", before="z", limit=100) == every
    assert await store.page(after=every[1].id, before=every[8].id, limit=100) == every[2:8]
    assert await store.page(after=every[1].id, before=every[8].id, limit=4) == every[2:6]
    assert await store.page(after=every[-1].id, before="z", limit=4) == []
    assert await store.page(after="", before=every[0].id, limit=4) == []
    # A time and nothing else stands before every id of that time.
    assert await store.page(after=every[0].id[:10], before="z", limit=1) == every[:1]


async def test_a_request_id_is_bound_once(store: TaskStore) -> None:
    first = RequestIdRow(task_id=new_id(), fingerprint="a")
    assert await store.find_request_id("key") is None
    assert await store.claim_request_id("key", first) == first
    assert await store.claim_request_id("key", RequestIdRow(task_id=new_id(), fingerprint="b")) == first
    assert await store.find_request_id("key") == first
    assert await store.find_request_id("Key") is None


async def test_concurrent_claims_of_a_request_id_agree(stores: list[TaskStore]) -> None:
    rows = [RequestIdRow(task_id=new_id(), fingerprint=f"f{n}") for n in range(50)]
    held = await asyncio.gather(
        *(stores[n % 5].claim_request_id("one", row) for n, row in enumerate(rows)),
        *(stores[n % 5].claim_request_id(f"own-{n}", row) for n, row in enumerate(rows)),
    )
    assert len(set(held[:50])) == 1
    assert held[0] in rows
    assert list(held[50:]) == rows
    assert await stores[3].find_request_id("one") == held[0]

"""The task store in MongoDB where it differs from others: forced options, unknown outcomes, odd documents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest
from msgspec.structs import replace
from pymongo import AsyncMongoClient
from pymongo.errors import WriteError

from server.domain import attempt_writes, life
from server.domain.errors import StoreUnavailable
from server.domain.task import Task, TaskState
from server.domain.writes import Write
from server.ports import RequestIdRow
from server.store.mongo import MongoTaskStore
from server.store.mongo_client import DEFAULT_DATABASE, Database
from tests.contract.samples import NOW_MS, new_id, new_image, new_task
from tests.contract.steps import found, kept, running
from tests.integration.mongo_proxy import MongoProxy, suspended
from tests.mongo import MongoDatabase, MongoServer, database_url, new_database_name
from tests.waiting import until_async

Document = dict[str, Any]
ANSWER_S = 3.0
"""A store that is away says so within this time, also on a busy machine; the driver's default is 30 s."""
PATIENCE_S = 4.0
"""The store's time limit where time is not what is tested."""


def mark(task: Task, worker: str = "w-1") -> Write:
    return life.mark(task, worker=worker, provider="local", paid=True, now_ms=NOW_MS)[0]


@pytest.fixture
async def proxy(mongo_server: MongoServer) -> AsyncIterator[MongoProxy]:
    """Between the store and a server of the test's own."""
    async with MongoProxy(mongo_server.url).running() as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: MongoProxy) -> AsyncIterator[MongoTaskStore]:
    """A store that speaks through the proxy."""
    store = await MongoTaskStore.connect(database_url(proxy.url, "tasks"), timeout_s=PATIENCE_S)
    proxy.commands.clear()
    yield store
    await store.aclose()


@pytest.fixture
async def direct_store(mongo_database: MongoDatabase) -> AsyncIterator[MongoTaskStore]:
    """A store on an empty database of the shared server."""
    url = mongo_database.url.replace(mongo_database.name, name := new_database_name())
    store = await MongoTaskStore.connect(url, timeout_s=PATIENCE_S)
    yield store
    await store.aclose()
    async with AsyncMongoClient[Document](url) as client:
        await client.drop_database(name)


# --- what is forced on the client ---------------------------------------------------------------------


async def test_the_url_cannot_weaken_reads_and_writes(proxy: MongoProxy) -> None:
    weak = (
        "w=1&journal=false&readPreference=secondaryPreferred&readPreferenceTags=dc:east&retryWrites=true"
        "&readConcernLevel=local&timeoutMS=60000&serverSelectionTimeoutMS=60000&connectTimeoutMS=60000"
        "&socketTimeoutMS=60000"
    )
    store = await MongoTaskStore.connect(f"{proxy.url}?{weak}")
    task = await running(store)
    await store.claim_request_id("key", RequestIdRow(task_id=task.id, fingerprint="f"))
    await store.register_worker("w", host="h", pid=1)
    await store.remove_worker("w")
    await store.live_page(after="", limit=2)
    await store.workers()
    await store.aclose()

    names = proxy.names()
    assert {"insert", "update", "delete", "find", "createIndexes"} <= set(names)
    for name, command in zip(names, proxy.commands, strict=True):
        assert "txnNumber" not in command
        if name in ("insert", "update", "delete", "createIndexes"):
            assert command["writeConcern"] == {"w": "majority", "j": True}
        if name == "find":
            assert command["readConcern"]["level"] == "majority"
            assert command.get("$readPreference", {"mode": "primary"}) == {"mode": "primary"}
        if name != "endSessions":
            assert command["$db"] == DEFAULT_DATABASE
            assert command["maxTimeMS"] <= 6000


async def test_the_database_of_the_url_is_used() -> None:
    for url, name in (
        ("mongodb://h/pictures?retryWrites=true", "pictures"),
        ("mongodb://h:1/", "imagegen"),
        ("mongodb://h", "imagegen"),
        ("mongodb://u:p%40@h,i:2/?replicaSet=r", "imagegen"),
    ):
        database = Database(url, timeout_s=1)
        assert database.database.name == name
        await database.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://user:sec/ret@host/db",
        "mongodb://user:sec:ret@host/db",
        "mongodb://:sec@ret@host/db",
        "mongodb://host:secret/db",
        "mongodb://sec:ret@host/?w=0&journal=true",
        "mongodb://",
    ],
)
async def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="not a MongoDB URL") as refused:
        await MongoTaskStore.connect(url)
    assert "sec" not in str(refused.value)
    assert refused.value.__suppress_context__


async def test_a_server_that_is_not_there_is_said_to_be_away_in_time(mongo_server: MongoServer) -> None:
    mongo_server.kill()
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailable) as away:
        await MongoTaskStore.connect(mongo_server.url)
    assert time.monotonic() - began_s < ANSWER_S
    assert mongo_server.url not in str(away.value)


async def test_pages_of_live_tasks_have_an_index(mongo_database: MongoDatabase) -> None:
    for _ in range(2):  # the second finds it there
        store = await MongoTaskStore.connect(mongo_database.url)
        await store.aclose()
    async with AsyncMongoClient[Document](mongo_database.url) as client:
        indexes = await client.get_default_database()["tasks"].index_information()
    assert [("state", 1), ("_id", 1)] in [list(index["key"]) for index in indexes.values()]


# --- away -------------------------------------------------------------------------------------------------


async def test_a_server_that_stands_still_is_away_and_comes_back(mongo_server: MongoServer) -> None:
    async with aclosing(await MongoTaskStore.connect(mongo_server.url)) as store:
        task = await running(store)
        waiting = await kept(store, new_task())
        row = RequestIdRow(task_id=task.id, fingerprint="f")
        cancel = life.cancel_pending(waiting, NOW_MS)
        with suspended(mongo_server):
            began_s = time.monotonic()
            answers = await asyncio.gather(
                store.insert(new_task()),
                store.write(cancel),
                store.get(task.id),
                store.get_many([task.id]),
                store.revisions([task.id]),
                store.live_page(after="", limit=1),
                store.claim_request_id("key", row),
                store.find_request_id("key"),
                store.register_worker("w", host="h", pid=1),
                store.beat("w"),
                store.workers(),
                store.declare_lost("w", beat=0),
                store.remove_worker("w"),
                store.ping(),
                return_exceptions=True,
            )
            assert {type(answer) for answer in answers} == {StoreUnavailable}
            assert time.monotonic() - began_s < ANSWER_S
        await until_async(lambda: _answers(store), within_s=15, what="the store")
        assert await store.write(cancel), "the same write, whether it took place meanwhile or now"
        assert (await found(store, waiting.id)).revision == waiting.revision + 1
        assert await store.get(task.id) == task


async def test_callers_that_give_up_twice_leave_a_store_that_works(mongo_server: MongoServer) -> None:
    """A caller may go away in the very moment its time is up; the driver's pool must not notice."""
    async with aclosing(await MongoTaskStore.connect(mongo_server.url)) as store:
        task = await kept(store, new_task())
        with suspended(mongo_server):
            for _ in range(3):
                calls = [asyncio.create_task(store.workers()) for _ in range(20)]
                await asyncio.wait(calls, timeout=0.1)
                for _ in range(2):
                    for call in calls:
                        call.cancel()
                    await asyncio.sleep(0)
                await asyncio.wait(calls)
        await until_async(lambda: _answers(store), within_s=15, what="the store")
        assert await store.workers() == []
        assert await store.get(task.id) == task


async def test_a_store_lets_go_of_a_server_that_stands_still(mongo_server: MongoServer) -> None:
    store = await MongoTaskStore.connect(mongo_server.url)
    task = await kept(store, new_task())
    with suspended(mongo_server):
        reading = asyncio.create_task(store.get(task.id))
        await asyncio.sleep(0)
        began_s = time.monotonic()
        await store.aclose()
        assert time.monotonic() - began_s < 2 * ANSWER_S, (
            "the time of what was under way, and to say good-bye"
        )
        with pytest.raises(StoreUnavailable):
            await reading


async def test_a_server_that_takes_no_writes_is_away(proxy: MongoProxy, store: MongoTaskStore) -> None:
    await store.ping()
    yes, no = (b"\x08isWritablePrimary\0" + flag for flag in (b"\1", b"\0"))
    proxy.on_answer = lambda answer: answer.replace(yes, no)
    with pytest.raises(StoreUnavailable, match="no primary"):
        await store.ping()


async def _answers(store: MongoTaskStore) -> bool:
    try:
        await store.ping()
    except StoreUnavailable:
        return False
    return True


# --- unknown outcomes -------------------------------------------------------------------------------------


async def test_an_insert_whose_answer_is_lost_knows_itself(proxy: MongoProxy, store: MongoTaskStore) -> None:
    mine, other = new_task(), await kept(store, new_task())
    proxy.lose_answers("insert")
    racing = [store.insert(mine), store.insert(replace(other, caller="late")), store.insert(new_task())]
    assert await asyncio.gather(*racing) == [True, False, True]
    assert await store.get(mine.id) == mine
    assert await store.get(other.id) == other


async def test_a_write_whose_answer_is_lost_knows_itself(proxy: MongoProxy, store: MongoTaskStore) -> None:
    task = await kept(store, new_task())
    proxy.commands.clear()
    proxy.lose_answers("update")
    assert await store.write(mark(task))
    assert proxy.names() == ["update", "find"], "what took place is not sent again"
    assert (await found(store, task.id)).revision == task.revision + 1


async def test_a_batch_whose_answer_is_lost_tells_every_item_its_own_fate(
    proxy: MongoProxy, store: MongoTaskStore
) -> None:
    waiting = [await kept(store, new_task()) for _ in range(4)]
    taken = [await running(store) for _ in range(4)]
    first, second = await running(store), await running(store)
    proxy.lose_answers("update")
    writes = [mark(task) for task in waiting]
    writes += [mark(replace(task, state=TaskState.PENDING, attempt=0)) for task in taken]
    writes += [
        attempt_writes.add_image(task, new_image(n), NOW_MS) for task in (first, second) for n in range(2)
    ]
    assert await asyncio.gather(*map(store.write, writes)) == [True] * 4 + [False] * 4 + [True] * 4
    for task in waiting:
        assert (await found(store, task.id)).revision == task.revision + 1
    assert await store.get_many([task.id for task in taken]) == {task.id: task for task in taken}
    assert (await found(store, first.id)).images == {0: new_image(0), 1: new_image(1)}


async def test_a_loser_whose_answer_is_lost_has_lost(proxy: MongoProxy, store: MongoTaskStore) -> None:
    task = await running(store)
    proxy.lose_answers("update")
    assert not await store.write(mark(replace(task, state=TaskState.PENDING, attempt=0), "late"))
    assert await store.get(task.id) == task


async def test_a_late_copy_of_a_write_changes_nothing(proxy: MongoProxy, store: MongoTaskStore) -> None:
    task = await kept(store, new_task())
    proxy.hold("update")
    assert await store.write(mark(task)), "by the second copy, while the first is on its way"
    marked = await found(store, task.id)
    await proxy.release()
    assert await store.get(task.id) == marked
    assert marked.revision == task.revision + 1


async def test_a_late_copy_of_an_insert_changes_nothing(proxy: MongoProxy, store: MongoTaskStore) -> None:
    task = new_task()
    proxy.hold("insert")
    assert await store.insert(task)
    assert await store.write(mark(task))
    marked = await found(store, task.id)
    await proxy.release()
    assert await store.get(task.id) == marked


async def test_a_write_given_again_is_the_same_write(proxy: MongoProxy, store: MongoTaskStore) -> None:
    """A worker holds on to a write while the store is away; the store may have done it long ago."""
    task = await kept(store, new_task())
    write, rival = mark(task), mark(task, "rival")
    proxy.lose_answers("update")
    proxy.lose_answers("find", times=1000)  # the driver repeats reads
    with pytest.raises(StoreUnavailable):
        await store.write(write)
    proxy.undisturbed()
    assert not await store.write(rival)
    assert not await store.write(mark(task)), "an equal write is another one"
    assert await store.write(write)
    marked = await found(store, task.id)
    assert (marked.owner, marked.revision) == ("w-1", task.revision + 1)
    assert not await store.write(write), "once it was answered, it is over"


async def test_a_write_that_got_lost_takes_place_when_it_is_given_again(
    proxy: MongoProxy, store: MongoTaskStore
) -> None:
    task = await kept(store, new_task())
    write = mark(task)
    proxy.hold("update", times=2)
    with pytest.raises(StoreUnavailable):
        await store.write(write)
    assert await store.write(write)
    marked = await found(store, task.id)
    await proxy.release()
    assert await store.get(task.id) == marked
    assert marked.revision == task.revision + 1


async def test_rows_of_request_ids_and_workers_bear_lost_answers(
    proxy: MongoProxy, store: MongoTaskStore
) -> None:
    row = RequestIdRow(task_id=new_id(), fingerprint="f")
    proxy.lose_answers("insert")
    assert await store.claim_request_id("key", row) == row
    proxy.lose_answers("insert")
    await store.register_worker("w", host="h", pid=1)
    proxy.lose_answers("update")
    assert await store.beat("w")
    (worker,) = await store.workers()
    assert worker.beat in (1, 2)
    proxy.lose_answers("update")
    assert await store.declare_lost("w", beat=worker.beat)
    proxy.lose_answers("update")
    assert not await store.declare_lost("w", beat=worker.beat), "it was another verdict"
    proxy.lose_answers("update")
    assert not await store.beat("w")
    proxy.lose_answers("delete")
    await store.remove_worker("w")
    assert await store.workers() == []


# --- what one item of a batch does to the others ----------------------------------------------------------


async def test_writes_to_one_task_do_not_hide_each_other_from_a_batch_with_a_loser(
    direct_store: MongoTaskStore,
) -> None:
    """They leave their tokens in the same place, and the loser makes the store look at it."""
    task, taken = await running(direct_store), await running(direct_store)
    writes = [attempt_writes.add_image(task, new_image(n), NOW_MS) for n in range(3)]
    writes.insert(1, mark(replace(taken, state=TaskState.PENDING, attempt=0)))
    answers = await asyncio.gather(*map(direct_store.write, writes))
    assert answers == [True, False, True, True]


async def test_a_document_that_cannot_be_kept_fails_its_own_caller(direct_store: MongoTaskStore) -> None:
    tasks = [new_task(), new_task(ttl_time_ms=2**63), new_task()]
    first, too_long, third = await asyncio.gather(*map(direct_store.insert, tasks), return_exceptions=True)
    assert (first, third) == (True, True)
    assert isinstance(too_long, OverflowError)
    assert await direct_store.get(tasks[1].id) is None


async def test_a_write_that_cannot_be_done_fails_its_own_caller(direct_store: MongoTaskStore) -> None:
    tasks = [await running(direct_store) for _ in range(3)]
    writes = [attempt_writes.complete(task, NOW_MS) for task in tasks]
    writes[1] = replace(writes[1], set={"owner": "w", "owner.name": "w"})
    first, wrong, third = await asyncio.gather(*map(direct_store.write, writes), return_exceptions=True)
    assert (first, third) == (True, True)
    assert isinstance(wrong, WriteError)
    assert (await found(direct_store, tasks[0].id)).revision == tasks[0].revision + 1
    assert await direct_store.get(tasks[1].id) == tasks[1]


async def test_the_race_finds_several_winners_where_updates_are_not_atomic(
    bare_mongo_server: MongoServer,
) -> None:
    """The race of the contract can fail: on a server that breaks its promise it does."""
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(20):
            url = database_url(bare_mongo_server.url, "bare")
            stores.append(await MongoTaskStore.connect(url, timeout_s=20))
            stack.push_async_callback(stores[-1].aclose)
        await asyncio.gather(*(store.ping() for store in stores))
        for _ in range(50):
            task = await kept(stores[0], new_task())
            marks = [mark(task, f"w-{n}") for n in range(len(stores))]
            won = await asyncio.gather(
                *(store.write(write) for store, write in zip(stores, marks, strict=True)),
                return_exceptions=True,
            )
            if won.count(True) > 1:
                return
    pytest.fail("one winner in each of 50 rounds: the race cannot tell")


async def test_a_worker_of_an_older_version_has_no_slots_and_no_lease(
    proxy: MongoProxy, store: MongoTaskStore
) -> None:
    await store.register_worker("new", host="h", pid=1, slots=10, lease_ms=15_000)
    await store._workers.insert_one({"_id": "old", "host": "h", "pid": 2, "beat": 3, "lost": False})
    assert [(row.id, row.slots, row.lease_ms) for row in await store.workers()] == [
        ("new", 10, 15_000),
        ("old", 0, 0),
    ]

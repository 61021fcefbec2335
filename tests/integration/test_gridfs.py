"""GridFS as output store: uploads that are cut off, late, or many at once, and what they leave behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, nullcontext
from typing import Any, Protocol

import pytest
from gridfs import AsyncGridFSBucket
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from server.domain.errors import StoreUnavailable
from server.ports import StoredObject
from server.store.gridfs import BUCKET, GridFsOutputStore
from server.store.outputs import output_key, reference_key
from tests.contract.samples import new_id
from tests.integration.mongo_proxy import MongoProxy, suspended
from tests.mongo import MongoDatabase, MongoServer, database_url

Document = dict[str, Any]
PNG = "image/png"
CHUNK_BYTES = 255 * 1024
ANSWER_S = 4.0
"""A store that is away says so within this time, and lets go; far below what it allows for the bytes."""


def a_key() -> str:
    return output_key(new_id(), 1, 0, "png")


@pytest.fixture
async def proxy(mongo_server: MongoServer) -> AsyncIterator[MongoProxy]:
    """Between the store and a server of the test's own."""
    async with MongoProxy(mongo_server.url).running() as proxy:
        yield proxy


@pytest.fixture
async def database(mongo_server: MongoServer) -> AsyncIterator[AsyncDatabase[Document]]:
    """What the server really holds."""
    async with AsyncMongoClient[Document](database_url(mongo_server.url, "outputs")) as client:
        yield client.get_default_database()


class StoreAt(Protocol):
    """Connects a store, which is closed at the end of the test."""

    async def __call__(
        self, server: MongoProxy | MongoServer, *, timeout_s: float = ...
    ) -> GridFsOutputStore: ...


@pytest.fixture
async def store_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StoreAt]:
    if "in_time" not in request.node.name:  # where time is not what is tested
        monkeypatch.setattr("server.store.gridfs.LOOK_UP_TIMEOUT_S", 5.0)
    async with AsyncExitStack() as stack:

        async def connect(server: MongoProxy | MongoServer, *, timeout_s: float = 5.0) -> GridFsOutputStore:
            url = database_url(server.url, "outputs")
            store = await GridFsOutputStore.connect(url, timeout_s=timeout_s)
            stack.push_async_callback(store.aclose)
            return store

        yield connect


async def chunks_of(database: AsyncDatabase[Document], key: str) -> list[str]:
    """The upload ids of all chunks that belong to the key, found by their range."""
    wanted = {"files_id": {"$gt": f"{key}:", "$lt": f"{key};"}}
    return [chunk["files_id"] async for chunk in database[BUCKET]["chunks"].find(wanted, ["files_id"])]


async def test_an_upload_that_was_cut_off_does_not_exist_and_can_be_repeated(
    store_at: StoreAt, proxy: MongoProxy, database: AsyncDatabase[Document]
) -> None:
    key, data = a_key(), os.urandom(2 * CHUNK_BYTES + 1)
    crashing, survivor = await store_at(proxy, timeout_s=1.0), await store_at(proxy)
    proxy.hold("insert", named="outputs.files")
    with pytest.raises(StoreUnavailable):
        await crashing.put(key, data, mime_type=PNG)
    await crashing.aclose()
    assert len(await chunks_of(database, key)) == 3
    assert await survivor.get(key) is None

    await survivor.put(key, data, mime_type=PNG)
    assert await survivor.get(key) == StoredObject(data=data, mime_type=PNG)

    # Even if the entry that was on its way arrives after all: the name is taken.
    await proxy.release()
    assert await survivor.get(key) == StoredObject(data=data, mime_type=PNG)
    assert await database[BUCKET]["files"].count_documents({"filename": key}) == 1


async def test_an_entry_that_arrives_late_wins_whole(
    store_at: StoreAt, proxy: MongoProxy, database: AsyncDatabase[Document]
) -> None:
    """The first upload is stuck before its last step; whoever takes that step first, nothing is mixed."""
    key = reference_key("b" * 64)
    first, second = os.urandom(300_000), os.urandom(700_000)
    slow, quick = await store_at(proxy), await store_at(proxy)
    proxy.hold("insert", named="outputs.files", times=2)
    puts = [asyncio.create_task(slow.put(key, first, mime_type=PNG))]
    await proxy.held()
    puts.append(asyncio.create_task(quick.put(key, second, mime_type=PNG)))
    await proxy.held()
    await proxy.release()
    await asyncio.gather(*puts)
    stored = await quick.get(key)
    assert stored is not None
    assert stored.data in (first, second)
    assert len(set(await chunks_of(database, key))) == 1, "the loser has taken its chunks away"


async def test_a_put_whose_last_answer_is_lost_is_harmless_to_repeat(
    store_at: StoreAt, proxy: MongoProxy
) -> None:
    key, data = a_key(), os.urandom(1000)
    store = await store_at(proxy)
    proxy.lose_answers("insert", named="outputs.files")
    with pytest.raises(StoreUnavailable):
        await store.put(key, data, mime_type=PNG)
    await store.put(key, data, mime_type=PNG)
    assert await store.get(key) == StoredObject(data=data, mime_type=PNG)


@pytest.mark.parametrize("command", ["insert", "find"])
async def test_bytes_may_take_longer_than_an_answer(
    store_at: StoreAt, mongo_server: MongoServer, proxy: MongoProxy, command: str
) -> None:
    key, data = a_key(), os.urandom(1000)
    store, slow = await store_at(mongo_server), await store_at(proxy, timeout_s=0.3)
    if command == "find":
        await store.put(key, data, mime_type=PNG)
    proxy.hold(command, named="outputs.chunks")
    transfer = asyncio.create_task(
        slow.put(key, data, mime_type=PNG) if command == "insert" else slow.get(key), name="transfer"
    )
    await proxy.held()
    await asyncio.wait({transfer}, timeout=2 * 0.3)
    assert not transfer.done()
    await proxy.release()
    await transfer
    assert await store.get(key) == StoredObject(data=data, mime_type=PNG)


async def test_closing_does_not_wait_for_bytes_that_hang(store_at: StoreAt, proxy: MongoProxy) -> None:
    store = await store_at(proxy, timeout_s=0.5)
    proxy.hold("insert", named="outputs.chunks")
    transfer = asyncio.create_task(store.put(a_key(), b"x", mime_type=PNG), name="transfer")
    await proxy.held()
    transfer.cancel()
    began_s = time.monotonic()
    await store.aclose()
    assert time.monotonic() - began_s < ANSWER_S
    await proxy.release()


async def test_an_upload_that_failed_before_its_entry_leaves_no_chunks(
    store_at: StoreAt, proxy: MongoProxy, database: AsyncDatabase[Document]
) -> None:
    key, data = a_key(), os.urandom(2 * CHUNK_BYTES)
    store = await store_at(proxy)
    proxy.lose_answers("insert", named="outputs.chunks")
    with pytest.raises(StoreUnavailable):
        await store.put(key, data, mime_type=PNG)
    assert "delete" in proxy.names()
    assert await chunks_of(database, key) == []
    assert await store.get(key) is None


async def test_everything_of_a_task_is_a_range_of_ids(
    store_at: StoreAt, mongo_server: MongoServer, database: AsyncDatabase[Document]
) -> None:
    task, other = new_id(), new_id()
    store = await store_at(mongo_server)
    for owner in (task, other):
        for n in range(2):
            await store.put(output_key(owner, 1, n, "png"), b"x", mime_type=PNG)
        await store.put(f"{owner}/1/result.json", b"{}", mime_type="application/json")
    everything = {"$gt": f"{task}/", "$lt": f"{task}0"}
    assert await database[BUCKET]["files"].count_documents({"_id": everything}) == 3
    assert await database[BUCKET]["chunks"].count_documents({"files_id": everything}) == 3


async def test_other_programs_can_read_it(
    store_at: StoreAt, mongo_server: MongoServer, database: AsyncDatabase[Document]
) -> None:
    key, data = a_key(), os.urandom(CHUNK_BYTES + 1)
    store = await store_at(mongo_server)
    await store.put(key, data, mime_type=PNG)
    bucket = AsyncGridFSBucket(database, bucket_name=BUCKET)
    assert await (await bucket.open_download_stream_by_name(key)).read() == data


async def test_incomplete_bytes_are_never_given_out(
    store_at: StoreAt, mongo_server: MongoServer, database: AsyncDatabase[Document]
) -> None:
    key = a_key()
    store = await store_at(mongo_server)
    await store.put(key, os.urandom(2 * CHUNK_BYTES), mime_type=PNG)
    await database[BUCKET]["chunks"].delete_one({"n": 1})
    with pytest.raises(StoreUnavailable, match="incomplete"):
        await store.get(key)


@pytest.mark.parametrize("killed", [True, False])
async def test_a_server_that_is_away_is_said_to_be_in_time(
    store_at: StoreAt, mongo_server: MongoServer, killed: bool
) -> None:
    store = await store_at(mongo_server, timeout_s=10)
    key = a_key()
    with nullcontext() if killed else suspended(mongo_server):
        if killed:
            mongo_server.kill()
        began_s = time.monotonic()
        answers = await asyncio.gather(
            store.put(key, b"x", mime_type=PNG), store.get(key), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert time.monotonic() - began_s < ANSWER_S
        began_s = time.monotonic()
        await store.aclose()
        assert time.monotonic() - began_s < ANSWER_S


async def test_the_url_cannot_weaken_writes(proxy: MongoProxy) -> None:
    store = await GridFsOutputStore.connect(
        f"{proxy.url}?w=1&journal=false&readPreference=secondary&retryWrites=true"
    )
    key = reference_key(hashlib.sha256(b"x").hexdigest())
    await store.put(key, b"x", mime_type=PNG)
    await store.get(key)
    await store.aclose()
    inserts = [command for command in proxy.commands if "insert" in command]
    assert [command["insert"] for command in inserts] == ["outputs.chunks", "outputs.files"]
    for command in inserts:
        assert command["writeConcern"] == {"w": "majority", "j": True}
        assert command["$db"] == "imagegen"
    for command in proxy.commands:
        assert command.get("$readPreference", {"mode": "primary"}) == {"mode": "primary"}


async def test_bad_urls_are_refused() -> None:
    with pytest.raises(ValueError, match="not a MongoDB URL"):
        await GridFsOutputStore.connect("mongodb://u:p@ss@host")


async def test_two_connect_at_once_to_an_empty_database(mongo_database: MongoDatabase) -> None:
    stores = await asyncio.gather(*(GridFsOutputStore.connect(mongo_database.url) for _ in range(4)))
    key = a_key()
    await asyncio.gather(*(store.put(key, b"x", mime_type=PNG) for store in stores))
    for store in stores:
        assert await store.get(key) == StoredObject(data=b"x", mime_type=PNG)
        await store.aclose()

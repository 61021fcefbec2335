"""The MongoDB server of the tests: what the store relies on, and the gate in front of FerretDB."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import bson
import pytest
from gridfs import AsyncGridFSBucket
from gridfs.errors import FileExists
from pymongo import AsyncMongoClient, MongoClient, ReturnDocument, UpdateOne, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, DuplicateKeyError
from pymongo.monitoring import ServerHeartbeatFailedEvent, ServerHeartbeatListener

from tests import races
from tests.mongo import MongoDatabase, MongoServer, database_url

Document: TypeAlias = dict[str, Any]
DURABLE = WriteConcern(w="majority", j=True)


@pytest.fixture
async def database(mongo_database: MongoDatabase) -> AsyncIterator[AsyncDatabase[Document]]:
    async with AsyncMongoClient[Document](mongo_database.url) as client:
        yield client.get_default_database(write_concern=DURABLE)


@pytest.fixture
async def tasks(
    database: AsyncDatabase[Document], request: pytest.FixtureRequest
) -> AsyncCollection[Document]:
    return database[request.node.name]


# ---- what the store relies on --------------------------------------------------------------------


async def test_an_id_is_taken_once(tasks: AsyncCollection[Document]) -> None:
    await tasks.insert_one({"_id": "a", "image": b"\x00\xff", "size": 2**40})
    with pytest.raises(DuplicateKeyError):
        await tasks.insert_one({"_id": "a"})
    with pytest.raises(BulkWriteError) as refused:
        await tasks.insert_many([{"_id": "b"}, {"_id": "a"}, {"_id": "c"}], ordered=False)

    assert [error["code"] for error in refused.value.details["writeErrors"]] == [11000]
    assert await tasks.find({}, sort=[("_id", 1)]).to_list() == [
        {"_id": "a", "image": b"\x00\xff", "size": 2**40},
        {"_id": "b"},
        {"_id": "c"},
    ]


async def test_a_conditional_update_changes_what_matches_and_nothing_else(
    tasks: AsyncCollection[Document],
) -> None:
    await tasks.insert_one({"_id": "a", "attempt": 1, "revision": 1, "not_before": 5, "attempts": {"1": {}}})
    change = {
        "$set": {"attempts.1.end_time": 7, "attempts.2": {"worker": "w"}},
        "$inc": {"revision": 1},
        "$unset": {"not_before": ""},
    }
    stale = await tasks.update_one({"_id": "a", "attempt": 0}, change)
    assert (stale.matched_count, stale.modified_count) == (0, 0)

    fresh = await tasks.find_one_and_update(
        {"_id": "a", "attempt": 1}, change, return_document=ReturnDocument.AFTER
    )
    attempts = {"1": {"end_time": 7}, "2": {"worker": "w"}}
    assert fresh == {"_id": "a", "attempt": 1, "revision": 2, "attempts": attempts}


async def test_a_batch_of_updates_reports_how_many_matched(tasks: AsyncCollection[Document]) -> None:
    await tasks.insert_many([{"_id": number, "attempt": number % 2} for number in range(4)])
    result = await tasks.bulk_write(
        [UpdateOne({"_id": number, "attempt": 1}, {"$set": {"token": number}}) for number in range(4)],
        ordered=False,
    )
    assert result.matched_count == 2
    assert await tasks.find({"_id": {"$in": [0, 1, 2, 3]}, "token": {"$exists": True}}).to_list() == [
        {"_id": 1, "attempt": 1, "token": 1},
        {"_id": 3, "attempt": 1, "token": 3},
    ]


async def test_pages_are_ranges_of_ids(tasks: AsyncCollection[Document]) -> None:
    await tasks.create_index([("state", 1), ("_id", 1)])
    await tasks.insert_many([{"_id": f"{n:03}", "state": n % 2, "prompt": "p"} for n in range(250)])
    page = tasks.find({"state": 1, "_id": {"$gt": "101"}}, {"state": 1}).sort("_id", 1).limit(2)
    assert await page.to_list() == [{"_id": "103", "state": 1}, {"_id": "105", "state": 1}]
    assert len(await tasks.find({}).to_list()) == 250, "an answer in several batches"

    assert (await tasks.delete_many({"_id": {"$lt": "200"}})).deleted_count == 200
    groups = await tasks.aggregate(
        [{"$match": {"state": 0}}, {"$group": {"_id": "$state", "n": {"$sum": 1}}}]
    )
    assert await groups.to_list() == [{"_id": 0, "n": 25}]
    assert await tasks.count_documents({}) == 50


async def test_gridfs_keeps_bytes_under_ids_of_ours(database: AsyncDatabase[Document]) -> None:
    bucket = AsyncGridFSBucket(database)
    content = os.urandom(600_000)
    await bucket.upload_from_stream_with_id("sha", "picture.png", content)
    with pytest.raises(FileExists):
        await bucket.upload_from_stream_with_id("sha", "picture.png", b"other")
    assert await (await bucket.open_download_stream("sha")).read() == content


@pytest.mark.parametrize("update", [races.update_one, races.bulk_write])
async def test_one_of_racing_updates_wins(mongo_database: MongoDatabase, update: races.Update) -> None:
    assert await races.race(mongo_database.url, rounds=50, writers=20, update=update) == [1] * 50


async def test_the_race_finds_several_winners_without_the_gate(bare_mongo_server: MongoServer) -> None:
    url = database_url(bare_mongo_server.url, "bare")
    for _ in range(10):
        if max(await races.race(url, rounds=5, writers=20)) > 1:
            return
    pytest.fail("fifty rounds, and never more than one winner")


# ---- the gate ------------------------------------------------------------------------------------


def connect(server: MongoServer) -> socket.socket:
    address = urlsplit(server.url)
    assert address.hostname
    assert address.port
    return socket.create_connection((address.hostname, address.port), timeout=10)


def message(command: Document) -> bytes:
    """One OP_MSG: header (length, id, answered id, kind), flags, and one section that holds the command."""
    body = struct.pack("<IB", 0, 0) + bson.encode({**command, "$db": "test"})
    return struct.pack("<iiii", 16 + len(body), 1, 0, 2013) + body


def assert_answers(server: MongoServer) -> None:
    with MongoClient[Document](server.url, timeoutMS=10_000) as client:
        assert client.admin.command("ping")["ok"] == 1


def test_half_a_request_holds_up_nobody(mongo_server: MongoServer) -> None:
    request = message({"ping": 1})
    with connect(mongo_server) as silent, connect(mongo_server) as gone:
        silent.sendall(request[:10])
        gone.sendall(request[:30])
        gone.close()
        assert_answers(mongo_server)
        silent.sendall(request[10:])
        assert struct.unpack("<i", silent.recv(4))[0] > 16


def test_a_client_that_reads_no_answer_holds_up_nobody(mongo_server: MongoServer) -> None:
    with MongoClient[Document](mongo_server.url) as client:
        client["test"]["big"].insert_one({"bytes": bytes(10_000_000)})
    with connect(mongo_server) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(message({"find": "big"}))
        assert struct.unpack("<i", deaf.recv(4))[0] > 10_000_000
        assert_answers(mongo_server)


@pytest.mark.parametrize("length", [0, 15, 48_000_001, -1])
def test_an_impossible_length_ends_the_connection(mongo_server: MongoServer, length: int) -> None:
    with connect(mongo_server) as client:
        client.sendall(struct.pack("<i", length))
        assert client.recv(1) == b""
    assert_answers(mongo_server)


def test_a_request_that_the_server_gives_up_on_ends_the_connection(mongo_server: MongoServer) -> None:
    with connect(mongo_server) as client:
        client.sendall(struct.pack("<iiii", 20, 1, 0, 2013) + b"junk")
        assert client.recv(1) == b""
    assert_answers(mongo_server)


async def test_a_write_without_acknowledgement_gets_no_answer(mongo_server: MongoServer) -> None:
    async with AsyncMongoClient[Document](mongo_server.url, maxPoolSize=1, timeoutMS=10_000) as client:
        writes = client["test"]["writes"]
        await writes.with_options(write_concern=WriteConcern(w=0)).insert_one({"_id": 1})
        assert await writes.find_one() == {"_id": 1}


class HeartbeatFailures(ServerHeartbeatListener):
    def __init__(self) -> None:
        self.beats = 0
        self.failures: list[ServerHeartbeatFailedEvent] = []

    def started(self, event: object) -> None:
        pass

    def succeeded(self, event: object) -> None:
        self.beats += 1

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        self.failures.append(event)


async def test_the_drivers_monitors_and_commands_do_not_wait_for_each_other(
    mongo_server: MongoServer,
) -> None:
    heartbeats = HeartbeatFailures()
    async with AsyncMongoClient[Document](
        mongo_server.url, event_listeners=[heartbeats], heartbeatFrequencyMS=500
    ) as client:
        slowest_s = 0.0
        while heartbeats.beats < 4:
            start = time.monotonic()
            await client.admin.command("ping")
            slowest_s = max(slowest_s, time.monotonic() - start)
            await asyncio.sleep(0.02)
    assert heartbeats.failures == []
    assert slowest_s < 2, "a monitor that waits for news would hold the gate for 10 s"

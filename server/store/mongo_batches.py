"""Batches of inserts and conditional updates in MongoDB, and what became of every single item.

Of a batch of updates MongoDB reports only how many documents matched, and of a broken connection nothing.
So every item leaves a token in the document it writes, and is known by it when the document is read back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, DuplicateKeyError, WriteError

from server.store.fields import Document
from server.store.mongo_client import Database, item_errors

Collection = AsyncCollection[Document]


class Insert(NamedTuple):
    """A document that is to be, unless one with its id is there: `document` has `token` at `token_path`."""

    id: str
    document: RawBSONDocument
    token_path: str
    token: str


class Update(NamedTuple):
    """A change of a document that must match the condition: `update` sets `token` at `token_path`."""

    id: str
    condition: Mapping[str, object]
    update: RawBSONDocument
    token_path: str
    token: str


def encoded(document: Mapping[str, Any]) -> RawBSONDocument:
    """The document in BSON. Raises what the bson package raises for what BSON cannot hold."""
    return RawBSONDocument(bson.encode(document))


async def insert_each(
    database: Database, collection: Collection, inserts: Sequence[Insert], *, timeout_s: float
) -> list[bool | Exception]:
    """Whether each document is there by this very insert, or what was wrong with it alone.

    Raises StoreUnavailable when that is not known within the time.
    """
    insert = partial(_insert, collection, inserts)
    return await database.run_twice(insert, again=insert, timeout_s=timeout_s)


async def update_each(
    database: Database, collection: Collection, updates: Sequence[Update], *, timeout_s: float
) -> list[bool | Exception]:
    """Whether each update, and no other, took place, or what was wrong with it alone.

    After an unknown outcome what is not found done is sent again: an update's condition must be one that
    its own effect ends for good, or the effect the same when it takes place twice. Raises
    StoreUnavailable when the outcome is not known within the time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    results: dict[int, bool | Exception] = {}
    for wave in _waves(updates):
        chosen = [updates[place] for place in wave]
        answers = await database.run_twice(
            partial(_update, collection, chosen),
            again=partial(_update_again, collection, chosen),
            timeout_s=deadline - loop.time(),
        )
        results.update(zip(wave, answers, strict=True))
    return [results[place] for place in range(len(updates))]


async def find_each(
    collection: Collection, ids: Sequence[str], fields: Sequence[str] | None = None
) -> dict[str, Document]:
    """Those of the documents that exist, by id; whole, or only `_id` and these fields."""
    if not ids:
        return {}
    # One id by equality: servers have a short way for that. With the batch size the answer comes whole;
    # of more than 101 documents it would otherwise take two round trips.
    wanted = {"$in": list(ids)} if len(ids) > 1 else ids[0]
    cursor = collection.find({"_id": wanted}, fields, batch_size=len(ids) + 1)
    return {document["_id"]: document for document in await cursor.to_list()}


async def carry_token(collection: Collection, items: Sequence[Insert | Update]) -> list[bool]:
    """Which of the items have left their token: they took place."""
    fields = {item.token_path.partition(".")[0] for item in items}
    found = await find_each(collection, [item.id for item in items], sorted(fields))
    return [_value_at(found.get(item.id), item.token_path) == item.token for item in items]


async def insert_new(collection: Collection, documents: Sequence[RawBSONDocument]) -> dict[int, WriteError]:
    """Insert what can be inserted; by place what was wrong with the others, mostly DuplicateKeyError."""
    try:
        await collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        return item_errors(error)
    return {}


async def _insert(collection: Collection, inserts: Sequence[Insert]) -> list[bool | Exception]:
    errors = await insert_new(collection, [insert.document for insert in inserts])
    results: list[bool | Exception] = [errors.get(place, True) for place in range(len(inserts))]
    taken = [place for place, error in errors.items() if isinstance(error, DuplicateKeyError)]
    mine = await carry_token(collection, [inserts[place] for place in taken])
    for place, is_mine in zip(taken, mine, strict=True):
        results[place] = is_mine
    return results


async def _update(collection: Collection, updates: Sequence[Update]) -> list[bool | Exception]:
    errors: dict[int, WriteError] = {}
    matched = 0
    if len(updates) == 1:
        done = await collection.update_one(updates[0].condition, updates[0].update)
        matched = done.matched_count
    else:
        requests = [UpdateOne(update.condition, update.update) for update in updates]
        try:
            matched = (await collection.bulk_write(requests, ordered=False)).matched_count
        except BulkWriteError as error:
            errors = item_errors(error)
    if matched == len(updates):
        return [True] * len(updates)
    mine = await carry_token(collection, updates)
    return [errors.get(place, is_mine) for place, is_mine in enumerate(mine)]


async def _update_again(collection: Collection, updates: Sequence[Update]) -> list[bool | Exception]:
    done = await carry_token(collection, updates)
    rest = [update for update, is_done in zip(updates, done, strict=True) if not is_done]
    results = iter(await _update(collection, rest) if rest else [])
    return [is_done or next(results) for is_done in done]


def _waves(updates: Sequence[Update]) -> list[list[int]]:
    """The places of the updates in an order of batches, each with at most one update of any document.

    Two updates of one document may share the place of their token: the second would hide the first's.
    """
    waves: list[list[int]] = []
    rounds: dict[str, int] = {}
    for place, update in enumerate(updates):
        wave = rounds.get(update.id, 0)
        rounds[update.id] = wave + 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(place)
    return waves


def _value_at(document: Document | None, path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value

"""The race that a store's conditional updates must decide: many writers, one document, one winner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

from pymongo import AsyncMongoClient, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection

Document: TypeAlias = dict[str, Any]
Update: TypeAlias = Callable[[AsyncCollection[Document], Document, Document], Awaitable[int]]
"""Applies a change to the documents that match a filter and returns how many it changed."""


async def update_one(collection: AsyncCollection[Document], wanted: Document, change: Document) -> int:
    return (await collection.update_one(wanted, change)).modified_count


async def bulk_write(collection: AsyncCollection[Document], wanted: Document, change: Document) -> int:
    return (await collection.bulk_write([UpdateOne(wanted, change)], ordered=False)).modified_count


async def race(url: str, *, rounds: int = 50, writers: int = 20, update: Update = update_one) -> list[int]:
    """How many writers won, for each round; every number is 1 on a store with atomic updates.

    In a round every writer, on a connection of its own, takes the same free document by one conditional
    update. `url` names the database; its collection `race` is left behind.
    """
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(AsyncMongoClient[Document](url)) for _ in range(writers)]
        await asyncio.gather(*(client.admin.command("ping") for client in clients))
        collections = [client.get_default_database()["race"] for client in clients]
        winners = []
        for _ in range(rounds):
            prize = (await collections[0].insert_one({"state": "free"})).inserted_id
            wanted = {"_id": prize, "state": "free"}
            wins = await asyncio.gather(
                *(
                    update(collection, wanted, {"$set": {"state": "taken", "winner": writer}})
                    for writer, collection in enumerate(collections)
                )
            )
            winners.append(sum(wins))
        return winners

"""The short form of the kill matrix: all rows over SQLite; those that kill processes over MongoDB as well."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.rows import ROWS
from tests.chaos.run import NewStore, Row, Run
from tests.chaos.stores import MongoStore, SqliteStore
from tests.mongo import MongoServer
from tests.nursery import shared_nursery


async def kept(row: Row, new_store: NewStore, *, slow_store: bool = False) -> None:
    """The row breaks no promise."""
    run = Run(shared_nursery(), new_store, short=True, random=random.Random(), slow_store=slow_store)
    await row.run(run)
    broken = [str(violation) for violation in run.audit.violations]
    assert not broken, "\n".join([*broken, *run.notes])
    assert run.repetitions
    assert run.audit.tasks


MEASURED = dict.fromkeys(("fair-share", "idle"), pytest.mark.alone)
"""Rows whose bound is a latency or a share of a processor: they have the machine to themselves."""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", [pytest.param(n, marks=MEASURED.get(n, ())) for n in ROWS])
async def test_no_promise_is_broken(name: str) -> None:
    await kept(ROWS[name], SqliteStore)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.on_mongo])
async def test_no_promise_is_broken_on_mongodb(name: str, mongo_url: str) -> None:
    await kept(ROWS[name], lambda _directory: MongoStore(None, mongo_url), slow_store=True)


@pytest.mark.timeout(180)
async def test_no_promise_is_broken_while_mongodb_is_stopped(mongo_server: MongoServer) -> None:
    def new_store(_directory: Path) -> MongoStore:
        return MongoStore(mongo_server, mongo_server.url)

    await kept(ROWS["store-stopped"], new_store, slow_store=True)

"""What holds between processes: one winner of every race, and nothing acknowledged is ever lost."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE

import pytest

from server.domain import life
from server.store import connect
from tests.contract.race import PATIENCE_S, ROOT, race
from tests.contract.samples import NOW_MS, full_task, new_task
from tests.contract.steps import found, kept
from tests.mongo import MongoServer, database_url

ACKNOWLEDGED = 150
"""So many inserts before the kill; few, because the test server for MongoDB scans its collections."""


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_of_twenty_writers_in_four_processes_one_wins_every_round(store_url: str) -> None:
    assert await race(store_url, rounds=50, processes=4, writers=5) == [(1, 1)] * 50


async def test_the_race_shows_a_store_whose_updates_are_not_atomic(bare_mongo_server: MongoServer) -> None:
    url = database_url(bare_mongo_server.url, "race")
    assert await race(url, rounds=10, processes=4, writers=5) != [(1, 1)] * 10


async def test_what_was_acknowledged_survives_the_kill_of_its_process(store_url: str) -> None:
    survivor = await connect.open_store(store_url, timeout_s=PATIENCE_S)
    arguments = ("-m", "tests.contract.submitter", store_url, "8")
    submitter = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE, cwd=ROOT)
    assert submitter.stdout is not None
    ids = [(await submitter.stdout.readline()).decode().strip() for _ in range(ACKNOWLEDGED)]
    submitter.kill()
    ids += (await submitter.stdout.read()).decode().split()
    await submitter.wait()

    assert len(set(ids)) == len(ids) >= ACKNOWLEDGED
    began_s = time.monotonic()
    assert await survivor.insert(new_task()), "the dead process holds nothing up"
    assert time.monotonic() - began_s < 5, "far less than PATIENCE_S"
    assert set(await survivor.revisions(ids)) == set(ids)
    await survivor.aclose()

    reopened = await connect.open_store(store_url, timeout_s=PATIENCE_S)
    assert set(await reopened.get_many(ids[-20:])) == set(ids[-20:])
    assert {task.id for task in await reopened.live_page(after="", limit=10_000)} >= set(ids)
    await reopened.aclose()


async def test_everything_is_there_after_closing_and_opening_again(store_url: str) -> None:
    store = await connect.open_store(store_url, timeout_s=PATIENCE_S)
    task, cancelled = full_task(), await kept(store, new_task())
    await kept(store, task)
    assert await store.write(life.cancel_pending(cancelled, NOW_MS))
    ended = await found(store, cancelled.id)
    await store.register_worker("w-1", host="h", pid=1)
    assert await store.beat("w-1")
    await store.aclose()

    store = await connect.open_store(store_url, timeout_s=PATIENCE_S)
    assert await store.get_many([task.id, ended.id]) == {task.id: task, ended.id: ended}
    assert [row.beat for row in await store.workers()] == [1]
    assert await store.beat("w-1")
    await store.aclose()

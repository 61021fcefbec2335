"""What a queued task costs Redis in memory, and a rebuild of many from a real store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from ulid import ULID

from server.domain.task import Priority
from server.ports import Entry
from server.queue.sweep import Sweep
from server.queue.task_queue import RedisTaskQueue
from server.store.sqlite import SqliteTaskStore
from tests.fakes_store import make_task
from tests.integration.queue.board import Board

EVERY_REDIS = True

MOST_BYTES = 200


@pytest.mark.parametrize(("callers", "tasks"), [(1, 30_000), (1_000, 30_000), (10_000, 100_000)])
async def test_a_queued_task_takes_less_than_200_bytes(
    queue: RedisTaskQueue, board: Board, callers: int, tasks: int
) -> None:
    await board.client.flushall()
    before = int((await board.client.info("memory"))["used_memory"])
    of_all = str(ULID())[:20]  # numbered to the length of an id: to make one takes longer than to enqueue it
    await queue.enqueue(
        [
            Entry(
                task_id=f"{of_all}{n:06}",
                pool="lo",
                priority=Priority.DEFAULT,
                caller=f"caller {n % callers}",
            )
            for n in range(tasks)
        ]
    )
    after = int((await board.client.info("memory"))["used_memory"])
    await board.client.flushall()
    assert (after - before) / tasks <= MOST_BYTES


async def test_a_queue_is_rebuilt_from_a_real_store(
    queue: RedisTaskQueue, board: Board, tmp_path: Path
) -> None:
    store = await SqliteTaskStore.open(tmp_path / "tasks.db")
    tasks = [make_task(str(ULID()), caller=f"caller {n % 7}") for n in range(1_200)]
    await asyncio.gather(*(store.insert(task) for task in tasks))
    sweep = Sweep(queue, store, lease_ms=60_000)

    added = 0
    while (report := await sweep.step()).more:
        added += report.added
    added += report.added

    assert added == len(tasks)
    state = await board.read()
    queued = [task_id for ids in state.lines.values() for task_id in ids]
    assert sorted(queued) == sorted(task.id for task in tasks)
    for ids in state.lines.values():
        assert list(ids) == sorted(ids), "oldest first"
    await store.aclose()

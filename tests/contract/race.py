"""The race for a task: many writers in several processes, one conditional write each, one winner.

As a program (`python -m tests.contract.race URL WRITERS`) one process of racers: for every task id on a
line of its input each of its writers, a store of its own, marks that task; out comes how many won.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import AsyncExitStack
from pathlib import Path

from server.domain import life
from server.domain.errors import StoreUnavailable
from server.domain.writes import Write
from server.ports import TaskStore
from server.store import connect
from tests.contract.samples import NOW_MS, new_task

PATIENCE_S = 30.0
"""The test server for MongoDB scans its collections; here nobody may give up in mid-race."""

ROOT = Path(__file__).parents[2]


async def race(url: str, *, rounds: int, processes: int, writers: int) -> list[tuple[int, int]]:
    """For each round: how many of `processes` × `writers` won the new task, and how often it changed."""
    async with AsyncExitStack() as stack:
        store = await connect.open_store(url, timeout_s=PATIENCE_S)
        stack.push_async_callback(store.aclose)
        racers = [await _start(stack, url, writers) for _ in range(processes)]
        for racer in racers:
            assert await _line(racer) == "ready"
        outcomes = []
        for _ in range(rounds):
            task = new_task()
            assert await store.insert(task)
            for racer in racers:
                assert racer.stdin is not None
                racer.stdin.write(f"{task.id}\n".encode())
            won = sum([int(await _line(racer)) for racer in racers])
            outcomes.append((won, (await store.revisions([task.id]))[task.id] - task.revision))
        return outcomes


async def _start(stack: AsyncExitStack, url: str, writers: int) -> Process:
    arguments = ("-m", "tests.contract.race", url, str(writers))
    racer = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=PIPE, stdout=PIPE, cwd=ROOT
    )

    async def stop() -> None:
        assert racer.stdin is not None
        racer.stdin.close()
        await racer.wait()

    stack.push_async_callback(stop)
    return racer


async def _line(racer: Process) -> str:
    assert racer.stdout is not None
    return (await racer.stdout.readline()).decode().strip()


async def _compete(url: str, writers: int) -> None:
    stores = [await connect.open_store(url, timeout_s=PATIENCE_S) for _ in range(writers)]
    await asyncio.gather(*(store.ping() for store in stores))
    print("ready", flush=True)
    while task_id := (await asyncio.to_thread(sys.stdin.readline)).strip():
        task = new_task(id=task_id)
        marks = [
            life.mark(task, worker=f"w{n}", provider="p", paid=True, now_ms=NOW_MS) for n in range(writers)
        ]
        won = await asyncio.gather(
            *(_won(store, mark) for store, (mark, _) in zip(stores, marks, strict=True))
        )
        print(sum(won), flush=True)
    for store in stores:
        await store.aclose()


async def _won(store: TaskStore, mark: Write) -> bool:
    """Give the write until the store answers, as workers do: the test server for MongoDB may be slow."""
    while True:
        try:
            return await store.write(mark)
        except StoreUnavailable:
            continue


if __name__ == "__main__":
    asyncio.run(_compete(sys.argv[1], int(sys.argv[2])))

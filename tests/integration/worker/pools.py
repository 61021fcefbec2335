"""A whole worker in the background, and how tests look at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from server.worker.beat import Beat
from server.worker.execution import Execution
from server.worker.pool import WorkerPool, pools_of
from tests.integration.worker.bench import Bench
from tests.integration.worker.scripted import ScriptedProvider
from tests.waiting import until_async

LEASE_S = 15.0


@dataclass(slots=True)
class Worker:
    """A pool that runs in the background."""

    pool: WorkerPool
    beat: Beat
    running: asyncio.Task[None]

    async def ended(self, *, within_s: float = 5.0) -> None:
        """`run` returns."""
        async with asyncio.timeout(within_s):
            await self.running


@asynccontextmanager
async def worker(
    bench: Bench,
    execution: Execution,
    *providers: ScriptedProvider,
    concurrency: int = 10,
    lease_s: float = LEASE_S,
    registered: bool = True,
    live_slots: int = 0,
) -> AsyncIterator[Worker]:
    """A worker with these providers; whatever it still runs at the end is cancelled.

    It knows of `live_slots` of all workers together.
    """
    beat = Beat(bench.store, lease_s=lease_s)
    if registered:
        await beat.register()
    pool = WorkerPool(
        queue=bench.queue,
        execution=execution,
        beat=beat,
        pools=pools_of(providers),
        concurrency=concurrency,
        lease_s=lease_s,
        cancels=bench.store.cancel_requested,
        metrics=bench.metrics,
        live_slots=lambda: live_slots,
    )
    running = asyncio.create_task(pool.run(), name="worker-pool")
    beating = asyncio.create_task(beat.run(), name="beat")
    try:
        yield Worker(pool, beat, running)
    finally:
        bench.store_faults.wake()
        bench.queue_faults.wake()
        bench.output_faults.wake()
        pool.stop()
        await pool.cancel_held()
        beating.cancel()
        await asyncio.gather(running, beating, return_exceptions=True)


async def all_over(bench: Bench, *task_ids: str, within_s: float = 8) -> None:
    """Every task has ended, in the store and in the queue."""

    async def over() -> bool:
        tasks = await bench.store.get_many(task_ids)
        return all(task.state.terminal for task in tasks.values()) and await bench.real_queue.depth() == 0

    await until_async(over, within_s=within_s, what="the end of all tasks")


def slots(bench: Bench) -> tuple[float, float]:
    """Busy and free ones, as the metrics have them."""
    return (
        bench.count("imagegen_worker_slots", state="busy"),
        bench.count("imagegen_worker_slots", state="free"),
    )

"""Redis is disposable: flushed, stopped, killed, put back from an old copy, always under load."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable

import redis.asyncio as redis
from task.v1 import task_pb2

from tests.chaos.deployment import Deployment
from tests.chaos.ledger import explain, wall_ms
from tests.chaos.load import new_request, submit
from tests.chaos.run import Run

WHOLE_AGAIN_S = 60.0
BACK_S = 5.0
BUSY = 0.3
"""Of a core: more than that while Redis is away is a busy loop."""


async def flush(run: Run) -> None:
    """FLUSHALL."""

    async def fault(deployment: Deployment) -> None:
        async with redis.Redis.from_url(deployment.redis.url) as client:
            await client.flushall()

    await _under_load(run, fault, times=run.size(short=2, full=20))


async def stopped(run: Run) -> None:
    """Seven seconds, shorter than the default lease."""
    seconds = 1.0 if run.short else 7.0
    await _under_load(
        run, _stop_for(run, seconds), times=run.size(short=1, full=10), lease_s=None if run.short else 15.0
    )


async def stopped_long(run: Run) -> None:
    """Longer than a lease, and longer than a verdict takes."""
    await _under_load(run, _stop_for(run, 2.5 * run.lease_s), times=run.size(short=1, full=10))


async def empty(run: Run) -> None:
    """SIGKILLed, away for a moment, started again with nothing."""

    async def fault(deployment: Deployment) -> None:
        deployment.redis.kill()
        await asyncio.sleep(run.random.uniform(0.0, 1.0))
        await asyncio.to_thread(deployment.redis.start)

    await _under_load(run, fault, times=run.size(short=2, full=10))


async def stale(run: Run) -> None:
    """Started again with what it held some seconds ago, as a replica that lagged behind would."""

    async def fault(deployment: Deployment) -> None:
        copy, data = deployment.directory / "stale.rdb", deployment.redis.directory / "dump.rdb"
        async with redis.Redis.from_url(deployment.redis.url) as client:
            await client.save()
        shutil.move(data, copy)
        await asyncio.sleep(1.0 if run.short else 3.0)  # the copy grows old
        deployment.redis.kill()
        shutil.move(copy, data)
        await asyncio.to_thread(deployment.redis.start)
        data.unlink()

    await _under_load(run, fault, times=run.size(short=1, full=5))


def _stop_for(run: Run, seconds: float) -> Callable[[Deployment], Awaitable[None]]:
    async def fault(deployment: Deployment) -> None:
        before = {worker: worker.cpu_s() for worker in deployment.workers}
        deployment.redis.pause()
        await asyncio.sleep(seconds)
        deployment.redis.resume()
        for worker, cpu_s in before.items():
            share = (worker.cpu_s() - cpu_s) / seconds
            if share > BUSY:
                run.broken("a worker is busy while Redis is away", f"{share:.0%} of a core")

    return fault


async def _under_load(
    run: Run, fault: Callable[[Deployment], Awaitable[None]], *, times: int, lease_s: float | None = None
) -> None:
    """Each time: all that was accepted ends within the bound, and new work is taken up at once."""
    async with run.deployed(workers=2, delay_s=0.3, lease_s=lease_s, WORKER_CONCURRENCY="4") as deployment:
        async with run.load(deployment, every_s=0.1, at_most=40, max_paid=2):
            for _ in range(times):
                await asyncio.sleep(run.random.uniform(0.5, 1.5))  # at random points
                await fault(deployment)
                back_ms = wall_ms()
                accepted = list(deployment.promises)
                request = new_request(max_paid=2, priority=task_pb2.TASK_PRIORITY_CRITICAL)
                probe = await submit(deployment, request)
                if not await deployment.all_ended([*accepted, probe], within_s=WHOLE_AGAIN_S):
                    left = [promise for promise in [*accepted, probe] if promise.seen_end is None]
                    for promise in left:
                        promise.final = await deployment.read(promise.task_id)
                        known = explain(promise, deployment.upstream.billed[promise.prompt], 0)
                        run.broken(f"not whole again within {WHOLE_AGAIN_S:g} s", known)
                run.audit.slowest_s = max(run.audit.slowest_s, (wall_ms() - back_ms) / 1000)
                started_ms = (await deployment.read(probe.task_id)).start_time.ToMilliseconds()
                if started_ms - back_ms > 1000 * BACK_S:
                    run.broken(
                        f"no worker was back within {BACK_S:g} s", f"{(started_ms - back_ms) / 1000:.1f} s"
                    )
                run.repetitions += 1
        await run.settle(deployment, never_in_doubt=True)

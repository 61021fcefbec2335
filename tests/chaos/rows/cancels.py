"""Cancels whose worker dies before it has done as it was told."""

from __future__ import annotations

import asyncio
import signal

from task.v1 import task_pb2

from tests.chaos.load import cancel, held
from tests.chaos.run import Run


async def cancelled(run: Run) -> None:
    """With a paid call in hand: the task ends CANCELLED all the same, and nothing is bought again."""
    await asyncio.gather(*(_cancels(run, max_paid, run.size(short=2, full=25)) for max_paid in (1, 2)))


async def _cancels(run: Run, max_paid: int, times: int) -> None:
    async with run.deployed(workers=2) as deployment:
        for n in range(times):
            promise = await held(deployment, max_paid)
            holder = await deployment.holder(promise)
            if n % 2:  # at random points around the request
                asking = asyncio.create_task(cancel(deployment, promise), name="cancel")
                await asyncio.sleep(run.random.uniform(0.0, 0.05))
                deployment.kill_worker(holder)
                await asking
            else:  # between the request and the end
                holder.signal(signal.SIGSTOP)
                task = await cancel(deployment, promise)
                written = task.state == task_pb2.TASK_STATE_PROCESSING and task.cancel_requested
                # Whom a short lease declared lost meanwhile has a successor that did as the task was told.
                if not written and task.state != task_pb2.TASK_STATE_CANCELLED:
                    run.broken("a cancel was not written down", promise.task_id)
                deployment.kill_worker(holder)
            await deployment.all_ended([promise], within_s=60)
            deployment.upstream.release(promise.prompt)
            run.repetitions += 1
        await run.settle(deployment)

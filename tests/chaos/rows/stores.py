"""The task store is away while paid calls come to their end."""

from __future__ import annotations

import asyncio
import time

import grpc
import grpc.aio

from tests.chaos.deployment import Deployment
from tests.chaos.ledger import wall_ms
from tests.chaos.load import new_request, promised, submit
from tests.chaos.run import Run

REFUSED_WITHIN_S = 2.0
PROBE_EVERY_S = 1.0


async def store_stopped(run: Run) -> None:
    """Submits are refused at once, finished work is held, and written when the store is back."""
    seconds = 2.0 if run.short else 10.0
    async with run.deployed(workers=2, delay_s=1.0, WORKER_CONCURRENCY="4") as deployment:
        async with run.load(deployment, every_s=0.1, at_most=16, max_paid=2):
            for _ in range(run.size(short=1, full=10)):
                await asyncio.sleep(run.random.uniform(0.5, 1.5))  # at random points
                in_hand = new_request(max_paid=1)
                deployment.upstream.hold(in_hand.prompt)
                held = await submit(deployment, in_hand)
                await deployment.upstream.until_billed(in_hand.prompt)
                with deployment.store.away():
                    deployment.upstream.release(in_hand.prompt)
                    await _refused(run, deployment, seconds)
                back_ms = wall_ms()
                await deployment.all_ended([*deployment.promises], within_s=60)
                if held.seen_end is None or not held.seen_end.image.images:
                    run.broken("a paid result was dropped", held.task_id)
                run.audit.slowest_s = max(run.audit.slowest_s, (wall_ms() - back_ms) / 1000)
                run.repetitions += 1
        await run.settle(deployment, never_in_doubt=True)


async def _refused(run: Run, deployment: Deployment, seconds: float) -> None:
    """All the while, submits are answered UNAVAILABLE in time."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        asked, request = time.monotonic(), new_request(max_paid=2)
        try:
            answer = await deployment.calls().images.GenerateImageAsync(request, timeout=20)
        except grpc.aio.AioRpcError as error:
            took_s = time.monotonic() - asked
            if error.code() is not grpc.StatusCode.UNAVAILABLE or took_s > REFUSED_WITHIN_S:
                run.broken("a submit was not refused in time", f"{error.code().name} after {took_s:.1f} s")
        else:
            deployment.follow(promised(answer.task_id, request))
            run.broken("a submit was accepted without a store", answer.task_id)
        await asyncio.sleep(min(PROBE_EVERY_S, left))

"""API processes that are killed while clients submit."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.chaos.deployment import Deployment
from tests.chaos.load import ask, new_request, promised, submit
from tests.chaos.run import Run

SUBMITS_PER_KILL = 8
COPIES = 50
IDS_AT_ONCE = 5


async def api_kill(run: Run) -> None:
    """Every acknowledged id completes; a repeat with its request id returns the same task."""
    told = 0
    async with run.deployed(apis=2, workers=2, delay_s=0.05, WORKER_CONCURRENCY="20") as deployment:
        for n in range(run.size(short=6, full=100)):
            told += await _kill_during_submits(run, deployment, 1 + n % 2)
            run.repetitions += 1
        await run.settle(deployment)
    run.notes.append(
        f"{told} of {run.repetitions * SUBMITS_PER_KILL} submits were acknowledged before the kill"
    )


async def _kill_during_submits(run: Run, deployment: Deployment, max_paid: int) -> int:
    victim = run.random.choice(deployment.apis)
    await deployment.calls_of(victim).channel.channel_ready()
    requests = [new_request(max_paid=max_paid) for _ in range(SUBMITS_PER_KILL)]
    asking = [asyncio.create_task(ask(deployment, request, victim), name="submit") for request in requests]
    await asyncio.sleep(run.random.uniform(0.0, 0.06))  # at random points
    deployment.kill_api(victim)
    answers = await asyncio.gather(*asking)
    for request, task_id in zip(requests, answers, strict=True):
        if task_id is None:
            task_id = (await submit(deployment, request)).task_id
        else:
            deployment.follow(promised(task_id, request))
        again = None
        while again is None:
            again = await ask(deployment, request)
        if again != task_id:
            run.broken("a repeat made another task", f"request {request.request_id}: {task_id} and {again}")
    await deployment.replaced()
    return sum(answer is not None for answer in answers)


async def duplicates(run: Run) -> None:
    """Fifty copies of each request at once over two API processes, while they and the workers are killed."""
    ids = run.size(short=16, full=200)
    async with run.deployed(
        apis=2, workers=run.size(short=2, full=4), delay_s=0.3, WORKER_CONCURRENCY="4"
    ) as deployment:
        killing = asyncio.create_task(_kill_meanwhile(run, deployment), name="kills")
        at_once = asyncio.Semaphore(IDS_AT_ONCE)

        async def one_id(n: int) -> None:
            async with at_once:
                await _copies(run, deployment, 1 + n % 2)

        await asyncio.gather(*(one_id(n) for n in range(ids)))
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
        run.repetitions = ids
        await run.settle(deployment)


async def _copies(run: Run, deployment: Deployment, max_paid: int) -> None:
    request = new_request(max_paid=max_paid)
    answers = await asyncio.gather(*(ask(deployment, request) for _ in range(COPIES)))
    told = Counter(answer for answer in answers if answer is not None)
    told[(await submit(deployment, request)).task_id] += 1
    if len(told) != 1:
        run.broken("copies of one request made several tasks", f"request {request.request_id}: {dict(told)}")


async def _kill_meanwhile(run: Run, deployment: Deployment) -> None:
    kills = 0
    least_s, most_s = (0.0, 0.4 if run.slow_store else 0.1) if run.short else (0.5, 1.5)
    try:
        while True:
            await asyncio.sleep(run.random.uniform(least_s, most_s))
            if kills % 2 == 0 and len(deployment.apis) > 1:
                deployment.kill_api(run.random.choice(deployment.apis))
            elif len(deployment.workers) > 1:
                await deployment.kill_any_worker()
            kills += 1
    finally:
        run.notes.append(f"{kills} kills meanwhile")
        if kills < 2:
            run.broken("too few processes were killed meanwhile")

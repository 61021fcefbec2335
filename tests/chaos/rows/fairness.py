"""One caller floods the queue; another goes on as if nothing had happened."""

from __future__ import annotations

import asyncio
import gc
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.deployment import Deployment
from tests.chaos.ledger import Promise
from tests.chaos.load import new_request, submit
from tests.chaos.run import Run

AT_ONCE = 64
SLOWER = 2.0
SLOWER_SHORT = 3.0
"""Of a few seconds most are those in which the flood breaks in, and its submits take the API process."""


async def fair_share(run: Run) -> None:
    """The p95 of the second caller from submit to COMPLETED, alone and beside the flood."""
    flood, calls = run.size(short=300, full=10_000), run.size(short=10, full=60)
    every_s = 0.2 if run.short else 1.0
    async with run.deployed(workers=2, delay_s=0.5, QUEUE_MAX_DEPTH="100000") as deployment:
        with _without_collections():
            alone = await _calls(deployment, calls, every_s)
            flooding = asyncio.create_task(_flood(deployment, flood), name="flood")
            beside = await _calls(deployment, calls, every_s)
            await flooding
        still_flooded = sum(promise.seen_end is None for promise in deployment.promises)
        run.repetitions = 1
        deployment.upstream.delay_s = 0.0  # what was measured is over; the rest of the flood is still owed
        await run.settle(deployment, never_in_doubt=True, within_s=600.0)
    p95_alone, p95 = (_p95(_took_s(promises)) for promises in (alone, beside))
    run.notes.append(
        f"p95 {p95_alone:.2f} s alone, {p95:.2f} s beside the flood, of which {still_flooded} tasks were left"
    )
    if p95 > (SLOWER_SHORT if run.short else SLOWER) * p95_alone:
        run.broken("a caller was starved", f"p95 {p95:.2f} s beside a flood, {p95_alone:.2f} s alone")
    if not still_flooded:
        run.broken("the flood was over before the other caller was done")


@contextmanager
def _without_collections() -> Iterator[None]:
    """Clients and vendor live in this process: its own collections, 0.4 s each over the promises of a flood,
    would be taken for the service's delay."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _calls(deployment: Deployment, calls: int, every_s: float) -> list[Promise]:
    promises = []
    for _ in range(calls):
        promises.append(await submit(deployment, new_request(max_paid=2, user_id="steady")))
        await asyncio.sleep(every_s)
    await deployment.all_ended(promises, within_s=300)
    return promises


async def _flood(deployment: Deployment, tasks: int) -> None:
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(n: int) -> None:
        async with at_once:
            await submit(deployment, new_request(max_paid=2, prompt=f"flood {n}", user_id="flooder"))

    await asyncio.gather(*(one(n) for n in range(tasks)))


def _took_s(promises: list[Promise]) -> list[float]:
    """By the caller's clock: what a submit waits for before it is accepted is the caller's time as well."""
    return [promise.seen_end_s - promise.asked_s for promise in promises if promise.seen_end is not None]


def _p95(values: list[float]) -> float:
    """These are all calls and no sample of them: what one of twenty took longer than, none made up."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]

"""Workers that are killed, or stopped and continued, with paid calls in hand."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import Mapping
from urllib.parse import urlsplit

from task.v1 import task_pb2

from tests.chaos.deployment import Deployment
from tests.chaos.ledger import Promise, explain, open_attempt, same
from tests.chaos.load import held, new_request, submit
from tests.chaos.processes import Process
from tests.chaos.run import Run
from tests.side_port import fetch
from tests.waiting import until, until_async

DEFAULT_LEASE_S = 15.0
DEFAULT_BOUND_S = 30.0
BY_DEFAULT = ""
"""OUTPUT_URL: over MongoDB pictures are in GridFS then, of which a test server bears only a few."""


async def worker_kill(run: Run) -> None:
    """Under load, and on an otherwise idle queue."""
    under_load, idle = run.size(short=3, full=85), run.size(short=1, full=15)
    async with run.deployed(
        workers=run.size(short=4, full=8), delay_s=0.6, WORKER_CONCURRENCY="2"
    ) as deployment:
        for max_paid in (1, 2):
            async with run.load(deployment, every_s=0.05, at_most=40, max_paid=max_paid):
                for _ in range(under_load):
                    await asyncio.sleep(run.random.uniform(0.2, 1.0))  # at random points
                    await deployment.kill_any_worker()
                    run.repetitions += 1
        await run.settle(deployment)
    await asyncio.gather(*(_on_an_idle_queue(run, max_paid, idle) for max_paid in (1, 2)))


async def _on_an_idle_queue(run: Run, max_paid: int, times: int) -> None:
    """Only one task exists, and nothing else will ever wake anybody."""
    async with run.deployed(workers=2) as deployment:
        for _ in range(times):
            promise = await held(deployment, max_paid)
            deployment.kill_worker(await deployment.holder(promise))
            deployment.upstream.release(promise.prompt)
            await deployment.all_ended([promise], within_s=60)
            run.repetitions += 1
        await run.settle(deployment)


async def at_the_default_lease(run: Run) -> None:
    """Bursts of kills at random moments: workers with one task each, as many others left to find out."""
    bursts, kills = run.size(short=2, full=4), run.size(short=1, full=5)
    lease_s, bound_s = (run.lease_s, run.recovery_s) if run.short else (DEFAULT_LEASE_S, DEFAULT_BOUND_S)
    async with run.deployed(
        workers=2 * kills, lease_s=lease_s, WORKER_CONCURRENCY="1", OUTPUT_URL=BY_DEFAULT
    ) as deployment:
        for burst in range(bursts):
            promises = [await held(deployment, 1 + (burst + n) % 2) for n in range(kills)]
            victims = [await deployment.holder(promise) for promise in promises]
            await asyncio.sleep(run.random.uniform(0, lease_s / 3))  # anywhere between two beats
            for victim in victims:
                deployment.kill_worker(victim)
            for promise in promises:
                deployment.upstream.release(promise.prompt)
            await deployment.all_ended(promises, within_s=60)
            await deployment.replaced()
            run.repetitions += kills
        await run.settle(deployment, recovery_s=bound_s)


async def after_answer(run: Run) -> None:
    """Killed between the vendor's answer and the store's finish: the receipt or the result file is used."""
    await asyncio.gather(*(_after_answers(run, max_paid, run.size(short=1, full=25)) for max_paid in (1, 2)))


async def _after_answers(run: Run, max_paid: int, times: int) -> None:
    async with run.deployed(workers=2, OUTPUT_URL=BY_DEFAULT) as deployment:
        for n in range(times):
            await _killed_while_fetching(deployment, max_paid)
            run.repetitions += 1
            if n % 5 == 0 and not deployment.store.holds_outputs:
                await _killed_with_the_bytes_stored(run, deployment, max_paid)
        await run.settle(deployment)
        for promise in deployment.promises:
            await _used(run, deployment, promise)


async def _used(run: Run, deployment: Deployment, promise: Promise) -> None:
    """What was bought, once, is what can be downloaded."""
    billed = deployment.upstream.billed[promise.prompt]
    if billed != 1 or promise.final is None or not promise.final.image.images:
        run.broken("what was bought was not used", explain(promise, billed, 1))
        return
    image = promise.final.image.images[0]
    got = await fetch(deployment.apis[0].http + urlsplit(image.url)._replace(scheme="", netloc="").geturl())
    if hashlib.sha256(got.body).hexdigest() != image.sha256:
        run.broken("what is downloaded is not what was stored", explain(promise, billed, 1))


async def _killed_while_fetching(deployment: Deployment, max_paid: int) -> None:
    """Its answer is recorded, its picture is on the way."""
    request = new_request(max_paid=max_paid)
    deployment.upstream.hold_links(request.prompt)
    promise = await submit(deployment, request)
    await _asked_for_link(deployment, promise)
    deployment.kill_worker(await deployment.holder(promise))
    deployment.upstream.release_links(request.prompt)
    await deployment.all_ended([promise], within_s=60)


async def _killed_with_the_bytes_stored(run: Run, deployment: Deployment, max_paid: int) -> None:
    """The picture is kept, and the store that should hear of it is away: it has to be apart from pictures."""
    request = new_request(max_paid=max_paid)
    deployment.upstream.hold_links(request.prompt)
    promise = await submit(deployment, request)
    await _asked_for_link(deployment, promise)
    holder = await deployment.holder(promise)
    with deployment.store.away():
        deployment.upstream.release_links(request.prompt)
        kept = deployment.directory / "data" / "outputs" / promise.task_id
        await until(lambda: any(kept.glob("*/*.json")), within_s=20, what="the note of a result")
        deployment.kill_worker(holder, replace=False)
    await deployment.start_worker()
    await deployment.all_ended([promise], within_s=60)
    if deployment.upstream.link_requests[promise.prompt] > 1:
        run.broken("bytes that were stored were fetched again", promise.task_id)
    run.repetitions += 1


async def _asked_for_link(deployment: Deployment, promise: Promise) -> None:
    """The worker begins to fetch once the receipt is in the store."""
    await until(
        lambda: deployment.upstream.link_requests[promise.prompt] > 0,
        within_s=20,
        what="a fetch of the result",
    )


async def fencing(run: Run) -> None:
    """Stopped past the lease with paid calls in hand, and continued while their successors work, or after."""
    sleepers = run.size(short=2, full=10)
    async with run.deployed(workers=sleepers, WORKER_CONCURRENCY="1") as deployment:
        for _ in range(run.size(short=1, full=5)):
            await _sleep_and_wake(run, deployment, sleepers)
        await run.settle(deployment)


async def _sleep_and_wake(run: Run, deployment: Deployment, sleepers: int) -> None:
    """Half of them wake while attempt 2 is open: only the attempt's number is left to refuse their writes.

    The others wake when their tasks have ended, completed by a successor or OUTCOME_UNKNOWN.
    """
    early = [await held(deployment, 2) for _ in range(sleepers // 2)]
    late = [await held(deployment, 1 + n % 2) for n in range(sleepers - len(early))]
    asleep = {promise.task_id: await deployment.holder(promise) for promise in early + late}
    heir = await deployment.start_worker(WORKER_CONCURRENCY=str(2 * sleepers))
    for worker in asleep.values():
        worker.signal(signal.SIGSTOP)
        deployment.note_kill(worker)
        run.repetitions += 1
    for promise in early + late:  # the answer reaches the sleeper's socket
        deployment.upstream.release(promise.prompt)
    for promise in early:
        deployment.upstream.hold(promise.prompt)  # from now on: the successor's call
    for promise in early:
        await deployment.upstream.until_billed(promise.prompt, 2)
    await _wake(run, deployment, early, asleep)
    for promise in early:
        if open_attempt(await deployment.read(promise.task_id), heir.worker_ids) != 2:
            run.broken("the successor has not the task in hand", promise.task_id)
        deployment.upstream.release(promise.prompt)
    await deployment.all_ended(early + late, within_s=60)
    await _wake(run, deployment, late, asleep)

    async def registered_again() -> bool:
        return all(worker.worker_ids[-1] not in deployment.killed for worker in asleep.values())

    await until_async(registered_again, within_s=20, what="sleepers under new ids")
    deployment.workers.remove(heir)
    await heir.stop()


async def _wake(
    run: Run, deployment: Deployment, promises: list[Promise], asleep: Mapping[str, Process]
) -> None:
    """Their stale writes are refused, and change nothing."""
    before = [await deployment.read(promise.task_id) for promise in promises]
    for promise in promises:
        asleep[promise.task_id].signal(signal.SIGCONT)
    for promise, left in zip(promises, before, strict=True):
        await _refused_or_written(deployment, promise, asleep[promise.task_id], left)
    for promise, left in zip(promises, before, strict=True):
        if not same(await deployment.read(promise.task_id), left):
            run.broken("a stale write was accepted", promise.task_id)


async def _refused_or_written(
    deployment: Deployment, promise: Promise, sleeper: Process, left: task_pb2.Task
) -> None:
    async def seen() -> bool:
        return _refused(sleeper, promise) or not same(await deployment.read(promise.task_id), left)

    await until_async(seen, within_s=20, what="a stale write")


def _refused(worker: Process, promise: Promise) -> bool:
    return any(
        line["event"] == "the store refused a write of an overtaken attempt"
        and line["task_id"] == promise.task_id
        for line in worker.log()
    )

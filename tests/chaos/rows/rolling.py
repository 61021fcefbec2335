"""Every process is replaced in good order, one after the other, and no client notices."""

from __future__ import annotations

import asyncio
import itertools
import uuid

from imagegen import ImageClient, ImageServiceError
from tests.chaos.deployment import Deployment
from tests.chaos.ledger import Promise, wall_ms
from tests.chaos.load import MODEL
from tests.chaos.processes import Process
from tests.chaos.run import Run

CALLERS = 8
_numbers = itertools.count(1)


async def rolling_restart(run: Run) -> None:
    """Two API processes and two workers by SIGTERM, under the load of the shipped client."""
    async with run.deployed(apis=2, workers=2, delay_s=0.3, WORKER_CONCURRENCY="8") as deployment:
        stop = asyncio.Event()
        addresses = ",".join(api.target for api in deployment.apis)
        async with ImageClient(f"ipv4:{addresses}") as client:
            calling = [asyncio.create_task(_call(run, deployment, client, n, stop)) for n in range(CALLERS)]
            for _ in range(run.size(short=1, full=10)):
                await _restart_all(deployment)
                run.repetitions += 1
            stop.set()
            calls = sum(await asyncio.gather(*calling))
        run.notes.append(f"{calls} calls of the shipped client")
        await run.settle(deployment, never_in_doubt=True)


async def _restart_all(deployment: Deployment) -> None:
    for api in list(deployment.apis):
        deployment.apis.remove(api)
        await api.stop()
        await deployment.start_api(GRPC_PORT=str(api.grpc_port))
    for worker in list(deployment.workers):
        await _restart_worker(deployment, worker)


async def _restart_worker(deployment: Deployment, worker: Process) -> None:
    deployment.workers.remove(worker)
    await worker.stop()
    await deployment.start_worker()


async def _call(run: Run, deployment: Deployment, client: ImageClient, n: int, stop: asyncio.Event) -> int:
    """One caller: half of them wait in the call, half submit and wait; how many calls it made."""
    made = 0
    while not stop.is_set():
        prompt, request_id = f"rolling {next(_numbers)}", uuid.uuid4().hex
        try:
            if n % 2:
                answer = await client.generate(prompt, model=MODEL, size="1K", request_id=request_id)
                task_id = answer.task_id
            else:
                task_id = await client.submit(prompt, model=MODEL, size="1K", request_id=request_id)
                await client.wait(task_id)
        except ImageServiceError as error:
            run.broken("a call of the shipped client failed", f"{type(error).__name__}: {error}")
            continue
        finally:
            made += 1
        deployment.follow(Promise(task_id, request_id, prompt, max_paid=2, told_ms=wall_ms()))
    return made

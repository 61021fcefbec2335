"""A vendor that is cut off at every point of a call, and one that hides behind a broken gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from task.v1 import attempt_pb2, task_pb2

from tests.chaos.deployment import Deployment
from tests.chaos.ledger import COMPLETED, OUTCOME_UNKNOWN, Promise
from tests.chaos.load import new_request, submit
from tests.chaos.run import Run
from tests.upstreams import (
    CutAfterAccept,
    CutAfterBody,
    CutBeforeBody,
    CutMidResponse,
    Fault,
    Gateway,
    NeverAnswers,
    Unreadable,
)
from tests.waiting import until_async

REFUSED = frozenset({attempt_pb2.ATTEMPT_OUTCOME_NOT_SENT, attempt_pb2.ATTEMPT_OUTCOME_REJECTED})
AT_ONCE = 25


async def cuts(run: Run) -> None:
    """At connect, before and after the body, while waiting, in the answer: 250 at each of the four points."""
    half = run.size(short=2, full=125)
    async with run.deployed(
        workers=2, delay_s=0.02, IMAGE_TIMEOUT="2", WORKER_CONCURRENCY="50", IMAGE_MAX_RETRIES="15"
    ) as deployment:
        await _refused_connections(run, deployment, 2 * half)
        for max_paid in (1, 2):
            await _scripted(run, deployment, max_paid, _in_turn(half, CutBeforeBody(), CutAfterBody()))
            await _scripted(run, deployment, max_paid, _in_turn(half, CutAfterAccept(), NeverAnswers()))
            await _scripted(run, deployment, max_paid, _in_turn(half, CutMidResponse()))
        await run.settle(deployment)
        _arrivals(run, deployment)


async def gateways(run: Run) -> None:
    """502, 503 and 504 from a proxy, and a 200 that nobody can read, before and after billing."""
    each = run.size(short=1, full=25)
    async with run.deployed(workers=2, delay_s=0.02, WORKER_CONCURRENCY="50") as deployment:
        for max_paid in (1, 2):
            faults: list[Fault] = []
            for n in range(each):
                billed = n % 2 == 0
                faults += [Gateway(status, billed=billed) for status in (502, 503, 504)]
                faults.append(Unreadable(billed=billed))
            await _scripted(run, deployment, max_paid, faults)
        await run.settle(deployment)
        _arrivals(run, deployment)


def _in_turn(times: int, *faults: Fault) -> list[Fault]:
    return [faults[n % len(faults)] for n in range(times)]


async def _refused_connections(run: Run, deployment: Deployment, times: int) -> None:
    """Surely not sent: each is tried again until somebody listens, and bought once."""
    for start in range(0, times, AT_ONCE):
        await deployment.upstream.refuse()
        some = range(start, min(start + AT_ONCE, times))
        promises = [await submit(deployment, new_request(max_paid=1 + n % 2)) for n in some]

        async def all_refused(promises: Sequence[Promise] = promises) -> bool:
            tasks = await asyncio.gather(*(deployment.read(promise.task_id) for promise in promises))
            return all(any(a.outcome in REFUSED for a in task.attempts) for task in tasks)

        await until_async(all_refused, within_s=20, what="a refused connection for every task")
        await deployment.upstream.accept()
        await deployment.all_ended(promises, within_s=60)
        for promise in promises:
            end = promise.seen_end
            if end is None or end.state != COMPLETED or deployment.upstream.billed[promise.prompt] != 1:
                run.broken("not retried after a refused connection", promise.task_id)
        run.repetitions += len(promises)


async def _scripted(run: Run, deployment: Deployment, max_paid: int, faults: Sequence[Fault]) -> None:
    """One fault for the first call of each task: at 1 nothing may be sent again, at 2 once."""
    promises = []
    for fault in faults:
        request = new_request(max_paid=max_paid)
        deployment.upstream.script(request.prompt, fault)
        promises.append(await submit(deployment, request, doubts=1))
    await deployment.all_ended(promises, within_s=120)
    for promise, fault in zip(promises, faults, strict=True):
        end = promise.seen_end
        if end is None:
            continue  # the audit says so
        if max_paid == 1 and end.error.reason != OUTCOME_UNKNOWN:
            run.broken(f"{fault} at max_paid_attempts 1 did not end OUTCOME_UNKNOWN", _state(end))
        if end.attempts[0].outcome != attempt_pb2.ATTEMPT_OUTCOME_IN_DOUBT:
            run.broken(f"{fault} was not recorded as in doubt", _state(end))
    run.repetitions += len(faults)


def _arrivals(run: Run, deployment: Deployment) -> None:
    """What the vendor saw of each task, billed or not."""
    for promise in deployment.promises:
        sent = deployment.upstream.arrived[promise.prompt]
        if sent > promise.max_paid:
            run.broken(f"sent {sent} times at max_paid_attempts {promise.max_paid}", promise.task_id)


def _state(task: task_pb2.Task) -> str:
    outcomes = [attempt_pb2.AttemptOutcome.Name(attempt.outcome) for attempt in task.attempts]
    return f"task {task.task_id}; {task_pb2.TaskState.Name(task.state)}; {outcomes}; {task.error.message}"

"""Clients that submit at a steady pace, each task with a request id and a prompt of its own."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from types import TracebackType
from typing import Self

import grpc
import grpc.aio
from image.v1 import image_service_pb2
from task.v1 import task_pb2, task_service_pb2

from tests.chaos.deployment import AWAY, CALL_TIMEOUT_S, PAUSE_S, Deployment
from tests.chaos.ledger import Promise, wall_ms
from tests.chaos.processes import Process

MODEL = "doubao-seedream-4-0-250828"
_numbers = itertools.count(1)


USERS = 5


def new_request(
    *,
    max_paid: int,
    prompt: str = "",
    user_id: str = "",
    priority: task_pb2.TaskPriority = task_pb2.TASK_PRIORITY_UNSPECIFIED,
) -> image_service_pb2.GenerateImageRequest:
    """A request like no other; one of a few users', for no user alone may have all slots."""
    number = next(_numbers)
    return image_service_pb2.GenerateImageRequest(
        prompt=prompt or f"picture {number}",
        model=MODEL,
        size="1K",
        request_id=f"{number}-{uuid.uuid4().hex[:12]}",
        user_id=user_id or f"user {number % USERS}",
        options=task_pb2.TaskOptions(max_paid_attempts=max_paid, priority=priority),
    )


def promised(task_id: str, request: image_service_pb2.GenerateImageRequest, *, doubts: int = 0) -> Promise:
    """What a client holds in its hand once it was given the id."""
    return Promise(
        task_id=task_id,
        request_id=request.request_id,
        prompt=request.prompt,
        max_paid=request.options.max_paid_attempts,
        doubts=doubts,
        told_ms=wall_ms(),
    )


async def ask(
    deployment: Deployment, request: image_service_pb2.GenerateImageRequest, process: Process | None = None
) -> str | None:
    """One submit, of this API process or any; its task's id, or None: nobody said that it was accepted."""
    if process is None and not deployment.apis:
        return None
    calls = deployment.calls() if process is None else deployment.calls_of(process)
    try:
        return (await calls.images.GenerateImageAsync(request, timeout=CALL_TIMEOUT_S)).task_id
    except grpc.aio.AioRpcError as error:
        if error.code() not in AWAY:
            raise
        return None


async def submit(
    deployment: Deployment, request: image_service_pb2.GenerateImageRequest, *, doubts: int = 0
) -> Promise:
    """Submit, again and again under the same request id until somebody says that it was accepted."""
    asked_s, task_id = time.monotonic(), None
    while task_id is None:
        task_id = await ask(deployment, request)
        if task_id is None:
            await asyncio.sleep(PAUSE_S)
    promise = promised(task_id, request, doubts=doubts)
    promise.asked_s = asked_s
    deployment.follow(promise)
    return promise


async def held(deployment: Deployment, max_paid: int) -> Promise:
    """A task whose paid call is under way and stays so."""
    request = new_request(max_paid=max_paid)
    deployment.upstream.hold(request.prompt)
    promise = await submit(deployment, request)
    await deployment.upstream.until_billed(request.prompt)
    return promise


async def cancel(deployment: Deployment, promise: Promise) -> task_pb2.Task:
    """Have it cancelled; the task as it was after the answer."""
    request = task_service_pb2.CancelTaskRequest(task_id=promise.task_id)
    answer = await deployment.calls().tasks.CancelTask(request, timeout=CALL_TIMEOUT_S)
    promise.cancelled = True
    return answer.task


class Load:
    """A submit every so often while fewer than `at_most` tasks are unended; an async context manager."""

    def __init__(self, deployment: Deployment, *, every_s: float, at_most: int, max_paid: int) -> None:
        self._deployment = deployment
        self._every_s = every_s
        self._at_most = at_most
        self._max_paid = max_paid
        self._submits: set[asyncio.Task[Promise]] = set()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run(), name="load")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """No further submits; those under way are seen through."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        if error is None:
            await asyncio.gather(*self._submits)
        for submitting in self._submits:
            submitting.cancel()

    async def _run(self) -> None:
        while True:
            if self._deployment.unended + len(self._submits) < self._at_most:
                request = new_request(max_paid=self._max_paid)
                submitting = asyncio.create_task(submit(self._deployment, request), name="submit")
                self._submits.add(submitting)
                submitting.add_done_callback(self._submits.discard)
            await asyncio.sleep(self._every_s)

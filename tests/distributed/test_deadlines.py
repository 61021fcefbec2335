"""A caller's deadline, to the millisecond: what it runs out of is time, never the task's id or result."""

from __future__ import annotations

import asyncio
import signal
import time

import grpc
import pytest
from image.v1.image_service_pb2 import GenerateImageRequest
from task.v1.task_pb2 import TASK_STATE_CANCELLED, TASK_STATE_COMPLETED, TASK_STATE_PROCESSING
from task.v1.task_service_pb2 import CancelTaskRequest, GetTaskRequest

from tests.integration.api.deployment import Deployment, called, deployed
from tests.integration.api.refusals import refusal_of
from tests.integration.api.requests import sequence
from tests.stack import Calls, running_stack
from tests.upstreams import ArkUpstream
from tests.waiting import until_async

DEADLINE_S = 0.2
TASK_S = 2.0
CALLS = 20
AT_ONCE = 2


async def named(calls: Calls, prompt: str) -> str:
    """The task that a call of 200 ms names in its error. Fails for a bare cut, which names none."""
    request = GenerateImageRequest(prompt=prompt, model="doubao-seedream-4-0-250828", size="1K")
    start = time.monotonic()
    refusal = await refusal_of(calls.images.GenerateImage(request, timeout=DEADLINE_S))
    assert time.monotonic() - start >= DEADLINE_S * 0.8, "it waits while there is time"
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "WAIT_EXPIRED")
    task_id = refusal.trailers["task-id"]
    assert refusal.metadata["task_id"] == task_id
    assert task_id in refusal.text
    assert "WaitTask" in refusal.text, "it says what to do next"
    return task_id


@pytest.mark.alone
async def test_20_of_20_calls_of_200_ms_name_their_task_of_2_s_which_goes_on() -> None:
    """The server has 20 ms for its answer. One that answers at the deadline is cut every other time."""
    async with ArkUpstream(delay_s=TASK_S) as upstream:
        settings = {
            "IMAGE_API_KEY": "loopback",
            "IMAGE_BASE_URL": upstream.base_url,
            "OUTPUT_FETCH_ALLOW_PRIVATE": "true",
            "WORKER_CONCURRENCY": str(2 * CALLS),
        }
        with running_stack(**settings) as stack:
            deployment = Deployment(stack, stack.start("api"))
            stack.start("worker")
            async with called(deployment) as calls:
                prompts = [f"a red fox, picture {n}" for n in range(CALLS)]
                ids: list[str] = []
                for n in range(0, CALLS, AT_ONCE):
                    ids += await asyncio.gather(*(named(calls, p) for p in prompts[n : n + AT_ONCE]))
                assert len(set(ids)) == CALLS
                for task_id, prompt in zip(ids, prompts, strict=True):
                    task = await calls.ended(task_id)
                    assert (task.state, task.prompt) == (TASK_STATE_COMPLETED, prompt)
                    assert task.end_time.ToMilliseconds() - task.start_time.ToMilliseconds() >= TASK_S * 1000
                    assert len(task.image.images) == 1
                    assert upstream.billed[prompt] == 1, "nobody cancelled it, nobody repeated it"


@pytest.mark.alone
async def test_a_cancel_with_half_a_second_tells_how_the_task_stands_though_its_worker_hangs() -> None:
    with deployed() as deployment:
        worker = deployment.stack.start("worker")
        async with called(deployment) as calls:
            request = sequence(size="4K", max_images=15)
            task_id = (await calls.images.GenerateSequentialImagesAsync(request)).task_id

            async def runs() -> bool:
                task = (await calls.tasks.GetTask(GetTaskRequest(task_id=task_id))).task
                return task.state == TASK_STATE_PROCESSING

            await until_async(runs, within_s=20, what="the worker's claim")
            worker.signal(signal.SIGSTOP)
            task = (await calls.tasks.CancelTask(CancelTaskRequest(task_id=task_id), timeout=0.5)).task
            worker.signal(signal.SIGCONT)
            assert (task.state, task.cancel_requested) == (TASK_STATE_PROCESSING, True)
            assert (await calls.ended(task_id)).state == TASK_STATE_CANCELLED

"""A kill -9 in the middle of a streamed sequence: what Ark had named is fetched, the rest is in doubt."""

from __future__ import annotations

import pytest
from image.v1.image_service_pb2 import GenerateSequentialImagesRequest
from task.v1.error_reason_pb2 import ERROR_REASON_OUTCOME_UNKNOWN
from task.v1.task_pb2 import TASK_STATE_COMPLETED, Task
from task.v1.task_service_pb2 import GetTaskRequest

from tests.stack import Calls, calling, no_leaked_keys, running_stack
from tests.upstreams import ArkUpstream
from tests.waiting import until, until_async

PROMPT = "four seasons of one mountain"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fetched", [True, False], ids=["stored", "only named"])
@pytest.mark.parametrize("max_paid", [1, 2])
async def test_a_worker_killed_in_mid_stream_costs_only_what_was_not_named(
    max_paid: int, fetched: bool
) -> None:
    async with ArkUpstream() as ark:
        ark.hold_stream(PROMPT, after=2)
        if not fetched:
            ark.hold_links(PROMPT)
        with running_stack(
            IMAGE_API_KEY="any",
            IMAGE_BASE_URL=ark.base_url,
            OUTPUT_FETCH_ALLOW_PRIVATE="true",
            LEASE_SECONDS="1.5",
        ) as stack:
            api, worker = stack.start("api"), stack.start("worker")
            async with calling(api) as calls:
                request = GenerateSequentialImagesRequest(prompt=PROMPT, max_images=4)
                request.options.max_paid_attempts = max_paid
                accepted = await calls.images.GenerateSequentialImagesAsync(request)
                if fetched:
                    await until_async(
                        lambda: _stored(calls, accepted.task_id), within_s=20, what="two images"
                    )
                else:  # a download begins once its link is noted
                    await until(lambda: ark.link_requests[PROMPT] == 2, within_s=20, what="two downloads")
                worker.kill()
                ark.release_stream(PROMPT)
                ark.release_links(PROMPT)
                stack.start("worker")
                task = await calls.ended(accepted.task_id)
            await no_leaked_keys(stack)
    assert task.state == TASK_STATE_COMPLETED
    assert ark.billed[PROMPT] == max_paid
    images = [image.index for image in task.image.images]
    assert images == ([0, 1] if max_paid == 1 else [0, 1, 2, 3])
    assert {failure.error.reason for failure in task.image.failures} == (
        {ERROR_REASON_OUTCOME_UNKNOWN} if max_paid == 1 else set()
    )
    if max_paid == 2:
        assert ark.last_body[PROMPT]["sequential_image_generation_options"] == {"max_images": 2}


async def _stored(calls: Calls, task_id: str) -> bool:
    task: Task = (await calls.tasks.GetTask(GetTaskRequest(task_id=task_id))).task
    return task.progress.images_done == 2

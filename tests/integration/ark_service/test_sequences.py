"""A sequence as its caller sees it: every image on its own, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import time

import pytest
from image.v1.image_service_pb2 import GenerateSequentialImagesRequest, StreamSequentialImagesResponse
from task.v1.attempt_pb2 import ATTEMPT_OUTCOME_IN_DOUBT
from task.v1.error_reason_pb2 import ErrorReason
from task.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_PROCESSING, Task
from task.v1.task_service_pb2 import WaitTaskRequest

from tests.stack import Calls
from tests.upstreams import ArkUpstream, Fewer, LinkFails, PartlyFailed, Refusal, StreamCut, StreamFails

pytestmark = pytest.mark.xdist_group("ark-service")  # one service for all

AT_ONCE_S = 5.0
"""The held stream proves the order; this is for the processes that take part, on a busy machine."""


def four(prompt: str, *, max_paid: int = 2) -> GenerateSequentialImagesRequest:
    """Up to four images."""
    request = GenerateSequentialImagesRequest(prompt=prompt, model="doubao-seedream-4-0-250828", max_images=4)
    request.options.max_paid_attempts = max_paid
    return request


async def made(calls: Calls, request: GenerateSequentialImagesRequest) -> Task:
    """The task at its end."""
    accepted = await calls.images.GenerateSequentialImagesAsync(request)
    return await calls.ended(accepted.task_id)


def outcome(task: Task) -> tuple[list[int], dict[int, str]]:
    """The indexes of its images, and the reasons of its failures."""
    return [image.index for image in task.image.images], {
        failure.index: ErrorReason.Name(failure.error.reason) for failure in task.image.failures
    }


async def test_one_that_is_blocked_costs_no_other_and_the_first_is_seen_at_once(
    calls: Calls, ark: ArkUpstream
) -> None:
    prompt = "four seasons of one mountain"
    ark.script(prompt, PartlyFailed((1,)))
    ark.hold_stream(prompt, after=1)
    told: list[StreamSequentialImagesResponse] = []
    stream = calls.images.StreamSequentialImages(four(prompt))
    async for response in stream:
        told.append(response)
        if response.WhichOneof("event") == "image" and len(ark.event_times[prompt]) == 1:
            assert time.monotonic() - ark.event_times[prompt][0] <= AT_ONCE_S
            waited = await calls.tasks.WaitTask(_wait(told[0].task_id))
            assert (waited.task.state, outcome(waited.task)) == (TASK_STATE_PROCESSING, ([0], {}))
            assert time.monotonic() - ark.event_times[prompt][0] <= AT_ONCE_S, "a reader sees it as soon"
            ark.release_stream(prompt)
    kinds = [response.WhichOneof("event") for response in told]
    assert kinds.count("image") == 3
    task = told[-1].task
    assert task.state == TASK_STATE_COMPLETED
    assert outcome(task) == ([0, 2, 3], {1: "ERROR_REASON_CONTENT_POLICY_OUTPUT"})
    assert "content policy" in task.image.failures[0].error.message
    assert (ark.billed[prompt], ark.pictures[prompt], ark.fetched[prompt]) == (1, 3, 3)


@pytest.mark.parametrize("clean", [False, True], ids=["reset", "ended"])
@pytest.mark.parametrize("max_paid", [1, 2])
async def test_of_a_stream_that_breaks_off_only_the_rest_is_in_doubt(
    calls: Calls, ark: ArkUpstream, max_paid: int, clean: bool
) -> None:
    prompt = f"a stream cut after two of four, {max_paid}, {clean}"
    ark.script(prompt, StreamCut(2, clean=clean))
    task = await made(calls, four(prompt, max_paid=max_paid))
    assert task.state == TASK_STATE_COMPLETED
    assert (ark.billed[prompt], ark.arrived[prompt]) == (max_paid, max_paid)
    assert (task.attempts[0].outcome, task.attempts[0].paid) == (ATTEMPT_OUTCOME_IN_DOUBT, True)
    if max_paid == 1:
        unknown = "ERROR_REASON_OUTCOME_UNKNOWN"
        assert outcome(task) == ([0, 1], {2: unknown, 3: unknown})
    else:
        assert outcome(task) == ([0, 1, 2, 3], {})
        assert ark.last_body[prompt]["sequential_image_generation_options"] == {"max_images": 2}
    assert ark.fetched[prompt] == len(task.image.images), "none was made or fetched twice"


@pytest.mark.parametrize("max_paid", [1, 2])
async def test_the_rest_of_a_stream_that_ark_itself_ended_is_bought_within_the_limit(
    calls: Calls, ark: ArkUpstream, max_paid: int
) -> None:
    prompt = f"ended by an internal error, {max_paid}"
    ark.script(prompt, StreamFails(1))
    task = await made(calls, four(prompt, max_paid=max_paid))
    assert (task.state, ark.billed[prompt]) == (TASK_STATE_COMPLETED, max_paid)
    if max_paid == 1:
        assert outcome(task) == ([0], dict.fromkeys([1, 2, 3], "ERROR_REASON_OUTCOME_UNKNOWN"))
    else:
        assert (outcome(task), ark.pictures[prompt]) == (([0, 1, 2, 3], {}), 4)


async def test_a_group_that_is_blocked_half_way_is_one_call_although_a_link_fails(
    calls: Calls, ark: ArkUpstream
) -> None:
    prompt = "blocked half-way"
    ark.script(prompt, StreamFails(2, "OutputImageSensitiveContentDetected"))
    ark.fail_links(prompt, LinkFails(503))
    task = await made(calls, four(prompt, max_paid=2))
    blocked = "ERROR_REASON_CONTENT_POLICY_OUTPUT"
    assert (task.state, outcome(task)) == (TASK_STATE_COMPLETED, ([0, 1], {2: blocked, 3: blocked}))
    assert (ark.arrived[prompt], ark.pictures[prompt]) == (1, 2)


async def test_fewer_than_asked_for_is_the_models_decision_and_complete(
    calls: Calls, ark: ArkUpstream
) -> None:
    prompt = "a short story"
    ark.script(prompt, Fewer(2))
    task = await made(calls, four(prompt))
    assert (task.state, outcome(task)) == (TASK_STATE_COMPLETED, ([0, 1], {}))
    assert ark.billed[prompt] == 1


async def test_a_model_without_groups_is_called_once_per_image(calls: Calls, ark: ArkUpstream) -> None:
    prompt = "three calls"
    ark.script(prompt, Refusal(400, "OutputImageSensitiveContentDetected"))
    request = GenerateSequentialImagesRequest(
        prompt=prompt, model="doubao-seedream-3-0-t2i-250415", max_images=3, seed=7
    )
    task = await made(calls, request)
    assert task.state == TASK_STATE_COMPLETED
    assert outcome(task) == ([1, 2], {0: "ERROR_REASON_CONTENT_POLICY_OUTPUT"})
    assert [image.seed for image in task.image.images] == [8, 9], "the same seed would give the same picture"
    assert (ark.arrived[prompt], ark.billed[prompt], ark.fetched[prompt]) == (3, 2, 2)
    assert "stream" not in ark.last_body[prompt]


async def test_one_slow_download_holds_up_no_image(calls: Calls, ark: ArkUpstream) -> None:
    """Its storage hangs for one picture: the others are seen, and the stream is read to its end."""
    prompt = "one picture hangs"
    ark.hold_links(prompt, first=1)
    accepted = await calls.images.GenerateSequentialImagesAsync(four(prompt))
    async with asyncio.timeout(10):
        while True:
            task = (await calls.tasks.WaitTask(_wait(accepted.task_id))).task
            if len(task.image.images) == 3:
                break
    assert len(ark.event_times[prompt]) == 5, "the stream was read to its end"
    ark.release_links(prompt)
    assert outcome(await calls.ended(accepted.task_id)) == ([0, 1, 2, 3], {})


def _wait(task_id: str) -> WaitTaskRequest:
    request = WaitTaskRequest(task_id=task_id)
    request.wait.FromMilliseconds(50)
    return request

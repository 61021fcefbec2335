"""One request_id, one task: whichever rpc repeats it, however often at once."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from image.v1.image_service_pb2 import GenerateSequentialImagesRequest
from task.v1.task_pb2 import TASK_PRIORITY_LOW, TASK_STATE_PENDING

from tests.integration.api.deployment import Deployment
from tests.integration.api.refusals import refusal_of
from tests.integration.api.requests import SubmitRequest, data, image, options, sequence, ttl
from tests.integration.api.synchronous import early_task_id
from tests.stack import Calls

pytestmark = [pytest.mark.xdist_group("api-queueing"), pytest.mark.usefixtures("unharmed")]

AT_ONCE = 20


async def streamed(calls: Calls, request: GenerateSequentialImagesRequest) -> str:
    """The task of a stream: its first message names it."""
    stream = calls.images.StreamSequentialImages(request, timeout=10)
    async for first in stream:
        stream.cancel()
        return first.task_id
    raise AssertionError("a stream without a first message")


async def accepted(calls: Calls, request: SubmitRequest) -> str:
    """The task of an asynchronous call."""
    if isinstance(request, GenerateSequentialImagesRequest):
        answer = await calls.images.GenerateSequentialImagesAsync(request)
    else:
        answer = await calls.images.GenerateImageAsync(request)
    assert answer.state == TASK_STATE_PENDING
    return answer.task_id


async def test_a_repeat_gets_the_first_task_through_every_rpc_for_a_picture(calls: Calls) -> None:
    request = image(request_id="every rpc", reference_images=[data(1000)], seed=-1)
    first = await accepted(calls, request)
    assert await accepted(calls, request) == first
    assert await early_task_id(calls, request) == first


async def test_a_repeat_gets_the_first_task_through_every_rpc_for_a_sequence(calls: Calls) -> None:
    request = sequence(request_id="every rpc, sequence")
    first = await early_task_id(calls, request)
    assert await accepted(calls, request) == first
    assert await streamed(calls, request) == first
    assert await streamed(calls, request) == first


async def test_repeats_at_once_make_one_task(queueing: Deployment, calls: Calls) -> None:
    for round_ in range(10):
        before = await queueing.settled()
        request = image(request_id=f"at once {round_}")
        ids = await asyncio.gather(
            *(accepted(calls, request) for _ in range(AT_ONCE // 2)),
            *(early_task_id(calls, request) for _ in range(AT_ONCE // 2)),
        )
        kept = await queueing.settled()
        assert kept.tasks - before.tasks == set(ids)
        assert kept.queued - before.queued == set(ids)
        assert len(ids) == AT_ONCE
        assert len(set(ids)) == 1
        assert len(kept.request_ids - before.request_ids) == 1


async def test_repeats_with_references_at_once_make_one_task(queueing: Deployment, calls: Calls) -> None:
    before = await queueing.settled()
    request = image(request_id="references at once", reference_images=[data(200_001), data(100_001)])
    ids = await asyncio.gather(*(accepted(calls, request) for _ in range(AT_ONCE)))
    kept = await queueing.settled()
    assert kept.tasks - before.tasks == set(ids)
    assert len(set(ids)) == 1
    assert len(kept.references - before.references) == 2, "equal bytes are kept once"


async def test_repeats_of_a_sequence_at_once_make_one_task(queueing: Deployment, calls: Calls) -> None:
    before = await queueing.settled()
    request = sequence(request_id="sequence at once")
    ids = await asyncio.gather(
        *(accepted(calls, request) for _ in range(AT_ONCE // 2)),
        *(streamed(calls, request) for _ in range(AT_ONCE // 2)),
    )
    kept = await queueing.settled()
    assert kept.tasks - before.tasks == set(ids)
    assert len(set(ids)) == 1


async def test_without_request_id_every_call_makes_a_task(queueing: Deployment, calls: Calls) -> None:
    before = await queueing.settled()
    ids = await asyncio.gather(*(accepted(calls, image()) for _ in range(AT_ONCE)))
    kept = await queueing.settled()
    assert kept.tasks - before.tasks == set(ids)
    assert len(set(ids)) == AT_ONCE
    assert kept.request_ids == before.request_ids


async def test_ttl_and_the_order_of_labels_are_no_part_of_a_request(calls: Calls) -> None:
    same = [
        options(priority=TASK_PRIORITY_LOW, labels={"a": "1", "b": "2"}),
        options(priority=TASK_PRIORITY_LOW, labels={"b": "2", "a": "1"}),
        options(priority=TASK_PRIORITY_LOW, labels={"a": "1", "b": "2"}, ttl=Duration(seconds=90)),
    ]
    assert len({await accepted(calls, image(request_id="same", options=o)) for o in same}) == 1
    bare = await accepted(calls, image(request_id="bare"))
    assert await accepted(calls, image(request_id="bare", options=ttl(60))) == bare


OTHERS: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": "another"},
    "size": {"size": "128x128"},
    "watermark": {"watermark": True},
    "seed set": {"seed": -1},
    "reference": {"reference_images": [data(9)]},
    "user_id": {"user_id": "somebody else"},
    "priority": {"options": {"priority": TASK_PRIORITY_LOW}},
    "label": {"options": {"labels": {"a": "2"}}},
}


@pytest.mark.parametrize("case", OTHERS)
async def test_another_request_under_a_used_id_is_refused(
    queueing: Deployment, calls: Calls, case: str
) -> None:
    request_id = f"reused for another {case} \U0001f408"
    first = await accepted(calls, image(request_id=request_id))
    before = await queueing.settled()
    other = image(request_id=request_id, **OTHERS[case])
    for call in (calls.images.GenerateImageAsync(other), calls.images.GenerateImage(other, timeout=5)):
        refusal = await refusal_of(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        assert refusal.metadata == {"request_id": request_id, "task_id": first}
    assert queueing.kept() == before
    assert await accepted(calls, image(request_id=request_id)) == first, "the first one is still good"


async def test_a_sequence_under_the_id_of_a_picture_is_another_request(calls: Calls) -> None:
    first = await accepted(calls, image(request_id="picture, then sequence"))
    refusal = await refusal_of(
        calls.images.GenerateSequentialImagesAsync(sequence(request_id="picture, then sequence"))
    )
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert refusal.metadata["task_id"] == first


async def test_different_requests_at_once_under_one_id_make_one_task(
    queueing: Deployment, calls: Calls
) -> None:
    before = await queueing.settled()
    requests = [image(request_id="race", prompt=f"picture {n}") for n in range(AT_ONCE)]
    results = await asyncio.gather(
        *(calls.images.GenerateImageAsync(request) for request in requests), return_exceptions=True
    )
    won = {result.task_id for result in results if not isinstance(result, BaseException)}
    assert len(won) == 1
    assert (await queueing.settled()).tasks - before.tasks == won
    lost = [result for result in results if isinstance(result, BaseException)]
    assert len(lost) == AT_ONCE - 1
    for error in lost:
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_a_refused_request_leaves_its_id_free(calls: Calls) -> None:
    refusal = await refusal_of(calls.images.GenerateImageAsync(image(request_id="free", seed=-5)))
    assert refusal.reason == "INVALID_FIELD"
    assert await accepted(calls, image(request_id="free", seed=5))

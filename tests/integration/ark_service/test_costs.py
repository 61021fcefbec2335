"""What a sequence costs by every account there is of it, where one of its images is refused."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from admin.v1.usage_service_pb2 import GetUsageRequest, UsageSum
from admin.v1.usage_service_pb2_grpc import UsageServiceStub
from image.v1.image_service_pb2 import GenerateSequentialImagesRequest
from prometheus_client.parser import text_string_to_metric_families
from task.v1.attempt_pb2 import ATTEMPT_OUTCOME_SUCCEEDED
from task.v1.error_reason_pb2 import ERROR_REASON_CONTENT_POLICY_OUTPUT
from task.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_PROCESSING, Cost, Task
from task.v1.task_service_pb2 import WaitTaskRequest

from tests.integration.ark_service.conftest import PRICE_MICROS, PRICED
from tests.side_port import fetch
from tests.stack import Calls, ServiceProcess
from tests.upstreams import ArkUpstream, PartlyFailed, StreamCut
from tests.waiting import until, until_async

pytestmark = pytest.mark.xdist_group("ark-service")  # one service for all

UNPRICED = "doubao-seedream-5-0-260128"
AT_ONCE_S = 5.0
"""The held stream proves the order; this is for the processes that take part, on a busy machine."""
COST, PAID_CALLS = "imagegen_cost_total", "imagegen_paid_calls_total"


async def test_three_of_four_images_cost_three_prices_in_every_account(
    calls: Calls, ark: ArkUpstream, worker: ServiceProcess
) -> None:
    prompt = "four rooms of one house, the second of them forbidden"
    before = await counted_micros(worker, PRICED)
    ark.script(prompt, PartlyFailed((1,)))
    ark.hold_stream(prompt, after=1)
    accepted = await calls.images.GenerateSequentialImagesAsync(four(prompt, PRICED))
    await until(lambda: ark.event_times[prompt], within_s=20, what="the first image at the vendor")
    first = await with_an_image(calls, accepted.task_id)
    assert time.monotonic() - ark.event_times[prompt][0] <= AT_ONCE_S
    assert (first.state, first.progress.images_done) == (TASK_STATE_PROCESSING, 1)
    assert first.cost == cny(1), "what is known to have been spent so far"
    ark.release_stream(prompt)

    task = await calls.ended(accepted.task_id)
    assert task.state == TASK_STATE_COMPLETED
    assert [image.index for image in task.image.images] == [0, 2, 3]
    [failure] = task.image.failures
    assert (failure.index, failure.error.reason) == (1, ERROR_REASON_CONTENT_POLICY_OUTPUT)
    assert (ark.billed[prompt], ark.pictures[prompt]) == (1, 3)
    [attempt] = task.attempts
    assert (attempt.outcome, attempt.paid) == (ATTEMPT_OUTCOME_SUCCEEDED, True)
    assert (attempt.cost_micros, attempt.cost_currency) == (3 * PRICE_MICROS, "CNY")
    assert task.cost == cny(3)
    assert await counted_micros(worker, PRICED) - before == 3 * PRICE_MICROS
    assert await used(calls, task) == UsageSum(tasks=1, images=3, paid_calls=1, costs=[cny(3)])


async def test_where_the_price_is_not_known_no_account_says_zero(
    calls: Calls, ark: ArkUpstream, worker: ServiceProcess
) -> None:
    prompt = "four rooms at an unknown price"
    ark.script(prompt, PartlyFailed((1,)))
    answer = await calls.images.GenerateSequentialImages(four(prompt, UNPRICED), timeout=30)
    assert (len(answer.images), answer.usage.paid_calls) == (3, 1)
    assert not answer.usage.HasField("cost")
    task = await calls.ended(answer.task_id)
    [attempt] = task.attempts
    assert attempt.paid
    assert not attempt.HasField("cost_micros")
    assert (attempt.cost_currency, task.HasField("cost")) == ("", False)
    assert UNPRICED not in {labels["model"] for labels, _ in await series_of(worker, COST)}
    assert await used(calls, task) == UsageSum(tasks=1, images=3, images_without_price=3, paid_calls=1)


async def test_of_a_stream_that_broke_off_the_rest_is_counted_as_in_doubt(
    calls: Calls, ark: ArkUpstream, worker: ServiceProcess
) -> None:
    prompt = "four rooms, and the line went dead after two"
    before = await paid_calls(worker, "in_doubt")
    ark.script(prompt, StreamCut(2))
    request = four(prompt, PRICED)
    request.options.max_paid_attempts = 1
    task = await calls.ended((await calls.images.GenerateSequentialImagesAsync(request)).task_id)
    assert task.cost == cny(2), "what is known to have been spent"
    sums = UsageSum(tasks=1, images=2, paid_calls=1, calls_in_doubt=1, costs=[cny(2)])
    assert await used(calls, task) == sums

    async def counted() -> bool:
        return await paid_calls(worker, "in_doubt") == before + 1

    await until_async(counted, within_s=5, what="the worker's count of it")


def four(prompt: str, model: str) -> GenerateSequentialImagesRequest:
    """Up to four images of a user whom nobody shares."""
    return GenerateSequentialImagesRequest(prompt=prompt, model=model, max_images=4, user_id=prompt)


def cny(images: int) -> Cost:
    """So many times the price."""
    return Cost(currency="CNY", amount_micros=images * PRICE_MICROS)


async def with_an_image(calls: Calls, task_id: str) -> Task:
    """The task as WaitTask tells it once an image is stored."""
    while True:
        request = WaitTaskRequest(task_id=task_id)
        request.wait.FromMilliseconds(50)
        task = (await calls.tasks.WaitTask(request, timeout=10)).task
        if task.image.images:
            return task


async def used(calls: Calls, task: Task) -> UsageSum:
    """What operators read of the task's user on the task's day, but for whose and when it was."""
    day = datetime.fromtimestamp(task.create_time.seconds, UTC).date().isoformat()
    request = GetUsageRequest(start_date=day, end_date=day, caller="anonymous", user_id=task.user_id)
    [found] = (await UsageServiceStub(calls.channel).GetUsage(request, timeout=10)).sums
    whose = (found.date, found.caller, found.user_id, found.provider, found.model)
    assert whose == (day, "anonymous", task.user_id, "ark", task.model)
    for name in ("date", "caller", "user_id", "provider", "model"):
        found.ClearField(name)
    return found


async def series_of(worker: ServiceProcess, metric: str) -> list[tuple[dict[str, str], float]]:
    """Labels and values of a counter of the worker."""
    text = (await fetch(f"{worker.http}/metrics")).body.decode()
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == metric
    ]


async def counted_micros(worker: ServiceProcess, model: str) -> int:
    """What the worker has counted of the model's images at Ark, but for what floats cannot hold."""
    series = {"provider": "ark", "model": model, "currency": "CNY"}
    [value] = [value for labels, value in await series_of(worker, COST) if labels == series]
    return round(value * 1_000_000)


async def paid_calls(worker: ServiceProcess, end: str) -> float:
    """How many calls to Ark came to this end, as the worker counts them."""
    series = {"provider": "ark", "end": end}
    [value] = [value for labels, value in await series_of(worker, PAID_CALLS) if labels == series]
    return value

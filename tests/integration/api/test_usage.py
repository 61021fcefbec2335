"""admin.v1.UsageService: what callers' tasks add up to, as an operator asks for it."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from admin.v1.usage_service_pb2 import GetUsageRequest, UsageSum
from admin.v1.usage_service_pb2_grpc import UsageServiceStub
from task.v1.task_pb2 import Cost

from tests.integration.api.refusals import assert_invalid, refusal_of
from tests.integration.api.requests import image, sequence
from tests.stack import Calls

FREE = Cost(currency="CNY", amount_micros=0)


async def usage(calls: Calls, user_id: str) -> dict[str, UsageSum]:
    """The user's sums by model, asked for one by one."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    tomorrow = yesterday + timedelta(days=2)  # a test may run over midnight
    stub, token = UsageServiceStub(calls.channel), ""
    found: dict[str, UsageSum] = {}
    while True:
        request = GetUsageRequest(
            start_date=str(yesterday),
            end_date=str(tomorrow),
            user_id=user_id,
            page_size=1,
            page_token=token,
        )
        answer = await stub.GetUsage(request, timeout=10)
        for one in answer.sums:
            assert yesterday.isoformat() <= one.date <= tomorrow.isoformat()
            assert (one.caller, one.user_id, one.provider) == ("anonymous", user_id, "local")
            found.setdefault(one.model, UsageSum())
            found[one.model].tasks += one.tasks
            found[one.model].images += one.images
            found[one.model].paid_calls += one.paid_calls + one.calls_in_doubt + one.images_without_price
            found[one.model].costs.extend(cost for cost in one.costs if cost not in found[one.model].costs)
        token = answer.next_page_token
        if not token:
            return found


@pytest.mark.xdist_group("api-working")
async def test_what_a_user_had_made_adds_up(worked: Calls) -> None:
    once = image(user_id="usage-1", request_id="usage-once")
    for request in (image(user_id="usage-1"), once, once):
        answer = await worked.images.GenerateImage(request, timeout=60)
        assert answer.usage.cost == FREE, "drawn here"
    pair = sequence(user_id="usage-1", max_images=2, model="doubao-seedream-4.0", size="1K")
    await worked.images.GenerateSequentialImages(pair, timeout=60)
    await worked.images.GenerateImage(image(user_id="usage-2"), timeout=60)

    assert await usage(worked, "usage-1") == {
        "doubao-seedream-4-0-250828": UsageSum(tasks=1, images=2, costs=[FREE]),
        "local-canvas": UsageSum(tasks=2, images=2, costs=[FREE]),
    }
    assert await usage(worked, "usage-2") == {"local-canvas": UsageSum(tasks=1, images=1, costs=[FREE])}
    assert await usage(worked, "usage-3") == {}


@pytest.mark.xdist_group("api-queueing")
async def test_a_waiting_task_counts_and_has_cost_nothing_yet(calls: Calls) -> None:
    await calls.images.GenerateImageAsync(image(user_id="usage-waits"))
    assert await usage(calls, "usage-waits") == {"local-canvas": UsageSum(tasks=1)}


def token_of(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.xdist_group("api-queueing")
@pytest.mark.parametrize(
    "token",
    [
        "!",
        token_of(["2026-11-25"]),
        token_of([1, 2, 3, 4, 5]),
        token_of({"day": "2026-11-25"}),
        "Z29uZQ==",
        base64.urlsafe_b64encode(b"[" * 200_000).decode(),
    ],
    ids=["no base64", "too little", "numbers", "no list", "no JSON", "nested"],
)
async def test_everything_wrong_is_told_at_once(calls: Calls, token: str) -> None:
    request = GetUsageRequest(
        start_date="today", end_date="x", caller="c" * 129, page_size=-1, page_token=token
    )
    refusal = await refusal_of(UsageServiceStub(calls.channel).GetUsage(request, timeout=10))
    assert_invalid(
        refusal,
        {
            "start_date": "'today' is no date; allowed: YYYY-MM-DD",
            "end_date": "'x' is no date",
            "caller": "at most 128",
            "page_size": "allowed: 0 (100) or more, capped at 1000",
            "page_token": "`next_page_token` as it came",
        },
    )

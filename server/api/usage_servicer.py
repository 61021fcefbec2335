"""admin.v1.UsageService: one short method per rpc."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import grpc.aio
from admin.v1 import usage_service_pb2 as pb
from admin.v1 import usage_service_pb2_grpc
from task.v1 import task_pb2

from server.api import paging
from server.domain.usage import UsageKey, UsageSum
from server.service.usage import UsageQuery, UsageReports

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

DEFAULT_SUMS = 100
MAX_SUMS = 1_000


class UsageServicer(usage_service_pb2_grpc.UsageServiceServicer):
    """Sums up what was made and spent."""

    def __init__(self, *, reports: UsageReports) -> None:
        self._reports = reports

    async def GetUsage(self, request: pb.GetUsageRequest, context: Context) -> pb.GetUsageResponse:  # noqa: N802
        page, wrong = paging.read(request.page_size, request.page_token, default=DEFAULT_SUMS, most=MAX_SUMS)
        after = _key(page.after)
        if page.after and after is None:
            wrong.append(paging.unknown_token())
        query = UsageQuery(
            start_date=request.start_date,
            end_date=request.end_date,
            caller=request.caller,
            user_id=request.user_id,
        )
        sums, more = await self._reports.page(query, after=after, limit=page.limit, others=wrong)
        return pb.GetUsageResponse(
            sums=[_sum(key, found) for key, found in sums],
            next_page_token=paging.token(json.dumps(sums[-1][0])) if more else "",
        )


def _key(text: str) -> UsageKey | None:
    """The key that a page token holds; None if it holds none."""
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):  # the latter for brackets in brackets, which anybody can send
        return None
    if not isinstance(parts, list) or [type(part) for part in parts] != [str] * len(UsageKey._fields):
        return None
    return UsageKey(*parts)


def _sum(key: UsageKey, found: UsageSum) -> pb.UsageSum:
    return pb.UsageSum(
        date=key.day,
        caller=key.caller,
        user_id=key.user_id,
        provider=key.provider,
        model=key.model,
        tasks=found.tasks,
        images=found.images,
        images_without_price=found.images_without_price,
        paid_calls=found.paid_calls,
        calls_in_doubt=found.calls_in_doubt,
        costs=[
            task_pb2.Cost(currency=currency, amount_micros=amount)
            for currency, amount in sorted(found.amounts_micros.items())
        ],
    )

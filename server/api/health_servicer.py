"""grpc.health.v1: the process' readiness, from the same object that answers `/ready`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any, TypeAlias

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1 import health_pb2 as pb

from server.health import Health

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Check, List and Watch as the health checking protocol has them.

    A Watch ends once it has told that the process drains, so that it does not hold up the stop.
    """

    def __init__(self, health: Health, *, services: Collection[str]) -> None:
        self._health = health
        self._services = ("", *services)

    async def Check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:  # noqa: N802
        if request.service not in self._services:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"no service {request.service[:64]!r} is known here"
            )
        return self._answer()

    async def List(self, request: Any, context: Context) -> Any:  # noqa: N802
        answer = health_pb2.HealthListResponse  # type: ignore[attr-defined]  # newer than its stubs
        return answer(statuses={name: self._answer() for name in self._services})

    async def Watch(  # noqa: N802
        self, request: pb.HealthCheckRequest, context: Context
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        changed = asyncio.Event()
        with self._health.watching(changed.set):
            while True:
                changed.clear()
                last = self._health.draining  # told below: a drain that begins meanwhile gets its own turn
                if request.service in self._services:
                    yield self._answer()
                else:
                    yield pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVICE_UNKNOWN)
                if last:
                    return
                await changed.wait()

    def _answer(self) -> pb.HealthCheckResponse:
        ready = self._health.ready
        return pb.HealthCheckResponse(
            status=pb.HealthCheckResponse.SERVING if ready else pb.HealthCheckResponse.NOT_SERVING
        )

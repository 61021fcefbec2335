"""The standard health service, asked without its package."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2

from imagegen import Health, ImageClient
from tests.client.scripted_server import ScriptedService


@pytest.mark.parametrize("status", ["SERVING", "NOT_SERVING", "UNKNOWN"])
async def test_what_the_service_says(status: str, client: ImageClient, service: ScriptedService) -> None:
    await service.health.set("", health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    assert await client.health() is Health[status]


def test_the_numbers_are_the_standard_ones() -> None:
    assert dict(health_pb2.HealthCheckResponse.ServingStatus.items()) == {h.name: h.value for h in Health}

"""Deployments that a folder's tests share, and stubs to call them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from image.v1.image_service_pb2 import HEALTH_STATUS_SERVING, HealthCheckRequest

from tests.integration.api.deployment import Deployment, called, deployed
from tests.stack import Calls


@pytest.fixture(scope="session")
def queueing() -> Iterator[Deployment]:
    """A deployment without a worker: what is accepted stays PENDING."""
    with deployed() as deployment:
        yield deployment


@pytest.fixture(scope="session")
def working() -> Iterator[Deployment]:
    """A deployment with a worker: what is accepted is made."""
    with deployed() as deployment:
        deployment.stack.start("worker")
        yield deployment


@pytest.fixture
async def calls(queueing: Deployment) -> AsyncIterator[Calls]:
    """Stubs of the deployment without a worker."""
    async with called(queueing) as calls:
        yield calls


@pytest.fixture
async def worked(working: Deployment) -> AsyncIterator[Calls]:
    """Stubs of the deployment with a worker."""
    async with called(working) as calls:
        yield calls


@pytest.fixture
async def unharmed(queueing: Deployment, calls: Calls) -> AsyncIterator[None]:
    """Around a test: the same process goes on serving, and has met nothing that it did not expect."""
    pid, log_length = queueing.api.pid, len(queueing.api.log())
    yield
    health = await calls.images.HealthCheck(HealthCheckRequest())
    assert health.status == HEALTH_STATUS_SERVING
    assert queueing.api.running()
    assert queueing.api.pid == pid
    assert "unexpected error" not in queueing.api.log()[log_length:]


@pytest.fixture
async def nothing_kept(queueing: Deployment, unharmed: None) -> AsyncIterator[None]:
    """Around a test of refusals: nothing is stored, nothing is queued."""
    before = await queueing.settled()
    yield
    assert queueing.kept() == before

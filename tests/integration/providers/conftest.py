"""A loopback Ark of its own for every test, and the provider in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from server.providers.ark import ArkProvider
from tests.integration.providers.ark_calls import ark
from tests.upstreams import ArkUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ArkUpstream]:
    """The server."""
    async with ArkUpstream() as server:
        yield server


@pytest.fixture
async def provider(upstream: ArkUpstream) -> AsyncIterator[ArkProvider]:
    """The provider."""
    made = ark(upstream)
    yield made
    await made.aclose()

"""A loopback Ark of its own for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.upstreams import ArkUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[ArkUpstream]:
    """The server."""
    async with ArkUpstream() as server:
        yield server

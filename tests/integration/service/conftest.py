"""What the use cases' tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.service.desk import Desk, SilentEvents, open_desk


@pytest.fixture
async def desk(tmp_path: Path, redis_url: str, redis_prefix: str) -> AsyncIterator[Desk]:
    """A desk of the test's own, on the session's Redis."""
    async with open_desk(tmp_path, redis_url, redis_prefix) as opened:
        yield opened


@pytest.fixture
async def silent_desk(tmp_path: Path, redis_url: str, redis_prefix: str) -> AsyncIterator[Desk]:
    """A desk whose events never come, although they claim to be connected."""
    events = SilentEvents(connected=True)
    async with open_desk(tmp_path, redis_url, redis_prefix, events=events) as opened:
        yield opened

"""What the use cases' tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.service.desk import Desk, open_desk


@pytest.fixture
async def desk(tmp_path: Path, redis_url: str, redis_prefix: str) -> AsyncIterator[Desk]:
    """A desk of the test's own, on the session's Redis."""
    async with open_desk(tmp_path, redis_url, redis_prefix) as opened:
        yield opened

"""What the worker's tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.worker.bench import Bench, running_bench
from tests.redis_server import assert_no_leaked_keys


@pytest.fixture
async def bench(tmp_path: Path, redis_url: str, redis_prefix: str) -> AsyncIterator[Bench]:
    """A store, a queue and outputs of the test's own. Tasks that are all over have left nothing in Redis."""
    async with running_bench(tmp_path, redis_url, redis_prefix) as made:
        yield made
        if await made.all_ended():
            assert_no_leaked_keys(redis_url, redis_prefix)

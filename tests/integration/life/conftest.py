"""What lives are lived on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """A server of their own: these tests flush it."""
    with RedisServer() as server:
        yield server

"""SAQ, with its defaults; jobs are dropped when done, as it offers."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

from benchmarks.peers import place

queue = RedisQueue(Redis.from_url(place.redis_url()))  # its own from_url takes no Unix socket


async def nothing(context: dict[str, Any]) -> None:
    """Note the moment."""
    place.stamp()


settings = {"queue": queue, "functions": [nothing], "concurrency": place.concurrency()}


class SaqSubmitter:
    """A client of SAQ."""

    async def open(self) -> None:
        """Connect."""
        await queue.connect()

    async def submit(self) -> None:
        """Put one task in line."""
        await queue.enqueue(nothing.__name__, ttl=-1)

    async def close(self) -> None:
        """Disconnect."""
        await queue.disconnect()


def submitter() -> SaqSubmitter:
    """A client, not yet connected."""
    return SaqSubmitter()


def worker_command() -> list[str]:
    """SAQ's own command."""
    return ["-m", "saq", f"{__name__}.settings"]

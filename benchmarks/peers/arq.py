"""arq, polling often: by default it looks twice a second; and quiet, as the others are."""

from __future__ import annotations

from typing import Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings

from benchmarks.peers import place


async def nothing(context: dict[str, Any]) -> None:
    """Note the moment."""
    place.stamp()


POLL_DELAY_S = 0.01
QUIET = {"version": 1, "disable_existing_loggers": False, "loggers": {"arq": {"level": "WARNING"}}}


class WorkerSettings:
    """What arq's command reads."""

    functions = (nothing,)
    redis_settings = RedisSettings.from_dsn(place.redis_url())
    max_jobs = place.concurrency()
    poll_delay = POLL_DELAY_S
    keep_result = 0


class ArqSubmitter:
    """A client of arq."""

    _pool: ArqRedis

    async def open(self) -> None:
        """Connect."""
        self._pool = await create_pool(WorkerSettings.redis_settings)

    async def submit(self) -> None:
        """Put one task in line."""
        await self._pool.enqueue_job(nothing.__name__)

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.aclose()


def submitter() -> ArqSubmitter:
    """A client, not yet connected."""
    return ArqSubmitter()


def worker_command() -> list[str]:
    """arq's own command."""
    settings = f"{__name__}.{WorkerSettings.__name__}"
    return ["-m", "arq", settings, "--custom-log-dict", f"{__name__}.QUIET"]

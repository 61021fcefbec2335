"""Celery over Redis as its guide advises for many short tasks: no results, a large prefetch."""

from __future__ import annotations

from celery import Celery

from benchmarks.peers import place

PREFETCH = 64
"""Of the 50 to 150 that the guide names, a multiplier of the slots."""

app = Celery("peer", broker=place.redis_url().replace("unix://", "redis+socket://"))
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=PREFETCH)


@app.task(name="nothing")  # type: ignore[untyped-decorator]
def nothing() -> None:
    """Note the moment."""
    place.stamp()


class CelerySubmitter:
    """A client of Celery, whose calls block."""

    async def open(self) -> None:
        """Its pool connects by itself."""

    async def submit(self) -> None:
        """Put one task in line."""
        nothing.delay()

    async def close(self) -> None:
        """Disconnect."""
        app.close()


def command_for(pool: str) -> list[str]:
    """Celery's own command, without what only several workers need."""
    return [
        *("-m", "celery", "--app", f"{__name__}:app", "worker", "--pool", pool),
        *("--concurrency", str(place.concurrency()), "--loglevel", "WARNING"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]

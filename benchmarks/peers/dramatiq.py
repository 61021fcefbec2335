"""dramatiq, with its defaults: one process, a thread per task."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers import place

broker = RedisBroker(url=place.redis_url())
dramatiq.set_broker(broker)


@dramatiq.actor  # type: ignore[untyped-decorator]
def nothing() -> None:
    """Note the moment."""
    place.stamp()


class DramatiqSubmitter:
    """A client of dramatiq, whose calls block."""

    async def open(self) -> None:
        """Its pool connects by itself."""

    async def submit(self) -> None:
        """Put one task in line."""
        nothing.send()

    async def close(self) -> None:
        """Disconnect."""
        broker.close()


def submitter() -> DramatiqSubmitter:
    """A client, not yet connected."""
    return DramatiqSubmitter()


def worker_command() -> list[str]:
    """dramatiq's own command, with one worker process."""
    return ["-m", "dramatiq", __name__, "--processes", "1", "--threads", str(place.concurrency())]

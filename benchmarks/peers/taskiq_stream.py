"""taskiq over a Redis stream, with its defaults: uvloop where it can be had, no results."""

from __future__ import annotations

from taskiq_redis import RedisStreamBroker

from benchmarks.peers import place
from benchmarks.peers.taskiq_tasks import TaskiqSubmitter, command_for

broker = RedisStreamBroker(place.redis_url())
_submitter = TaskiqSubmitter(broker)


def submitter() -> TaskiqSubmitter:
    """A client, not yet connected."""
    return _submitter


def worker_command() -> list[str]:
    """taskiq's own command."""
    return command_for(__name__)

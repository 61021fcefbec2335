"""`queue-status` and `queue-clear`: the queue from the command line."""

from __future__ import annotations

import sys

from server.ports import QueueUnavailable
from server.queue.connection import UnsuitableRedis
from server.queue.task_queue import RedisTaskQueue


async def run_queue_command(command: str, redis_url: str) -> int:
    """Print what is in the queue, or empty it; returns the exit code."""
    try:
        queue = RedisTaskQueue(redis_url)
        await queue.check()
        try:
            stats = await queue.stats()
            if command == "queue-clear":
                await queue.recovery.reset()
        finally:
            await queue.aclose()
    except (QueueUnavailable, UnsuitableRedis) as error:
        print(f"REDIS_URL: {error}", file=sys.stderr)
        return 1
    oldest = "-" if stats.oldest_ready_ms is None else f"{stats.oldest_ready_ms / 1000:.1f} s"
    print(f"ready {stats.ready}   running {stats.leased}   delayed {stats.delayed}   oldest ready {oldest}")
    if command == "queue-clear":
        print("The queue is empty now; the workers' sweep brings unfinished tasks back from the store.")
    return 0

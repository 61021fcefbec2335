"""`queue-status` and `queue-clear`: the queue from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

from server.ports import QueueUnavailable
from server.processes import OwnRedis
from server.queue.connection import UnsuitableRedis
from server.queue.task_queue import RedisTaskQueue


async def run_queue_command(command: str, redis_url: str, data_dir: Path) -> int:
    """Print what is in the queue, or empty it; returns the exit code.

    Without a `redis_url` it is the queue of the embedded stack that runs on `data_dir`.
    """
    unset = f"is not set, and no embedded stack runs on DATA_DIR {data_dir}; start one, or set it. "
    try:
        queue = RedisTaskQueue(redis_url or OwnRedis(data_dir).url)
    except ValueError as error:
        print(f"REDIS_URL: {error}", file=sys.stderr)
        return 1
    try:
        await queue.check()
        stats = await queue.stats()
        if command == "queue-clear":
            await queue.recovery.reset()
    except (QueueUnavailable, UnsuitableRedis) as error:
        print(f"REDIS_URL: {'' if redis_url else unset}{error}", file=sys.stderr)
        return 1
    finally:
        await queue.aclose()
    oldest = "-" if stats.oldest_ready_ms is None else f"{stats.oldest_ready_ms / 1000:.1f} s"
    print(f"ready {stats.ready}   running {stats.leased}   delayed {stats.delayed}   oldest ready {oldest}")
    if command == "queue-clear":
        print("The queue is empty now; the workers' sweep brings unfinished tasks back from the store.")
    return 0

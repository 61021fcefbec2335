"""Where a peer's script works, told by its environment: its library's own command imports it."""

from __future__ import annotations

import os

from benchmarks.stamps import StampFile

REDIS = "BENCH_REDIS_URL"
STAMPS = "BENCH_STAMPS"
CONCURRENCY = "BENCH_CONCURRENCY"


def redis_url() -> str:
    """The Redis that every contender uses."""
    return os.environ[REDIS]


def concurrency() -> int:
    """How many tasks the worker is to run at once; 1 where no worker is run."""
    return int(os.environ.get(CONCURRENCY, "1"))


def stamp_file() -> StampFile | None:
    """Where a worker's tasks note their moment; None where no worker is run."""
    path = os.environ.get(STAMPS)
    return StampFile(path) if path else None


_stamps = stamp_file()


def stamp() -> None:
    """The body of every peer's task. RuntimeError outside a worker."""
    if _stamps is None:
        raise RuntimeError(f"{STAMPS} is not set: this is no worker")
    _stamps.stamp()

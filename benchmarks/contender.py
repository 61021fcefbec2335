"""What is measured, and what everything that is measured can do."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from benchmarks.pick_up import PickUp
from tests.redis_server import RedisServer


class MeasureFailed(Exception):
    """A contender did not do its work; the text says what happened."""


class Deployment(Protocol):
    """A contender with an empty queue."""

    def enqueue(self, tasks: int) -> None:
        """Put so many tasks in line, that nobody works on yet. Raises MeasureFailed."""
        ...

    def worker(self, concurrency: int, stamps: Path) -> AbstractContextManager[int]:
        """A running worker, by its process id; it is gone at the end. Its tasks note their moments in the
        file when they enter their body."""
        ...

    def pick_ups(self, stamps: Path, *, samples: int, seconds: float) -> list[PickUp]:
        """With a worker running: see `benchmarks.pick_up`. Raises MeasureFailed."""
        ...

    def check(self, tasks: int) -> None:
        """The worker has stopped: raise MeasureFailed unless so many tasks were done as they should be."""
        ...


class Contender(Protocol):
    """The service, or a library that it is compared with."""

    @property
    def name(self) -> str:
        """As it stands in tables."""
        ...

    @property
    def description(self) -> str:
        """Versions, settings, and what a task is here."""
        ...

    def prepare(self) -> None:
        """Install what it needs. Raises NotInstalled."""
        ...

    def deployed(self, redis: RedisServer) -> AbstractContextManager[Deployment]:
        """A deployment on this Redis, which it may empty."""
        ...

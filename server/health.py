"""Whether this process is alive and ready: named components and their last known state.

One object feeds `/health`, `/ready` and the gRPC health service, so that they cannot disagree. The checks
that set the states live with their components.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Health:
    """Alive as long as the process runs; ready while the store answers and nothing drains.

    Redis is reported but does not decide: tasks are accepted without it and run when it is back.
    """

    def __init__(self) -> None:
        self.store = False
        self.redis = False
        self.draining = False
        self._watchers: list[Callable[[], object]] = []

    @property
    def ready(self) -> bool:
        """Whether new work should be sent here."""
        return self.store and not self.draining

    @contextmanager
    def watching(self, on_change: Callable[[], object]) -> Iterator[None]:
        """While entered, call `on_change` whenever the readiness changes, and when draining begins."""
        self._watchers.append(on_change)
        try:
            yield
        finally:
            self._watchers.remove(on_change)

    def set(
        self, *, store: bool | None = None, redis: bool | None = None, draining: bool | None = None
    ) -> None:
        """Record what a check found."""
        before = (self.ready, self.draining)
        if store is not None:
            self.store = store
        if redis is not None:
            self.redis = redis
        if draining is not None:
            self.draining = draining
        if (self.ready, self.draining) != before:
            for on_change in tuple(self._watchers):
                on_change()

    def report(self) -> dict[str, str]:
        """The states in words, for `/ready`."""
        return {
            "status": "ready" if self.ready else "not ready",
            "store": "up" if self.store else "down",
            "redis": "up" if self.redis else "down",
            "draining": "yes" if self.draining else "no",
        }

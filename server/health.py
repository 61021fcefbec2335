"""Whether this process is alive and ready: named components and their last known state.

One object feeds `/health`, `/ready` and the gRPC health service, so that they cannot disagree. The checks
that set the states live with their components.
"""

from __future__ import annotations

from collections.abc import Callable


class Health:
    """Alive as long as the process runs; ready while the store answers and nothing drains.

    Redis is reported but does not decide: tasks are accepted without it and run when it is back.
    """

    def __init__(self) -> None:
        self.store = False
        self.redis = False
        self.draining = False
        self._watchers: list[Callable[[bool], None]] = []

    @property
    def ready(self) -> bool:
        """Whether new work should be sent here."""
        return self.store and not self.draining

    def watch(self, on_change: Callable[[bool], None]) -> None:
        """Call with the readiness, now and at each change."""
        self._watchers.append(on_change)
        on_change(self.ready)

    def set(
        self, *, store: bool | None = None, redis: bool | None = None, draining: bool | None = None
    ) -> None:
        """Record what a check found."""
        before = self.ready
        if store is not None:
            self.store = store
        if redis is not None:
            self.redis = redis
        if draining is not None:
            self.draining = draining
        if self.ready != before:
            for watcher in self._watchers:
                watcher(self.ready)

    def report(self) -> dict[str, str]:
        """The states in words, for `/ready`."""
        return {
            "status": "ready" if self.ready else "not ready",
            "store": "up" if self.store else "down",
            "redis": "up" if self.redis else "down",
            "draining": "yes" if self.draining else "no",
        }

"""taskiq over one of its Redis brokers: what the list's and the stream's modules have in common."""

from __future__ import annotations

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask

from benchmarks.peers import place


async def nothing() -> None:
    """Note the moment."""
    place.stamp()


class TaskiqSubmitter:
    """A client of taskiq."""

    def __init__(self, broker: AsyncBroker) -> None:
        self._broker = broker
        self._task: AsyncTaskiqDecoratedTask[[], None] = broker.register_task(nothing, task_name="nothing")

    async def open(self) -> None:
        """Connect; of a stream this also makes the group that is to read it."""
        await self._broker.startup()

    async def submit(self) -> None:
        """Put one task in line."""
        await self._task.kiq()

    async def close(self) -> None:
        """Disconnect."""
        await self._broker.shutdown()


def command_for(module: str) -> list[str]:
    """taskiq's own command, with one worker process."""
    slots = str(place.concurrency())
    return [
        *("-m", "taskiq", "worker", f"{module}:broker", "--workers", "1"),
        *("--max-async-tasks", slots, "--log-level", "WARNING"),
    ]

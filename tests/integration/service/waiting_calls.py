"""Calls that wait for a task, and what happens to it meanwhile."""

from __future__ import annotations

from server.domain import life
from server.domain.task import Task
from server.ports import now_ms
from tests.integration.service.desk import Desk
from tests.waiting import until


async def listening(desk: Desk) -> None:
    """The events are connected."""
    await until(lambda: desk.events.connected, within_s=5, what="the event connection")


async def end(desk: Desk, task: Task) -> Task:
    """Cancel the task in the store; nobody is told."""
    assert await desk.store.write(life.cancel_pending(task, now_ms()))
    ended = await desk.store.get(task.id)
    assert ended is not None
    return ended


def waiting(desk: Desk) -> float:
    """How many calls wait, by the metrics."""
    return desk.metrics.registry.get_sample_value("imagegen_waiting_calls") or 0.0


async def begun(desk: Desk, calls: int = 1) -> None:
    """So many calls wait, and have looked at their task."""
    await until(lambda: waiting(desk) == calls, within_s=5, what=f"{calls} waiting calls")
    await until(lambda: desk.store_faults.calls["get"] >= calls, within_s=5)

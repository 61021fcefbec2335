"""Reading a task by its id."""

from __future__ import annotations

import asyncio

import pytest

from server.domain.errors import InvalidRequest, Reason, StoreUnavailable, TaskNotFound
from server.domain.task import TaskState
from tests.integration.service.desk import Desk


async def test_a_task_is_read_by_its_id(desk: Desk) -> None:
    task = await desk.submit()
    assert await desk.tasks.get(task.id) == task


@pytest.mark.parametrize(
    "task_id", ["task_1234567890", "x", "0" * 26, "x" * 128, "猫" * 26, "../../etc/passwd" + "x" * 10]
)
async def test_an_id_that_is_not_ours_is_not_found(desk: Desk, task_id: str) -> None:
    with pytest.raises(TaskNotFound) as caught:
        await desk.tasks.get(task_id)
    assert caught.value.metadata == {"task_id": task_id}


@pytest.mark.parametrize("task_id", ["", "x" * 129])
async def test_an_id_that_can_be_nobodys_is_invalid(desk: Desk, task_id: str) -> None:
    with pytest.raises(InvalidRequest):
        await desk.tasks.get(task_id)


async def test_without_the_store_nothing_is_read(desk: Desk) -> None:
    task = await desk.submit()
    desk.store_faults.away = True
    with pytest.raises(StoreUnavailable):
        await desk.tasks.get(task.id)


async def test_a_reader_sees_the_end_of_the_ttl(desk: Desk) -> None:
    """Without any worker: who reads it first writes it down."""
    task = await desk.submit(ttl_ms=1_000)
    assert (await desk.tasks.get(task.id)).state is TaskState.PENDING
    desk.time_shift_ms = 1_000
    seen = await asyncio.gather(*(desk.tasks.get(task.id) for _ in range(5)))
    assert {t.state for t in seen} == {TaskState.FAILED}
    assert len({t.revision for t in seen}) == 1
    assert seen[0].error is not None
    assert seen[0].error.reason is Reason.TASK_EXPIRED
    finished = desk.metrics.registry.get_sample_value("imagegen_tasks_finished_total", {"outcome": "FAILED"})
    assert finished == 1

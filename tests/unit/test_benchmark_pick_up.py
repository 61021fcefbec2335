"""Pick-up samples: what is counted, what is not, and when they end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import pick_up
from benchmarks.pick_up import NotPickedUp, pick_ups
from benchmarks.stamps import StampFile


@pytest.fixture
def stamps(tmp_path: Path) -> Iterator[StampFile]:
    file = StampFile(tmp_path / "stamps")
    yield file
    file.close()


async def test_first_tasks_are_left_out_and_an_eager_worker_is_below_zero(
    tmp_path: Path, stamps: StampFile
) -> None:
    submitted = 0

    async def entered_before_it_returns() -> None:
        nonlocal submitted
        submitted += 1
        stamps.stamp()

    found = await pick_ups(entered_before_it_returns, tmp_path / "stamps", samples=5, seconds=60)
    assert len(found) == 5
    assert submitted == 5 + pick_up.WARM_UP
    assert all(one.since_return_ns <= 0 <= one.since_call_ns for one in found)


async def test_when_the_time_is_over_one_sample_is_there(tmp_path: Path, stamps: StampFile) -> None:
    async def submit() -> None:
        stamps.stamp()

    assert len(await pick_ups(submit, tmp_path / "stamps", samples=100, seconds=0.0)) == 1


async def test_a_task_that_nobody_enters_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick_up, "TASK_TIMEOUT_S", 0.01)

    async def submit() -> None:
        """Lost."""

    with pytest.raises(NotPickedUp):
        await pick_ups(submit, tmp_path / "stamps", samples=1, seconds=60)

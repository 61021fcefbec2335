"""What a worker does with a claimed task before it calls anybody: the store decides."""

from __future__ import annotations

import pytest

from server.domain.errors import Reason
from server.domain.task import AttemptOutcome, Counts, TaskState
from tests.integration.worker.bench import Bench
from tests.integration.worker.scripted import ScriptedProvider, makes_all


async def test_a_task_that_expired_in_the_queue_ends_without_a_call(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    accepted = await bench.accept(ttl_ms=1_000)
    bench.time_shift_ms = 1_000
    task = await bench.run(bench.execution(provider))
    assert (task.state, task.attempt, provider.calls) == (TaskState.FAILED, 0, [])
    assert task.error is not None
    assert task.error.reason is Reason.TASK_EXPIRED
    assert await bench.place(accepted.id) == "gone"


@pytest.mark.parametrize("ttl_ms", [1_000, 3_600_000])
async def test_a_cancelled_task_ends_without_a_call(bench: Bench, ttl_ms: int) -> None:
    provider = ScriptedProvider(makes_all)
    accepted = await bench.accept(cancel_requested=True, ttl_ms=ttl_ms)
    bench.time_shift_ms = 1_000
    task = await bench.run(bench.execution(provider))
    assert (task.state, task.attempt, provider.calls) == (TaskState.CANCELLED, 0, [])
    assert await bench.place(accepted.id) == "gone"
    assert bench.finished(TaskState.CANCELLED) == 1


async def test_a_task_that_is_over_leaves_the_queue(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    accepted = await bench.accept(state=TaskState.COMPLETED)
    before = await bench.task(accepted.id)
    assert await bench.run(bench.execution(provider)) == before
    assert await bench.place(accepted.id) == "gone"
    assert provider.calls == []


async def test_a_provider_this_worker_does_not_have_is_left_to_others(bench: Bench) -> None:
    accepted = await bench.accept(provider="ark")
    task = await bench.run(bench.execution(ScriptedProvider(makes_all)))
    assert (task.state, task.attempt) == (TaskState.PENDING, 0)
    assert await bench.place(accepted.id) == "delayed"


async def test_a_worker_that_may_not_call_gives_the_task_back_unmarked(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    accepted = await bench.accept()
    task = await bench.run(bench.execution(provider), may_call=lambda: False)
    assert (task.state, task.attempt, provider.calls) == (TaskState.PENDING, 0, [])
    assert await bench.place(accepted.id) == "ready"


async def test_a_worker_that_may_not_call_any_more_sends_nothing(bench: Bench) -> None:
    """The mark took too long: the beat is stale, and a successor may be on its way."""
    provider = ScriptedProvider(makes_all, paid=True)
    accepted = await bench.accept(max_paid_attempts=1)
    answers = iter([True, False])
    task = await bench.run(bench.execution(provider), may_call=lambda: next(answers))
    assert (task.state, task.attempt, provider.calls) == (TaskState.PENDING, 1, [])
    assert (task.attempts[1].outcome, task.attempts[1].calls) == (AttemptOutcome.NOT_SENT, {})
    assert task.counts == Counts()
    assert await bench.place(accepted.id) == "ready"
    assert (await bench.run(bench.execution(provider))).state is TaskState.COMPLETED

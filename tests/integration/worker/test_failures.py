"""Calls that fail: what is tried again, when, how often, and what is kept of them."""

from __future__ import annotations

import asyncio

import pytest

from server.domain.errors import Reason, TaskError
from server.domain.task import AttemptOutcome, Counts, TaskState
from server.providers.contract import Generation, Progress, Sent
from tests.integration.worker.bench import Bench
from tests.integration.worker.scripted import (
    ScriptedProvider,
    made,
    makes,
    makes_all,
    raises,
    refusal,
    waits_for,
)


async def test_a_retryable_failure_waits_and_is_done(bench: Bench) -> None:
    provider = ScriptedProvider(raises(refusal(retry_after_s=0.05)), makes_all)
    execution = bench.execution(provider)
    accepted = await bench.accept()
    task = await bench.run(execution)
    assert (task.state, task.counts) == (TaskState.PENDING, Counts(errors=1))
    assert (task.attempts[1].outcome, task.attempts[1].calls) == (AttemptOutcome.REJECTED, {})
    assert await bench.place(accepted.id) == "delayed"
    assert bench.attempts("REJECTED") == 1
    assert (
        bench.count("imagegen_attempt_failures_total", provider="local", reason="PROVIDER_UNAVAILABLE") == 1
    )

    task = await bench.run(execution)
    assert (task.state, task.attempt, sorted(task.attempts)) == (TaskState.COMPLETED, 2, [1, 2])
    assert task.start_time_ms == task.attempts[1].start_time_ms
    assert task.attempts[2].start_time_ms >= task.attempts[1].end_time_ms + 50
    assert len(provider.calls) == 2
    assert bench.count("imagegen_task_wait_seconds_count") == 1, "the first attempt only"


async def test_a_retry_is_not_before_its_time(bench: Bench) -> None:
    """Whatever the queue thinks: the store's time holds."""
    provider = ScriptedProvider(makes_all)
    accepted = await bench.accept(not_before_ms=bench.now_ms() + 60_000)
    task = await bench.run(bench.execution(provider))
    assert (task.state, task.attempt, provider.calls) == (TaskState.PENDING, 0, [])
    assert await bench.place(accepted.id) == "delayed"
    assert 55_000 < await bench.due_in_ms(accepted.id) <= 60_000


async def test_the_backoff_is_within_its_ceiling(bench: Bench) -> None:
    accepted = await bench.accept()
    execution = bench.execution(ScriptedProvider(raises(refusal(retry_after_s=None))))
    task = await bench.run(execution)
    assert 0 <= task.not_before_ms - task.attempts[1].end_time_ms < 500 or task.not_before_ms == 0
    assert await bench.place(accepted.id) in ("delayed", "ready")


async def test_retries_end(bench: Bench) -> None:
    provider = ScriptedProvider(raises(refusal()))
    execution = bench.execution(provider, max_retries=2)
    accepted = await bench.accept()
    for _ in range(2):
        assert (await bench.run(execution)).state is TaskState.PENDING
    task = await bench.run(execution)
    assert task.state is TaskState.FAILED
    assert task.error == TaskError(
        reason=Reason.PROVIDER_UNAVAILABLE, message="It did not work.", retryable=True
    )
    assert len(provider.calls) == 3
    assert await bench.place(accepted.id) == "gone"


@pytest.mark.parametrize("sent", [Sent.NOT_SENT, Sent.REJECTED])
async def test_what_is_not_retryable_ends_at_once(bench: Bench, sent: Sent) -> None:
    provider = ScriptedProvider(
        raises(refusal(sent=sent, reason=Reason.CONTENT_POLICY_INPUT, retryable=False))
    )
    accepted = await bench.accept()
    task = await bench.run(bench.execution(provider))
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert task.error.reason is Reason.CONTENT_POLICY_INPUT
    assert task.attempts[1].error == task.error
    assert await bench.place(accepted.id) == "gone"
    assert bench.finished(TaskState.FAILED) == 1


async def test_want_of_capacity_is_a_wait_and_no_error(bench: Bench) -> None:
    busy = refusal(reason=Reason.RATE_LIMITED, no_capacity=True)
    provider = ScriptedProvider(*[raises(busy)] * 6, makes_all)
    execution = bench.execution(provider, max_retries=0)
    await bench.accept(max_paid_attempts=1)
    for waits in range(1, 7):
        task = await bench.run(execution)
        assert (task.state, task.counts) == (TaskState.PENDING, Counts(waits=waits))
    assert (await bench.run(execution)).state is TaskState.COMPLETED


async def test_the_provider_has_its_time_and_no_more(bench: Bench) -> None:
    provider = ScriptedProvider(waits_for(asyncio.Event()))
    await bench.accept()
    task = await bench.run(bench.execution(provider, image_timeout_s=0.05, max_retries=0))
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert task.error.reason is Reason.PROVIDER_TIMEOUT
    assert "0.05 s" in task.error.message
    assert task.attempts[1].outcome is AttemptOutcome.IN_DOUBT
    assert provider.running == 0, "the call was cancelled"


async def test_a_provider_that_hangs_after_an_image_has_no_more_time_for_it(bench: Bench) -> None:
    async def script(generation: Generation, progress: Progress) -> None:
        await progress(made(0))
        await asyncio.Event().wait()

    await bench.accept(images=2)
    task = await bench.run(bench.execution(ScriptedProvider(script), image_timeout_s=0.3))
    assert (task.state, sorted(task.images)) == (TaskState.PENDING, [0])
    assert task.attempts[1].error is not None
    assert task.attempts[1].error.reason is Reason.PROVIDER_TIMEOUT


async def test_a_bug_is_told_without_its_text(bench: Bench) -> None:
    await bench.accept()
    provider = ScriptedProvider(raises(KeyError("a password")))
    task = await bench.run(bench.execution(provider, max_retries=0))
    assert task.error is not None
    assert task.error.reason is Reason.INTERNAL_ERROR
    assert "password" not in task.error.message
    assert task.attempts[1].outcome is AttemptOutcome.IN_DOUBT


async def test_bytes_that_are_no_picture_are_a_failure(bench: Bench) -> None:
    provider = ScriptedProvider(makes(0, data=b"<html>sorry</html>"), makes_all)
    execution = bench.execution(provider)
    await bench.accept()
    task = await bench.run(execution)
    assert (task.state, task.images, task.counts) == (TaskState.PENDING, {}, Counts(errors=1))
    assert task.attempts[1].error is not None
    assert task.attempts[1].error.reason is Reason.OUTPUT_FETCH_FAILED
    assert "cannot be decoded" in task.attempts[1].error.message
    assert (await bench.run(execution)).state is TaskState.COMPLETED


async def test_a_failure_keeps_the_images_that_came_before(bench: Bench) -> None:
    """The next attempt asks for the missing ones only."""
    provider = ScriptedProvider(makes(0, 2, then=refusal()), makes_all)
    execution = bench.execution(provider)
    await bench.accept(images=3)
    task = await bench.run(execution)
    assert (task.state, sorted(task.images)) == (TaskState.PENDING, [0, 2])
    task = await bench.run(execution)
    assert (task.state, sorted(task.images)) == (TaskState.COMPLETED, [0, 1, 2])
    assert [call.indexes for call in provider.calls] == [(0, 1, 2), (1,)]
    assert {image.key.split("/")[1] for i, image in task.images.items() if i != 1} == {"1"}
    assert task.images[1].key.split("/")[1] == "2", "a key names the attempt that made it"


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("failure", [refusal(), refusal(sent=Sent.IN_DOUBT), KeyError("bug")], ids=repr)
async def test_a_call_that_fails_after_the_last_image_has_not_failed(
    bench: Bench, images: int, failure: Exception
) -> None:
    """What was received is neither dropped nor bought again."""
    provider = ScriptedProvider(makes(*range(images), then=failure), paid=True)
    await bench.accept(images=images, max_paid_attempts=1)
    task = await bench.run(bench.execution(provider))
    assert (task.state, sorted(task.images)) == (TaskState.COMPLETED, list(range(images)))
    assert task.attempts[1].outcome is AttemptOutcome.SUCCEEDED
    assert task.attempts[1].paid
    for image in task.images.values():
        assert await bench.outputs.get(image.key) is not None

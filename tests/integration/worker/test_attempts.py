"""An attempt from claim to end: what is asked of the provider, and what becomes of each answer."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest

from server.domain.errors import Reason, TaskError
from server.domain.request import ImageRequest, Reference, ReferenceKind
from server.domain.task import AttemptOutcome, CallState, Counts, TaskState
from server.providers.contract import Generated, Generation, Progress, Sent
from server.store.outputs import reference_key
from tests.fakes_store import make_task
from tests.integration.worker.bench import ME, Bench
from tests.integration.worker.scripted import (
    ScriptedProvider,
    made,
    makes,
    makes_all,
    makes_all_but,
    picture,
    raises,
    refusal,
    waits_for,
)
from tests.waiting import until

# --- success -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_leaked_keys")
async def test_a_task_is_made_kept_and_done(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    accepted = await bench.accept()
    task = await bench.run(bench.execution(provider))

    assert (task.state, task.error, task.attempt, task.owner) == (TaskState.COMPLETED, None, 1, ME)
    image = task.images[0]
    assert (image.width_px, image.height_px, image.mime_type) == (64, 48, "image/png")
    assert (image.size_bytes, image.sha256) == (len(picture()), hashlib.sha256(picture()).hexdigest())
    stored = await bench.outputs.get(image.key)
    assert stored is not None
    assert (stored.data, stored.mime_type) == (picture(), "image/png")

    attempt = task.attempts[1]
    assert (attempt.provider, attempt.worker, attempt.outcome) == ("local", ME, AttemptOutcome.SUCCEEDED)
    assert task.create_time_ms <= task.start_time_ms == attempt.start_time_ms == attempt.sent_time_ms
    assert attempt.start_time_ms <= attempt.end_time_ms == task.end_time_ms == task.update_time_ms
    assert attempt.calls[0].state is CallState.DONE
    assert await bench.place(accepted.id) == "gone"

    [asked] = provider.calls
    assert asked == Generation(
        task_id=accepted.id,
        upstream_model="local-canvas-at-local",
        request=accepted.request,
        references=(),
        indexes=(0,),
    )
    assert bench.finished(TaskState.COMPLETED) == 1
    assert bench.attempts("SUCCEEDED") == 1
    assert bench.count("imagegen_task_wait_seconds_count") == 1
    assert bench.count("imagegen_task_duration_seconds_count") == 1
    assert bench.count("imagegen_provider_request_duration_seconds_count", provider="local") == 1


async def test_every_image_of_a_sequence_is_seen_as_it_comes(bench: Bench) -> None:
    seen: list[list[int]] = []

    async def script(generation: Generation, progress: Progress) -> Generated:
        for index in (2, 0, 1):
            await progress(made(index))
            seen.append(sorted((await bench.task(generation.task_id)).images))
        return Generated()

    await bench.accept(images=3)
    task = await bench.run(bench.execution(ScriptedProvider(script)))
    assert seen == [[2], [0, 2], [0, 1, 2]]
    assert task.state is TaskState.COMPLETED
    assert {index: image.seed for index, image in task.images.items()} == {0: 0, 1: 1, 2: 2}
    assert len({image.key for image in task.images.values()}) == 3


async def test_several_images_may_come_at_once(bench: Bench) -> None:
    """The time a provider has goes on afterwards: keeping images does not use it up, nor end it."""

    go_on = bench.output_faults.gates["put"] = asyncio.Event()

    async def handed_over(progress: Progress, index: int) -> None:
        await progress(made(index))

    async def script(generation: Generation, progress: Progress) -> Generated:
        async with asyncio.TaskGroup() as group:
            for index in generation.indexes[:-1]:
                group.create_task(handed_over(progress, index))
            await until(lambda: bench.output_faults.calls["put"], within_s=5)
            await asyncio.sleep(0.03)  # whatever else can begin has begun
            go_on.set()
        await asyncio.sleep(0.01)
        await progress(made(generation.indexes[-1]))
        return Generated()

    await bench.accept(images=9)
    task = await bench.run(bench.execution(ScriptedProvider(script)))
    assert task.state is TaskState.COMPLETED
    assert (task.attempt, sorted(task.images)) == (1, [*range(9)])


async def test_a_sequence_counts_every_image_on_its_own(bench: Bench) -> None:
    await bench.accept(images=4)
    task = await bench.run(bench.execution(ScriptedProvider(makes_all_but(1, 3))))
    assert (task.state, task.error) == (TaskState.COMPLETED, None)
    assert sorted(task.images) == [0, 2]
    assert {i: f.reason for i, f in task.failures.items()} == {
        1: Reason.CONTENT_POLICY_OUTPUT,
        3: Reason.CONTENT_POLICY_OUTPUT,
    }
    assert task.attempts[1].outcome is AttemptOutcome.SUCCEEDED


async def test_a_sequence_may_have_fewer_images_than_asked_for(bench: Bench) -> None:
    await bench.accept(images=4)
    task = await bench.run(bench.execution(ScriptedProvider(makes(0, 1))))
    assert (task.state, sorted(task.images), task.failures) == (TaskState.COMPLETED, [0, 1], {})


async def test_a_sequence_without_any_image_fails(bench: Bench) -> None:
    await bench.accept(images=2)
    task = await bench.run(bench.execution(ScriptedProvider(makes_all_but(0, 1), paid=True)))
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert task.error.reason is Reason.CONTENT_POLICY_OUTPUT
    assert task.attempts[1].outcome is AttemptOutcome.REJECTED
    assert not task.attempts[1].paid, "a refusal is not charged"
    assert bench.attempts("REJECTED") == 1
    assert bench.attempts("SUCCEEDED") == 0


async def test_an_answer_without_images_and_without_reason_fails(bench: Bench) -> None:
    await bench.accept()
    task = await bench.run(bench.execution(ScriptedProvider(makes())))
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert (task.error.reason, task.error.retryable) == (Reason.PROVIDER_REJECTED, True)


# --- references --------------------------------------------------------------------------------------


def request_with(*references: Reference) -> ImageRequest:
    return replace(make_task("any").request, references=references)


async def test_stored_references_are_given_as_bytes(bench: Bench) -> None:
    keys = [reference_key(hashlib.sha256(data).hexdigest()) for data in (b"one", b"two")]
    for key, data in zip(keys, (b"one", b"two"), strict=True):
        await bench.outputs.put(key, data, mime_type="application/octet-stream")
    references = [Reference(kind=ReferenceKind.STORED, value=key) for key in reversed(keys)]
    link = Reference(kind=ReferenceKind.URL, value="http://example.com/cat.png")
    provider = ScriptedProvider(makes_all)
    await bench.accept(request=request_with(references[0], link, references[1]))
    await bench.run(bench.execution(provider))
    assert provider.calls[0].references == (b"two", b"one"), "links are left to the provider"


async def test_a_reference_that_is_gone_ends_the_task_before_a_call(bench: Bench) -> None:
    gone = Reference(kind=ReferenceKind.STORED, value=reference_key("0" * 64))
    provider = ScriptedProvider(makes_all, paid=True)
    await bench.accept(request=request_with(gone))
    task = await bench.run(bench.execution(provider))
    assert provider.calls == []
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert (task.error.reason, task.error.retryable) == (Reason.REFERENCE_UNAVAILABLE, False)
    assert task.attempts == {}, "nothing was marked"


# --- failures ----------------------------------------------------------------------------------------


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
    async def script(generation: Generation, progress: Progress) -> Generated:
        await progress(made(0))
        await asyncio.Event().wait()
        return Generated()

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
    assert task.attempts[1].error.reason is Reason.PROVIDER_REJECTED
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

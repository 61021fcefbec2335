"""An attempt from claim to end: what is asked of the provider, and what becomes of each answer."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from msgspec.structs import replace

from server.domain.catalogue import Parameters
from server.domain.errors import Reason, TaskError
from server.domain.request import ImageRequest, OutputFormat
from server.domain.task import AttemptOutcome, CallState, TaskState
from server.providers.contract import Generation, ImageFailed, Progress
from server.store.outputs import reference_key
from tests.fakes_store import make_task
from tests.integration.worker.bench import ME, WHOLE_SEQUENCES, Bench
from tests.integration.worker.scripted import (
    ScriptedProvider,
    made,
    makes,
    makes_all,
    makes_all_but,
    picture,
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
        parameters=WHOLE_SEQUENCES,
        request=accepted.request,
        references=(),
        indexes=(0,),
    )
    assert bench.finished(TaskState.COMPLETED) == 1
    assert bench.attempts("SUCCEEDED") == 1
    assert bench.count("imagegen_task_wait_seconds_count") == 1
    assert bench.count("imagegen_task_duration_seconds_count") == 1
    assert bench.count("imagegen_provider_request_duration_seconds_count", provider="local") == 1


async def test_a_model_without_groups_is_asked_for_one_image_at_a_time(bench: Bench) -> None:
    provider = ScriptedProvider(makes_all)
    assert provider.groups
    await bench.accept(images=3)
    takes = Parameters(seed=True, output_formats=(OutputFormat.PNG,))
    task = await bench.run(bench.execution(provider, parameters=takes))
    assert (task.state, sorted(task.images)) == (TaskState.COMPLETED, [0, 1, 2])
    assert [call.indexes for call in provider.calls] == [(0,), (1,), (2,)]
    assert {call.parameters for call in provider.calls} == {takes}


async def test_every_image_of_a_sequence_is_seen_as_it_comes(bench: Bench) -> None:
    seen: list[list[int]] = []

    async def script(generation: Generation, progress: Progress) -> None:
        for index in (2, 0, 1):
            await progress(made(index))
            seen.append(sorted((await bench.task(generation.task_id)).images))

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

    async def script(generation: Generation, progress: Progress) -> None:
        async with asyncio.TaskGroup() as group:
            for index in generation.indexes[:-1]:
                group.create_task(handed_over(progress, index))
            await until(lambda: bench.output_faults.calls["put"], within_s=5)
            go_on.set()  # all were handed over before the first was verified
        kept = (await bench.task(accepted.id)).images  # a time that is over would end the attempt here
        assert sorted(kept) == [*range(8)]
        await progress(made(generation.indexes[-1]))

    accepted = await bench.accept(images=9)
    task = await bench.run(bench.execution(ScriptedProvider(script)))
    assert task.state is TaskState.COMPLETED
    assert (task.attempt, sorted(task.images)) == (1, [*range(9)])


async def test_a_refused_image_of_a_sequence_is_seen_while_the_others_are_made(bench: Bench) -> None:
    others = asyncio.Event()

    async def script(generation: Generation, progress: Progress) -> None:
        error = TaskError(reason=Reason.CONTENT_POLICY_OUTPUT, message="This image was refused.")
        await progress(ImageFailed(index=1, error=error))
        seen.append(bench.queue_faults.done["announce"])
        await others.wait()
        await progress(made(0))

    seen: list[int] = []
    accepted = await bench.accept(images=2)
    work = bench.start(bench.execution(ScriptedProvider(script)), await bench.claim())
    await until(lambda: seen, within_s=5)
    task = await bench.task(accepted.id)
    assert (task.state, list(task.failures), seen) == (TaskState.PROCESSING, [1], [1]), "and it is announced"
    others.set()
    await work
    task = await bench.task(accepted.id)
    assert (task.state, list(task.images), list(task.failures)) == (TaskState.COMPLETED, [0], [1])


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


def request_with(*references: str) -> ImageRequest:
    return replace(make_task("any").request, references=references)


async def test_stored_references_are_given_as_bytes(bench: Bench) -> None:
    keys = [reference_key(hashlib.sha256(data).hexdigest()) for data in (b"one", b"two")]
    for key, data in zip(keys, (b"one", b"two"), strict=True):
        await bench.outputs.put(key, data, mime_type="application/octet-stream")
    provider = ScriptedProvider(makes_all)
    await bench.accept(request=request_with(*reversed(keys)))
    await bench.run(bench.execution(provider))
    assert provider.calls[0].references == (b"two", b"one")


async def test_a_reference_that_is_gone_ends_the_task_before_a_call(bench: Bench) -> None:
    gone = reference_key("0" * 64)
    provider = ScriptedProvider(makes_all, paid=True)
    await bench.accept(request=request_with(gone))
    task = await bench.run(bench.execution(provider))
    assert provider.calls == []
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert (task.error.reason, task.error.retryable) == (Reason.REFERENCE_UNAVAILABLE, False)
    assert task.attempts == {}, "nothing was marked"

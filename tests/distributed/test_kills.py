"""What survives a kill -9: every accepted task."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterable

import pytest
from image.v1 import image_service_pb2
from task.v1 import attempt_pb2, error_reason_pb2, image_pb2, task_pb2, task_service_pb2

from tests.stack import Calls, ServiceProcess, calling, no_leaked_keys, running_stack
from tests.waiting import until, until_async


async def read(calls: Calls, task_id: str) -> task_pb2.Task:
    """The task as it stands."""
    return (await calls.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=task_id))).task


async def started(calls: Calls, task_id: str) -> task_pb2.Task:
    """The task once a worker has it."""

    async def processing() -> task_pb2.Task | None:
        task = await read(calls, task_id)
        return task if task.state == task_pb2.TASK_STATE_PROCESSING else None

    task = await until_async(processing, within_s=20, what="a worker's claim")
    assert task is not None
    return task


def slow_request(name: str, images: int = 6) -> image_service_pb2.GenerateSequentialImagesRequest:
    """A task of a second or more."""
    return image_service_pb2.GenerateSequentialImagesRequest(
        prompt=name, model="local-canvas", size="512x512", max_images=images
    )


def the_one_at_work(workers: Iterable[ServiceProcess], task: task_pb2.Task) -> ServiceProcess:
    """The process that runs the task's last attempt, by the id under which it says it registered."""
    says = f'"worker":"{task.attempts[-1].worker}"'
    (found,) = (
        worker
        for worker in workers
        if any(says in line and "worker registered" in line for line in worker.log().splitlines())
    )
    return found


def place(image: image_pb2.Image) -> tuple[str, str]:
    """Where the image is kept, and what it is: links to it are new from minute to minute."""
    return image.url.partition("?")[0], image.sha256


async def frozen(calls: Calls, worker: ServiceProcess, task_id: str) -> task_pb2.Task:
    """Stop the worker in mid-air; the task as it then stays: under way, and not done.

    However busy the machine is: the task of a frozen worker cannot end before the test's next step.
    """
    worker.signal(signal.SIGSTOP)
    task = await read(calls, task_id)
    assert task.state == task_pb2.TASK_STATE_PROCESSING
    assert task.progress.images_done < task.progress.images_wanted
    return task


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_a_killed_workers_task_is_done_by_another_on_an_idle_queue() -> None:
    with running_stack() as stack:  # the default lease of 15 s
        api = stack.start("api")
        workers = [stack.start("worker") for _ in range(2)]
        async with calling(api) as calls:
            request = slow_request("killed in mid-task", images=8)
            accepted = await calls.images.GenerateSequentialImagesAsync(request)

            async def some_images() -> task_pb2.Task | None:
                task = await read(calls, accepted.task_id)
                return task if task.progress.images_done else None

            begun = await until_async(some_images, within_s=20, what="a first image")
            assert begun is not None
            victim = the_one_at_work(workers, begun)
            (successor,) = (worker for worker in workers if worker is not victim)
            before = await frozen(calls, victim, accepted.task_id)
            victim.kill()
            killed = time.monotonic()

            async def resumed() -> bool:
                return len((await read(calls, accepted.task_id)).attempts) == 2

            await until_async(resumed, within_s=30, what="the successor's claim")
            assert time.monotonic() - killed <= 30
            task = await calls.ended(accepted.task_id)
        assert task.state == task_pb2.TASK_STATE_COMPLETED
        assert len(task.image.images) == 8
        lost, won = task.attempts
        assert lost.worker == before.attempts[0].worker != won.worker
        assert lost.outcome == attempt_pb2.ATTEMPT_OUTCOME_IN_DOUBT
        assert lost.error.reason == error_reason_pb2.ERROR_REASON_WORKER_LOST
        assert won.outcome == attempt_pb2.ATTEMPT_OUTCOME_SUCCEEDED
        # What was stored before the kill was not made again; what was not has been.
        after = {image.index: place(image) for image in task.image.images}
        assert [after[image.index] for image in before.image.images] == list(map(place, before.image.images))
        assert {image.url.rsplit("/", 2)[-2] for image in task.image.images} == {"1", "2"}
        assert successor.running()
        await no_leaked_keys(stack)


@pytest.mark.timeout(120)
async def test_a_stopped_worker_finishes_what_it_holds() -> None:
    with running_stack(SHUTDOWN_GRACE_SECONDS="60") as stack:
        api, worker = stack.start("api"), stack.start("worker")
        async with calling(api) as calls:
            accepted = await calls.images.GenerateSequentialImagesAsync(slow_request("drained"))
            await started(calls, accepted.task_id)
            await frozen(calls, worker, accepted.task_id)
            worker.signal(signal.SIGTERM)
            worker.signal(signal.SIGCONT)
            assert worker.wait(60) == 0
            task = await read(calls, accepted.task_id)
        assert task.state == task_pb2.TASK_STATE_COMPLETED
        assert len(task.attempts) == 1
        await no_leaked_keys(stack)


@pytest.mark.timeout(120)
async def test_a_worker_whose_grace_is_over_gives_its_unpaid_task_back_at_once() -> None:
    with running_stack() as stack:
        api, worker = stack.start("api"), stack.start("worker", SHUTDOWN_GRACE_SECONDS="0.2")
        async with calling(api) as calls:
            accepted = await calls.images.GenerateSequentialImagesAsync(slow_request("given back", images=8))
            await started(calls, accepted.task_id)
            await frozen(calls, worker, accepted.task_id)
            worker.signal(signal.SIGTERM)
            worker.signal(signal.SIGCONT)
            assert worker.wait(20) == 0
            task = await read(calls, accepted.task_id)
            assert task.state == task_pb2.TASK_STATE_PENDING
            # On a fast machine the provider has delivered an image or two before: that call was sent.
            sent = attempt_pb2.ATTEMPT_OUTCOME_IN_DOUBT if task.image.images else None
            assert task.attempts[0].outcome == (sent or attempt_pb2.ATTEMPT_OUTCOME_NOT_SENT)
            stack.start("worker")
            task = await calls.ended(accepted.task_id)  # without waiting for any lease to expire
        assert task.state == task_pb2.TASK_STATE_COMPLETED
        await no_leaked_keys(stack)


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize("redis", ["up", "away"])
async def test_a_killed_api_loses_no_acknowledged_task(redis: str) -> None:
    """With Redis away the queue never hears of them: only the sweep can bring them back from the store."""
    with running_stack() as stack:
        api = stack.start("api")
        if redis == "away":
            stack.redis.kill()
        request = image_service_pb2.GenerateImageRequest(
            prompt="a desert at noon, acknowledged", model="local-canvas", size="64x64"
        )
        async with calling(api) as calls:
            ids = [(await calls.images.GenerateImageAsync(request)).task_id for _ in range(50)]
            api.kill()
        if redis == "away":
            stack.redis.start()
        api = stack.start("api")
        stack.start("worker")
        async with calling(api) as calls:
            for task_id in ids:
                task = await calls.ended(task_id)
                assert task.state == task_pb2.TASK_STATE_COMPLETED
                assert len(task.attempts) == 1
        await no_leaked_keys(stack)


def children_of(pid: int) -> list[int]:
    """The process ids of its children."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as file:
                    if int(file.read().rpartition(")")[2].split()[1]) == pid:
                        found.append(int(entry))
            except OSError:
                continue
    return found


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_the_embedded_stack_killed_whole_goes_on_with_its_tasks_at_the_next_start() -> None:
    with running_stack(LEASE_SECONDS="2", REDIS_URL="", STORE_URL="") as stack:
        first = stack.start("all")
        children = children_of(first.pid)
        assert len(children) == 3  # Redis, api, worker
        async with calling(first) as calls:
            requests = [slow_request(f"embedded {n}", images=4) for n in range(3)]
            ids = [(await calls.images.GenerateSequentialImagesAsync(r)).task_id for r in requests]
            await started(calls, ids[0])
            first.kill()
        await until(
            lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children),
            within_s=10,
            what="the end of all children",
        )
        second = stack.start("all")
        async with calling(second) as calls:
            for task_id in ids:
                task = await calls.ended(task_id, timeout_s=90)
                assert task.state == task_pb2.TASK_STATE_COMPLETED
                assert len(task.image.images) == 4
        assert second.stop() == 0


@pytest.mark.timeout(120)
async def test_a_dead_part_of_the_embedded_stack_is_started_again() -> None:
    with running_stack(LEASE_SECONDS="1", REDIS_URL="", STORE_URL="") as stack:
        service = stack.start("all")
        for part in random.sample(["worker", "api", "redis"], 3):
            before = set(children_of(service.pid))
            os.kill(next(pid for pid in before if _role(pid) == part), signal.SIGKILL)
            await until(
                lambda part=part, before=before: any(  # type: ignore[misc]
                    _role(pid) == part for pid in set(children_of(service.pid)) - before
                ),
                within_s=20,
                what=f"a new {part}",
            )
            async with calling(service) as calls:
                request = image_service_pb2.GenerateImageRequest(
                    prompt=f"after the {part}", model="local-canvas", size="64x64"
                )
                answer = await calls.images.GenerateImage(request, timeout=30, wait_for_ready=True)
            assert len(answer.images) == 1
        assert _stopped_in_order(service)


def _role(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().decode(errors="replace").split("\0")
    except OSError:
        return ""
    if "redis-server" in words[0]:
        return "redis"
    return words[words.index("server") + 1] if "server" in words else ""


def _stopped_in_order(service: ServiceProcess) -> bool:
    return service.stop() == 0 and "did not stop within" not in service.log()

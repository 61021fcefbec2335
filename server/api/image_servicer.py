"""image.v1.ImageService: one short method per rpc."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio
from image.v1 import image_service_pb2 as pb
from image.v1 import image_service_pb2_grpc

from server.api import convert
from server.api.acceptance import about
from server.api.answers import Answers
from server.api.deadlines import seconds_to_answer
from server.api.interceptors import caller
from server.domain.errors import StoreUnavailable, TaskNotFound, WaitExpired
from server.domain.task import Task, TaskState, TaskType
from server.health import Health
from server.ports import OutputStore
from server.service.references import LINKS_S
from server.service.submits import Submission, Submits
from server.service.tasks import Tasks

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

MAX_ANSWER_BYTES = 3 * 1024 * 1024
"""With image bytes in it, an answer stays below this: default clients refuse messages above 4 MiB."""
HASH_OFF_LOOP_BYTES = 256 * 1024
STREAM_HEARTBEAT_S = 15.0


class ImageServicer(image_service_pb2_grpc.ImageServiceServicer):
    """Makes pictures."""

    def __init__(
        self,
        *,
        submits: Submits,
        tasks: Tasks,
        outputs: OutputStore,
        health: Health,
        mint: convert.Mint,
        answers: Answers,
        sync_wait_max_s: float,
    ) -> None:
        self._submits = submits
        self._tasks = tasks
        self._outputs = outputs
        self._health = health
        self._mint = mint
        self._answers = answers
        self._sync_wait_max_s = sync_wait_max_s

    async def GenerateImage(  # noqa: N802
        self, request: pb.GenerateImageRequest, context: Context
    ) -> pb.GenerateImageResponse:
        return await self._generate(request, context)

    async def GenerateSequentialImages(  # noqa: N802
        self, request: pb.GenerateSequentialImagesRequest, context: Context
    ) -> pb.GenerateImageResponse:
        return await self._generate(request, context)

    async def GenerateImageAsync(  # noqa: N802
        self, request: pb.GenerateImageRequest, context: Context
    ) -> pb.GenerateImageAsyncResponse:
        return convert.accepted(await self._submit(request, context))

    async def GenerateSequentialImagesAsync(  # noqa: N802
        self, request: pb.GenerateSequentialImagesRequest, context: Context
    ) -> pb.GenerateImageAsyncResponse:
        return convert.accepted(await self._submit(request, context))

    async def StreamSequentialImages(  # noqa: N802
        self, request: pb.GenerateSequentialImagesRequest, context: Context
    ) -> AsyncIterator[pb.StreamSequentialImagesResponse]:
        task = await self._submit(request, context)
        with about(task):
            yield pb.StreamSequentialImagesResponse(task_id=task.id)
            sent: set[int] = set()
            begun = False  # and from then on an unchanged task is a heartbeat
            wait_s = seconds_to_answer(context, default_s=self._sync_wait_max_s)
            async for seen in self._tasks.changes(task, timeout_s=wait_s, heartbeat_s=STREAM_HEARTBEAT_S):
                heartbeat = begun and seen.revision == task.revision
                task = seen
                events = _new_events(task, sent, self._mint)
                if heartbeat:
                    events.append(pb.StreamSequentialImagesResponse(progress=convert.progress(task)))
                for event in events:
                    yield event
                begun = True
            if not task.state.terminal:
                raise _wait_expired(task)
            yield pb.StreamSequentialImagesResponse(task=convert.task(task, self._mint))
            if task.state is not TaskState.COMPLETED:
                raise convert.end_error(task)

    async def GetImageTask(  # noqa: N802
        self, request: pb.GetImageTaskRequest, context: Context
    ) -> pb.GetImageTaskResponse:
        task = await self._tasks.get(request.task_id)
        if task.type is not TaskType.IMAGE:
            raise TaskNotFound(
                f"Task {task.id} is not an image task. Read it with task.v1.TaskService.GetTask.",
                metadata={"task_id": task.id},
            )
        return pb.GetImageTaskResponse(task=self._answers.of(task))

    async def HealthCheck(  # noqa: N802
        self, request: pb.HealthCheckRequest, context: Context
    ) -> pb.HealthCheckResponse:
        serving = self._health.ready
        return pb.HealthCheckResponse(
            status=pb.HEALTH_STATUS_SERVING if serving else pb.HEALTH_STATUS_NOT_SERVING
        )

    async def _submit(self, request: convert.SubmitRequest, context: Context) -> Task:
        fingerprint = ""
        if request.request_id:
            if request.ByteSize() > HASH_OFF_LOOP_BYTES:
                fingerprint = await asyncio.to_thread(convert.fingerprint, request)
            else:
                fingerprint = convert.fingerprint(request)
        submission = Submission(
            draft=convert.draft(request),
            caller=caller(context),
            fingerprint=fingerprint,
            links_timeout_s=min(LINKS_S, seconds_to_answer(context, default_s=LINKS_S)),
        )
        return await self._submits.submit(submission)

    async def _generate(self, request: convert.SubmitRequest, context: Context) -> pb.GenerateImageResponse:
        task = await self._submit(request, context)
        loop = asyncio.get_running_loop()
        # One moment for all that follows: the margin of a later one would be a share of less.
        answer_at = loop.time() + seconds_to_answer(context, default_s=self._sync_wait_max_s)
        with about(task):
            if ("early-task-id", "1") in (context.invocation_metadata() or ()):
                # opt-in: initial metadata commits the call and switches the client's retries off
                await context.send_initial_metadata((("task-id", task.id),))
            task = await self._tasks.wait(task, timeout_s=answer_at - loop.time())
            if not task.state.terminal:
                raise _wait_expired(task)
            answer = convert.generated(task, self._mint)
            if request.response_format == pb.RESPONSE_FORMAT_BYTES:
                await self._add_bytes(task, answer, answer_at)
            return answer

    async def _add_bytes(self, task: Task, answer: pb.GenerateImageResponse, answer_at: float) -> None:
        """Fill in the bytes of all images, or of none when the answer would be too large or too late."""
        total = answer.ByteSize() + sum(i.size_bytes for i in answer.images)
        if total > MAX_ANSWER_BYTES:
            answer.data_omitted = True
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(answer_at):
                for image in answer.images:
                    image.data = await self._bytes_of(task.images[image.index].key)
        if not all(image.data for image in answer.images):
            answer.data_omitted = True
            for image in answer.images:
                image.ClearField("data")

    async def _bytes_of(self, key: str) -> bytes:
        """The image's bytes; empty while they cannot be read: the answer's link serves them later."""
        try:
            stored = await self._outputs.get(key)
        except StoreUnavailable:
            return b""
        return stored.data if stored is not None else b""


def _new_events(task: Task, sent: set[int], mint: convert.Mint) -> list[pb.StreamSequentialImagesResponse]:
    events = [
        pb.StreamSequentialImagesResponse(image=convert.image(image, mint))
        for index, image in sorted(task.images.items())
        if index not in sent
    ] + [
        pb.StreamSequentialImagesResponse(failure=failure) for failure in convert.failures(task, besides=sent)
    ]
    sent.update(task.images, task.failures)
    return events


def _wait_expired(task: Task) -> WaitExpired:
    return WaitExpired(
        f"Task {task.id} is not done yet and goes on. Fetch it with task.v1.TaskService.WaitTask.",
        metadata={"state": task.state.value},
        task_id=task.id,
    )

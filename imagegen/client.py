"""The typed asyncio client of the image service."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Literal, Self, Unpack

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue
from image.v1.image_service_pb2 import (
    GenerateImageRequest,
    GenerateImageResponse,
    GenerateSequentialImagesRequest,
    StreamSequentialImagesResponse,
)
from image.v1.image_service_pb2_grpc import ImageServiceStub
from model.v1.model_pb2 import Model
from model.v1.model_service_pb2 import ListModelsRequest
from model.v1.model_service_pb2_grpc import ModelServiceStub
from task.v1.image_pb2 import Image
from task.v1.task_pb2 import Task
from task.v1.task_service_pb2 import CancelTaskRequest, CancelTaskResponse, GetTaskRequest, WaitTaskRequest
from task.v1.task_service_pb2_grpc import TaskServiceStub

from imagegen import sequences
from imagegen.channel import open_channel
from imagegen.download import download
from imagegen.errors import Unavailable, Unreachable, from_rpc
from imagegen.fields import RequestFields, image_request, sequence_request
from imagegen.patience import Patience
from imagegen.tasks import has_ended, state_name, still_running

CALL_TIMEOUT_S = 20.0
"""Deadline of the calls that answer at once, and what a long poll gets on top of its wait, in seconds."""

SLOW_BYTES_PER_S = 100_000
"""What a slow line takes up: a request with large references has so much longer."""

LONGEST_S = 10 * 365 * 86_400.0
"""gRPC takes no deadline that is much further away."""

LONG_POLL_S = 50.0
"""The longest single wait, in seconds: proxies tend to cut what is silent for 60."""


class Health(enum.IntEnum):
    """The answers of the standard health service."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class ImageClient:
    """A connection to the image service; open one and share it.

        async with ImageClient("localhost:8080") as client:
            answer = await client.generate("a lighthouse at dusk", size="2K")
            data = await client.download(answer.images[0])

    Every request carries a request id, a fresh one unless the caller gives its own, and is therefore repeated
    by itself when the connection breaks or the service is briefly away. Answers are the messages of the
    contract. Every method raises `ImageServiceError`, in the shape that says what happened, and TypeError or
    ValueError for what can never be sent; cancelling a call never cancels its task.
    """

    def __init__(
        self,
        target: str = "localhost:8080",
        *,
        timeout_s: float = 300.0,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Create it inside a running event loop; the connection is made by the first call.

        `timeout_s` is how long the waiting methods wait unless they are told otherwise. Without `credentials`
        the connection is plaintext; `grpc.ssl_channel_credentials()` is TLS with the system's root
        certificates.
        """
        self.target = target
        self._timeout_s = timeout_s
        # Whether gRPC repeats a call is decided per channel, so those that must not be repeated have their
        # own.
        self._repeating = open_channel(target, credentials=credentials, retries=True)
        self._once = open_channel(target, credentials=credentials, retries=False)
        self._tasks = TaskServiceStub(self._repeating)
        self._models = ModelServiceStub(self._repeating)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections. Calls still running end with CancelledError; their tasks go on."""
        await self._repeating.close()
        await self._once.close()

    async def generate(
        self,
        prompt: str,
        *,
        timeout_s: float | None = None,
        response_format: Literal["url", "bytes"] = "url",
        **fields: Unpack[RequestFields],
    ) -> GenerateImageResponse:
        """Makes one picture and waits for it. "bytes" puts small pictures into the answer itself.

        Raises StillRunning after `timeout_s`: the task goes on, `wait` follows it. TaskFailed if it ended
        without a picture, and ImageServiceError if that was by a bug of the service (INTERNAL).
        """
        request = image_request(prompt, fields, response_format=response_format)
        with _typed(request_id=request.request_id):
            return await self._images(request.request_id).GenerateImage(
                request, timeout=self._or_default(timeout_s)
            )

    async def generate_sequence(
        self,
        prompt: str,
        *,
        images: int = 4,
        timeout_s: float | None = None,
        response_format: Literal["url", "bytes"] = "url",
        **fields: Unpack[RequestFields],
    ) -> GenerateImageResponse:
        """Makes up to `images` (1-15) pictures that belong together and waits for all of them. One that was
        made is enough; those that failed are in `failures`. Raises as `generate` does.
        """
        request = sequence_request(prompt, images, fields, response_format=response_format)
        with _typed(request_id=request.request_id):
            return await self._images(request.request_id).GenerateSequentialImages(
                request, timeout=self._or_default(timeout_s)
            )

    async def submit(self, prompt: str, *, images: int | None = None, **fields: Unpack[RequestFields]) -> str:
        """Has one picture made, or with `images` a sequence of up to that many, and returns the task's id at
        once."""
        if images is None:
            single = image_request(prompt, fields)
            with _typed(request_id=single.request_id):
                stub, timeout_s = self._images(single.request_id), _time_to_send(single)
                return (await stub.GenerateImageAsync(single, timeout=timeout_s)).task_id
        sequence = sequence_request(prompt, images, fields)
        with _typed(request_id=sequence.request_id):
            stub, timeout_s = self._images(sequence.request_id), _time_to_send(sequence)
            return (await stub.GenerateSequentialImagesAsync(sequence, timeout=timeout_s)).task_id

    async def get(self, task_id: str) -> Task:
        """The task as it stands. Raises NotFound."""
        with _typed(task_id=task_id):
            return (await self._tasks.GetTask(GetTaskRequest(task_id=task_id), timeout=CALL_TIMEOUT_S)).task

    async def cancel(self, task_id: str) -> CancelTaskResponse:
        """Asks for the task's end: the task as it now stands, perhaps still running for a moment, and whether
        a provider may have been asked for something. Raises NotFound, and ImageServiceError with the reason
        TASK_ENDED for a task that is over."""
        request = CancelTaskRequest(task_id=task_id)
        with _typed(task_id=task_id):
            return await self._tasks.CancelTask(request, timeout=CALL_TIMEOUT_S)

    async def wait(self, task_id: str, *, timeout_s: float | None = None) -> Task:
        """The task at its end, however it ended: `result_of` gives its pictures or raises.

        Raises StillRunning after `timeout_s`. A service that does not answer is borne for 30 seconds.
        """
        async for task in self.watch(task_id, timeout_s=timeout_s):
            if has_ended(task):
                return task
        raise still_running(task_id)

    async def watch(
        self, task_id: str, *, timeout_s: float | None = None, interval_s: float = LONG_POLL_S
    ) -> AsyncIterator[Task]:
        """The task as it stands at least every `interval_s` seconds (at most 50), the last time at its end.

        Raises as `wait` does.
        """
        patience = Patience(self._or_default(timeout_s))
        while True:
            wait_s = min(interval_s, LONG_POLL_S, patience.left_s)
            try:
                task = await self._wait_once(task_id, wait_s)
            except (Unavailable, Unreachable) as error:
                await patience.bear(error, silent_s=wait_s)
                continue
            patience.answered()
            yield task
            if has_ended(task):
                return
            if not patience.left_s:
                raise still_running(task_id, state=state_name(task), request_id=task.request_id)

    async def stream_sequence(
        self,
        prompt: str,
        *,
        images: int = 4,
        timeout_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> AsyncIterator[StreamSequentialImagesResponse]:
        """Makes up to `images` (1-15) pictures that belong together and yields what happens: the task id,
        each picture or failure once and as soon as it is stored, progress in between, and the whole task at
        its end.

        A stream that breaks is opened again under the same request id. Raises as `generate` does; a task
        without any picture is yielded before TaskFailed is raised.
        """
        request = sequence_request(prompt, images, fields)
        opened = partial(self._stream_once, request)
        made = sequences.events(opened, request_id=request.request_id, timeout_s=self._or_default(timeout_s))
        async with aclosing(made) as events:
            async for event in events:
                yield event

    async def models(self) -> list[Model]:
        """Every model of the service in its order, those included that are not available now."""
        found: list[Model] = []
        token = ""
        while True:
            request = ListModelsRequest(page_token=token)
            with _typed():
                answer = await self._models.ListModels(request, timeout=CALL_TIMEOUT_S)
            found += answer.models
            token = answer.next_page_token
            if not token:
                return found

    async def health(self) -> Health:
        """What the service says of itself, asked once and without repeats. Raises Unreachable."""
        # A health request is one string and its answer one enum, each in field 1: the layout of the standard
        # wrappers, which spares a dependency for two messages.
        check = self._once.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=Int32Value.FromString,
        )
        with _typed():
            return Health((await check(StringValue(), timeout=CALL_TIMEOUT_S)).value)

    async def download(self, image: Image, *, timeout_s: float = 60.0) -> bytes:
        """The bytes of a picture, checked against its size and SHA-256. Raises DownloadFailed."""
        return await download(image, timeout_s=timeout_s)

    async def _wait_once(self, task_id: str, wait_s: float) -> Task:
        request = WaitTaskRequest(task_id=task_id)
        request.wait.FromTimedelta(timedelta(seconds=wait_s))
        with _typed(task_id=task_id):
            return (await self._tasks.WaitTask(request, timeout=wait_s + CALL_TIMEOUT_S)).task

    async def _stream_once(
        self, request: GenerateSequentialImagesRequest, timeout_s: float
    ) -> AsyncGenerator[StreamSequentialImagesResponse, None]:
        with _typed(request_id=request.request_id):
            stub = self._images(request.request_id)
            call = stub.StreamSequentialImages(request, timeout=timeout_s)
            try:
                async for event in call:
                    yield event
            finally:
                call.cancel()  # no-op once it has ended; else the caller has stopped listening

    def _images(self, request_id: str) -> ImageServiceStub:
        return ImageServiceStub(self._repeating if request_id else self._once)

    def _or_default(self, timeout_s: float | None) -> float:
        return min(self._timeout_s if timeout_s is None else timeout_s, LONGEST_S)


def _time_to_send(request: GenerateImageRequest | GenerateSequentialImagesRequest) -> float:
    return CALL_TIMEOUT_S + request.ByteSize() / SLOW_BYTES_PER_S


@contextmanager
def _typed(*, task_id: str = "", request_id: str = "") -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error, task_id=task_id, request_id=request_id) from error

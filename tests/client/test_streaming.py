"""A sequence as it is made: each picture once, also over a stream that breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from image.v1.image_service_pb2 import GenerateSequentialImagesRequest, StreamSequentialImagesResponse
from task.v1.image_pb2 import Image, ImageFailure
from task.v1.task_pb2 import Progress, Task, TaskState

from imagegen import ImageClient, StillRunning, TaskFailed, Unreachable, patience
from tests.client.scripted_server import TASK_ID, Context, Fault, ScriptedService

Event = StreamSequentialImagesResponse
CUT = Fault(code=grpc.StatusCode.UNAVAILABLE, domain="")

ACCEPTED = Event(task_id=TASK_ID)
COMPLETED = Event(task=Task(task_id=TASK_ID, state=TaskState.TASK_STATE_COMPLETED))
FAILED = Event(task=Task(task_id=TASK_ID, state=TaskState.TASK_STATE_FAILED))


def made(index: int) -> Event:
    return Event(image=Image(index=index))


def lost(index: int) -> Event:
    return Event(failure=ImageFailure(index=index))


class Played:
    """A stream of these events, ended by `fault` if there is one."""

    def __init__(self, *events: Event, fault: Fault | None = None) -> None:
        self._events = events
        self._fault = fault

    async def __call__(
        self, request: GenerateSequentialImagesRequest, context: Context
    ) -> AsyncIterator[StreamSequentialImagesResponse]:
        for event in self._events:
            yield event
        if self._fault:
            await self._fault.raise_in(context)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RETRY_PAUSE_S", 0.01)


async def test_events_come_as_they_happen(client: ImageClient, service: ScriptedService) -> None:
    events = [
        ACCEPTED,
        made(1),
        lost(0),
        Event(progress=Progress(images_done=1, images_wanted=3)),
        made(2),
        COMPLETED,
    ]
    service.on("StreamSequentialImages", Played(*events))
    assert [event async for event in client.stream_sequence("a story", images=3)] == events
    assert service.asked("StreamSequentialImages")[0].max_images == 3


async def test_a_broken_stream_is_opened_again_and_repeats_nothing(
    client: ImageClient, service: ScriptedService
) -> None:
    service.on(
        "StreamSequentialImages",
        Played(ACCEPTED, made(0), lost(1), fault=CUT),
        Played(ACCEPTED, made(0), lost(1), made(2), COMPLETED),
    )
    events = [event async for event in client.stream_sequence("a story", images=3)]
    assert events == [ACCEPTED, made(0), lost(1), made(2), COMPLETED]
    first, second = service.asked("StreamSequentialImages")
    assert first.request_id == second.request_id != ""


async def test_without_a_request_id_a_broken_stream_stays_broken(
    client: ImageClient, service: ScriptedService
) -> None:
    service.on("StreamSequentialImages", Played(ACCEPTED, made(0), fault=CUT))
    with pytest.raises(Unreachable) as caught:
        async for _ in client.stream_sequence("a story", request_id=""):
            pass
    assert caught.value.task_id == TASK_ID
    assert len(service.asked("StreamSequentialImages")) == 1


async def test_a_stream_that_stays_broken_ends_in_an_error(
    client: ImageClient, service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "OUTAGE_S", 0.5)
    service.on("StreamSequentialImages", Played(ACCEPTED, fault=CUT), CUT)
    async with asyncio.timeout(5):
        with pytest.raises(Unreachable):
            async for _ in client.stream_sequence("a story", timeout_s=600):
                pass
    assert len(service.asked("StreamSequentialImages")) > 1 + 4, "more often than gRPC repeats by itself"


async def test_a_task_without_pictures_is_shown_and_then_raised(
    client: ImageClient, service: ScriptedService
) -> None:
    fault = Fault(code=grpc.StatusCode.ABORTED, reason="PROVIDER_UNAVAILABLE", task_id=TASK_ID)
    service.on("StreamSequentialImages", Played(ACCEPTED, lost(0), FAILED, fault=fault))
    stream = client.stream_sequence("a story")
    events = [await anext(stream) for _ in range(3)]
    with pytest.raises(TaskFailed) as caught:
        await anext(stream)
    assert events == [ACCEPTED, lost(0), FAILED]
    assert caught.value.reason == "PROVIDER_UNAVAILABLE"


async def test_the_end_of_the_wait_names_the_task(client: ImageClient, service: ScriptedService) -> None:
    fault = Fault(code=grpc.StatusCode.DEADLINE_EXCEEDED, reason="WAIT_EXPIRED", task_id=TASK_ID)
    service.on("StreamSequentialImages", Played(ACCEPTED, made(0), fault=fault))
    with pytest.raises(StillRunning) as caught:
        async for _ in client.stream_sequence("a story"):
            pass
    assert caught.value.task_id == TASK_ID


@pytest.mark.parametrize("fault", [CUT, Fault(code=grpc.StatusCode.INTERNAL, task_id=TASK_ID)])
async def test_what_came_of_the_task_counts_and_not_how_the_stream_ended(
    client: ImageClient, service: ScriptedService, fault: Fault
) -> None:
    service.on("StreamSequentialImages", Played(ACCEPTED, made(0), COMPLETED, fault=fault))
    assert [e async for e in client.stream_sequence("a story")] == [ACCEPTED, made(0), COMPLETED]
    service.on("StreamSequentialImages", Played(ACCEPTED, FAILED, fault=fault))
    stream = client.stream_sequence("a story")
    assert [await anext(stream) for _ in range(2)] == [ACCEPTED, FAILED]
    with pytest.raises(TaskFailed):
        await anext(stream)
    assert len(service.asked("StreamSequentialImages")) == 2, "neither was opened again"


async def test_a_service_that_is_late_with_the_end_of_the_wait_is_no_lost_one(
    client: ImageClient, service: ScriptedService
) -> None:
    late = Fault(code=grpc.StatusCode.DEADLINE_EXCEEDED, domain="")
    service.on("StreamSequentialImages", Played(ACCEPTED, fault=late))
    with pytest.raises(StillRunning) as caught:
        async for _ in client.stream_sequence("a story"):
            pass
    assert caught.value.task_id == TASK_ID

"""What happens while the store or Redis is away, and that it ends by itself."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from image.v1 import image_service_pb2
from task.v1 import task_pb2, task_service_pb2

from tests.mongo import MongoServer, database_url, new_database_name
from tests.side_port import fetch
from tests.stack import Calls, ServiceProcess, calling, no_leaked_keys, running_stack
from tests.waiting import until_async

SMALL = image_service_pb2.GenerateImageRequest(prompt="small", model="local-canvas", size="64x64")


def detail(error: grpc.aio.AioRpcError, into: Message) -> bool:
    """Fill `into` from the error's details; whether there was such a detail."""
    trailers = error.trailing_metadata()
    assert trailers is not None
    status = status_pb2.Status.FromString(dict(trailers)["grpc-status-details-bin"])
    return any(packed.Unpack(into) for packed in status.details)


async def refused_in_time(calls: Calls) -> None:
    """A submit is refused as safe to repeat, within the 2 s that are promised."""
    start = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await calls.images.GenerateImageAsync(SMALL)
    assert time.monotonic() - start <= 2.0
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert detail(refused.value, info)
    assert info.reason == "STORE_UNAVAILABLE"
    assert detail(refused.value, retry)
    assert retry.retry_delay.ToMilliseconds() > 0


async def ready_is(process: ServiceProcess, status: int) -> None:
    async def so() -> bool:
        return (await fetch(f"{process.http}/ready")).status == status

    await until_async(so, within_s=15, what=f"/ready {status}")


@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_sqlite_locked_by_somebody_else() -> None:
    with running_stack() as stack:
        api, _worker = stack.start("api"), stack.start("worker")
        lock = sqlite3.connect(Path(stack.store_url.removeprefix("sqlite://")), isolation_level=None)
        async with calling(api) as calls:
            await calls.images.GenerateImage(SMALL, timeout=20)
            lock.execute("BEGIN EXCLUSIVE")
            await refused_in_time(calls)
            await ready_is(api, 503)
            assert (await fetch(f"{api.http}/ready")).json()["store"] == "down"
            assert (await fetch(f"{api.http}/health")).status == 200
            lock.execute("ROLLBACK")
            lock.close()
            await ready_is(api, 200)
            answer = await calls.images.GenerateImage(SMALL, timeout=20)
            assert len(answer.images) == 1


@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_mongodb_away_and_back(mongo_server: MongoServer) -> None:
    url = database_url(mongo_server.url, new_database_name())
    with running_stack(store_url=url) as stack:
        api, worker = stack.start("api"), stack.start("worker")
        async with calling(api) as calls:
            await calls.images.GenerateImage(SMALL, timeout=20)
            mongo_server.kill()
            await refused_in_time(calls)
            await ready_is(api, 503)
            await ready_is(worker, 503)
            assert (await fetch(f"{api.http}/health")).status == 200
            assert (await fetch(f"{worker.http}/health")).status == 200
            mongo_server.start()
            await ready_is(api, 200)
            await ready_is(worker, 200)
            answer = await calls.images.GenerateImage(SMALL, timeout=30)
            assert len(answer.images) == 1
        assert worker.running()


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_redis_away_and_back_empty() -> None:
    with running_stack(LEASE_SECONDS="2") as stack:
        api, worker = stack.start("api"), stack.start("worker")
        async with calling(api) as calls:
            stack.redis.kill()
            ids = [(await calls.images.GenerateImageAsync(SMALL)).task_id for _ in range(20)]

            async def redis_down() -> bool:
                answer = await fetch(f"{api.http}/ready")
                assert answer.status == 200
                return bool(answer.json()["redis"] == "down")

            await until_async(redis_down, within_s=15, what='"redis": "down" at /ready')
            got = await calls.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=ids[0]))
            assert got.task.state == task_pb2.TASK_STATE_PENDING
            stack.redis.start()
            for task_id in ids:
                task = await calls.ended(task_id)
                assert task.state == task_pb2.TASK_STATE_COMPLETED
                assert len(task.attempts) == 1
        assert api.running()
        assert worker.running()
        await no_leaked_keys(stack)

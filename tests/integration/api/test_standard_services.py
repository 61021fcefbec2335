"""grpc.health.v1 and server reflection, as probes, balancers and grpcurl use them."""

from __future__ import annotations

import asyncio
import signal

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from tests.integration.api.deployment import called, deployed
from tests.stack import Calls

OURS = (
    "image.v1.ImageService",
    "task.v1.TaskService",
    "model.v1.ModelService",
    "admin.v1.UsageService",
)
HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


async def checked(calls: Calls, service: str) -> HealthCheckResponse:
    check: grpc.aio.UnaryUnaryMultiCallable[HealthCheckRequest, HealthCheckResponse]
    check = calls.channel.unary_unary(
        f"/{HEALTH}/Check", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
    )
    return await check(HealthCheckRequest(service=service), timeout=10)


def watched(calls: Calls, service: str) -> grpc.aio.UnaryStreamCall[HealthCheckRequest, HealthCheckResponse]:
    watch: grpc.aio.UnaryStreamMultiCallable[HealthCheckRequest, HealthCheckResponse]
    watch = calls.channel.unary_stream(
        f"/{HEALTH}/Watch", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
    )
    return watch(HealthCheckRequest(service=service), timeout=30)


async def reflected(calls: Calls, *questions: ServerReflectionRequest) -> list[ServerReflectionResponse]:
    ask: grpc.aio.StreamStreamMultiCallable[ServerReflectionRequest, ServerReflectionResponse]
    ask = calls.channel.stream_stream(
        f"/{REFLECTION}/ServerReflectionInfo",
        ServerReflectionRequest.SerializeToString,
        ServerReflectionResponse.FromString,
    )
    return [answer async for answer in ask(iter(questions), timeout=10)]


@pytest.mark.xdist_group("api-queueing")
async def test_health_of_the_server_and_of_its_services(calls: Calls) -> None:
    for service in ("", *OURS):
        assert (await checked(calls, service)).status == SERVING, service


@pytest.mark.xdist_group("api-queueing")
async def test_health_of_an_unknown_service_is_not_found(calls: Calls) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await checked(calls, "video.v9.VideoService")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.xdist_group("api-queueing")
async def test_watching_health_tells_the_present_state_at_once(calls: Calls) -> None:
    for service, status in (
        ("", SERVING),
        *((ours, SERVING) for ours in OURS),
        ("video.v9.VideoService", HealthCheckResponse.SERVICE_UNKNOWN),
    ):
        watch = watched(calls, service)
        assert (await anext(aiter(watch))).status == status
        watch.cancel()


@pytest.mark.xdist_group("api-unavailable")
async def test_watchers_learn_that_the_server_stops_and_do_not_hold_it_up() -> None:
    with deployed(SHUTDOWN_GRACE_SECONDS="2") as deployment:
        async with called(deployment) as calls:
            watches = [aiter(watched(calls, service)) for service in ("", *OURS)]
            for watch in watches:
                assert (await anext(watch)).status == SERVING
            deployment.api.signal(signal.SIGTERM)
            for watch in watches:
                assert (await anext(watch)).status == NOT_SERVING
            assert await asyncio.to_thread(deployment.api.wait) == 0
        assert "unexpected error" not in deployment.api.log()


@pytest.mark.xdist_group("api-queueing")
async def test_reflection_lists_the_services(calls: Calls) -> None:
    (answer,) = await reflected(calls, ServerReflectionRequest(list_services=""))
    services = {service.name for service in answer.list_services_response.service}
    assert services == {*OURS, HEALTH, REFLECTION}


@pytest.mark.xdist_group("api-queueing")
async def test_reflection_describes_what_a_caller_needs(calls: Calls) -> None:
    """One stream, several questions, as grpcurl asks them."""
    symbols = (*OURS, "image.v1.GenerateImageRequest", "task.v1.Task", HEALTH)
    answers = await reflected(
        calls,
        *(ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols),
        ServerReflectionRequest(file_by_filename="task/v1/task.proto"),
        ServerReflectionRequest(file_containing_symbol="video.v9.VideoService"),
    )
    *found, by_name, unknown = [
        {
            FileDescriptorProto.FromString(raw).name
            for raw in answer.file_descriptor_response.file_descriptor_proto
        }
        for answer in answers
    ]
    for files, name in zip(
        (*found, by_name),
        (
            "image/v1/image_service.proto",
            "task/v1/task_service.proto",
            "model/v1/model_service.proto",
            "admin/v1/usage_service.proto",
            "image/v1/image_service.proto",
            "task/v1/task.proto",
            "grpc_health/v1/health.proto",
            "task/v1/task.proto",
        ),
        strict=True,
    ):
        assert name in files
    assert not unknown
    assert answers[-1].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]

"""Bytes that are no message, and messages that are too large: refused before they do anything."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from google.protobuf.message import DecodeError, Message
from grpc_health.v1.health_pb2 import HealthCheckRequest as ProbeRequest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from image.v1 import image_service_pb2 as image_pb
from task.v1 import task_service_pb2 as task_pb

from tests.integration.api.refusals import (
    CALL_TIMEOUT_S,
    Refusal,
    refusal_of,
    refusal_of_stream,
    refusals_of_submit,
)
from tests.integration.api.requests import MIB, exactly, image, sequence
from tests.stack import Calls

pytestmark = [
    pytest.mark.xdist_group("api-queueing"),
    pytest.mark.usefixtures("unharmed", "nothing_kept"),
]

UNARY: dict[str, type[Message]] = {
    "/image.v1.ImageService/GenerateImage": image_pb.GenerateImageRequest,
    "/image.v1.ImageService/GenerateImageAsync": image_pb.GenerateImageRequest,
    "/image.v1.ImageService/GenerateSequentialImages": image_pb.GenerateSequentialImagesRequest,
    "/image.v1.ImageService/GenerateSequentialImagesAsync": image_pb.GenerateSequentialImagesRequest,
    "/image.v1.ImageService/GetImageTask": image_pb.GetImageTaskRequest,
    "/image.v1.ImageService/HealthCheck": image_pb.HealthCheckRequest,
    "/task.v1.TaskService/GetTask": task_pb.GetTaskRequest,
    "/task.v1.TaskService/WaitTask": task_pb.WaitTaskRequest,
    "/grpc.health.v1.Health/Check": ProbeRequest,
}
SERVER_STREAMING: dict[str, type[Message]] = {
    "/image.v1.ImageService/StreamSequentialImages": image_pb.GenerateSequentialImagesRequest,
    "/grpc.health.v1.Health/Watch": ProbeRequest,
}
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
METHODS: dict[str, type[Message]] = {**UNARY, **SERVER_STREAMING, REFLECTION: ServerReflectionRequest}
SUBMITS = [method for method in METHODS if "Generate" in method or "StreamSequential" in method]

MALFORMED = {
    "random": bytes.fromhex("9c1f8e03d7a2554bf0e61d7788c3ab90d25e41f6"),
    "a tag that does not end": b"\x80" * 11,
    "field number 0": b"\x02\x01x",
    "a wire type that does not exist": b"\x0f\x01x",
    "a length beyond the end": b"\x0a\x7fcat",
    "a length of 2 GiB": b"\x0a\xff\xff\xff\xff\x07cat",
    "a length below zero": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01cat",
    "a group that does not end": b"\x0b",
    "groups in groups": b"\xa3\x06" * 10_000 + b"\xa4\x06" * 10_000,
    "JSON": b'{"prompt":"cat"}',
    "noughts": bytes(64),
}


async def refused(calls: Calls, method: str, raw: bytes) -> Refusal:
    """What the method answers to these bytes."""
    if method in UNARY:
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = calls.channel.unary_unary(method)
        return await refusal_of(unary(raw, timeout=CALL_TIMEOUT_S))
    if method in SERVER_STREAMING:
        stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = calls.channel.unary_stream(method)
        return await refusal_of_stream(stream(raw, timeout=CALL_TIMEOUT_S))
    both: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = calls.channel.stream_stream(method)
    return await refusal_of_stream(both(iter([raw]), timeout=CALL_TIMEOUT_S))


def parses(message: type[Message], raw: bytes) -> bool:
    try:
        message.FromString(raw)
    except DecodeError:
        return False
    return True


def assert_malformed(refusal: Refusal) -> None:
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.reason == "MALFORMED_REQUEST"
    assert "UTF-8" in refusal.text, "it says what to look for"
    assert "Error" not in refusal.text, "no exception's name"


@pytest.mark.parametrize("method", METHODS)
async def test_malformed_bytes(calls: Calls, method: str) -> None:
    # To a message without fields some of these are fields of a newer version.
    malformed = [raw for raw in MALFORMED.values() if not parses(METHODS[method], raw)]
    assert len(malformed) >= 9
    for raw in malformed:
        assert_malformed(await refused(calls, method, raw))


@pytest.mark.parametrize("method", [*SUBMITS, "/task.v1.TaskService/GetTask", "/grpc.health.v1.Health/Check"])
async def test_a_string_that_is_not_utf8(calls: Calls, method: str) -> None:
    """The first field of each of these messages is a string."""
    for text in (b"\xff\xfe", b"caf\xe9", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"):
        raw = b"\x0a" + bytes([len(text)]) + text
        assert_malformed(await refused(calls, method, raw))


@pytest.mark.parametrize("method", SUBMITS)
async def test_a_message_that_was_cut(calls: Calls, method: str) -> None:
    whole = sequence(max_images=3) if "Sequential" in method else image(request_id="cut", user_id="u")
    raw = whole.SerializeToString()
    broken = [raw[:length] for length in range(len(raw)) if not parses(type(whole), raw[:length])]
    assert len(broken) > len(raw) / 2
    for cut in broken:
        assert_malformed(await refused(calls, method, cut))


@pytest.mark.parametrize("method", SUBMITS)
async def test_an_empty_message_lacks_its_prompt(calls: Calls, method: str) -> None:
    for raw in (b"", b"\x08\x01"):  # nothing at all; a field 1 that is a number, which parsers skip
        refusal = await refused(calls, method, raw)
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.reason == "INVALID_FIELD"
        assert refusal.fields == {"prompt"}


async def test_an_unknown_method(calls: Calls) -> None:
    for method in ("/image.v1.ImageService/Paint", "/image.v2.ImageService/GenerateImage", "/x"):
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = calls.channel.unary_unary(method)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await unary(b"", timeout=CALL_TIMEOUT_S)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("size_bytes", [32 * MIB + 1, 33 * MIB])
async def test_a_request_over_32_mib(calls: Calls, size_bytes: int) -> None:
    for refusal in await refusals_of_submit(calls, exactly(size_bytes)):
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, "RESOURCE_EXHAUSTED would ask for a repeat"
        assert refusal.reason == "INVALID_FIELD"
        assert "32 MiB" in refusal.text


@pytest.mark.parametrize("packing", [None, grpc.Compression.Gzip], ids=["plain", "packed into 40 kB"])
async def test_a_request_far_over_the_limit_is_not_taken_in(
    calls: Calls, packing: grpc.Compression | None
) -> None:
    request = image(prompt="x" * (40 * MIB))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await calls.images.GenerateImageAsync(request, timeout=CALL_TIMEOUT_S, compression=packing)
    # Either the service refuses it, or gRPC before the service sees anything.
    assert error.value.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}

"""Requests as the service's users paste them into grpcurl become messages."""

from __future__ import annotations

import pytest
from google.protobuf import json_format
from image.v1.image_service_pb2 import (
    RESPONSE_FORMAT_BYTES,
    GenerateImageRequest,
    GenerateSequentialImagesRequest,
    GetImageTaskRequest,
)
from task.v1.task_pb2 import TASK_PRIORITY_CRITICAL
from task.v1.task_service_pb2 import GetTaskRequest, WaitTaskRequest

CAT = "一只可爱的小猫在花园里玩耍"


def test_generate_image() -> None:
    request = json_format.Parse(
        f'{{"prompt":"{CAT}","model":"doubao-seedream-4-0-250828","size":"2K","watermark":true}}',
        GenerateImageRequest(),
    )
    assert (request.prompt, request.model, request.size) == (CAT, "doubao-seedream-4-0-250828", "2K")
    assert request.watermark
    assert not request.HasField("seed")
    assert not request.HasField("guidance_scale")


def test_request_id_and_user_id_are_flat() -> None:
    request = json_format.Parse(
        '{"prompt":"cat","request_id":"req_001","user_id":"user_123","seed":0,"quality":"standard"}',
        GenerateImageRequest(),
    )
    assert (request.request_id, request.user_id, request.quality) == ("req_001", "user_123", "standard")
    assert request.HasField("seed"), "seed 0 is a choice"


def test_camel_case_names_are_the_same_fields() -> None:
    snake = '{"prompt":"cat","request_id":"r","max_images":4,"response_format":"RESPONSE_FORMAT_BYTES"}'
    camel = '{"prompt":"cat","requestId":"r","maxImages":4,"responseFormat":"RESPONSE_FORMAT_BYTES"}'
    request = json_format.Parse(snake, GenerateSequentialImagesRequest())
    assert request == json_format.Parse(camel, GenerateSequentialImagesRequest())
    assert request.response_format == RESPONSE_FORMAT_BYTES


def test_references_and_options() -> None:
    request = json_format.Parse(
        """{"prompt": "cat", "reference_images": [{"url": "https://example.com/cat.png"},
            {"data": "iVBORw=="}, {"output": {"task_id": "01JD8ZK5T0N0V6Y3W2Q4R5S6T7", "index": 2}}],
            "options": {"priority": "TASK_PRIORITY_CRITICAL", "ttl": "90s", "labels": {"shop": "7"},
                        "max_paid_attempts": 1}}""",
        GenerateImageRequest(),
    )
    assert [source.WhichOneof("source") for source in request.reference_images] == ["url", "data", "output"]
    assert request.reference_images[1].data == b"\x89PNG"
    assert request.options.priority == TASK_PRIORITY_CRITICAL
    assert request.options.ttl.ToSeconds() == 90
    assert request.options.max_paid_attempts == 1


@pytest.mark.parametrize("message", [GetImageTaskRequest, GetTaskRequest, WaitTaskRequest])
def test_task_id(
    message: type[GetImageTaskRequest] | type[GetTaskRequest] | type[WaitTaskRequest],
) -> None:
    assert json_format.Parse('{"task_id":"task_1234567890"}', message()).task_id == "task_1234567890"

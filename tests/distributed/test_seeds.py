"""The calls that users of the first version have at hand, as they wrote them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import json_format
from image.v1 import image_service_pb2
from PIL import Image

from tests.side_port import fetch
from tests.stack import ServiceProcess, calling, running_stack
from tests.tools import program

KITTEN = {
    "prompt": "一只可爱的小猫在花园里玩耍",
    "model": "doubao-seedream-4-0-250828",
    "size": "2K",
    "watermark": True,
}

BODIES: list[dict[str, Any]] = [
    KITTEN,
    {"prompt": "一只可爱的小猫在花园里玩耍"},
    {
        "prompt": "一只可爱的小猫",
        "model": "doubao-seedream-3.0-t2i",
        "size": "1024x1024",
        "quality": "standard",
        "user_id": "user_123",
        "request_id": "req_123",
    },
    {
        "prompt": "星空下的城市",
        "model": "jimeng_high_aes_general_v21_L",
        "provider": "volcengine",
        "size": "512x512",
        "seed": -1,
        "guidance_scale": 2.5,
    },
    {
        "prompt": "a red bicycle",
        "model": "dall-e-3",
        "size": "1792x1024",
        "quality": "hd",
        "provider": "openai",
    },
]
"""Bodies of image tasks, pasted as requests."""


pytestmark = pytest.mark.xdist_group("seeds")  # one service for all


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceProcess]:
    with running_stack() as stack:
        stack.start("worker")
        yield stack.start("api")


def call(service: ServiceProcess, method: str, body: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    grpcurl = program("grpcurl", install="go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3")
    arguments = ["-plaintext", "-d", json.dumps(body, ensure_ascii=False), service.target, method]
    return subprocess.run([grpcurl, *arguments], capture_output=True, text=True, timeout=60, check=False)


async def test_grpcurl_makes_a_picture_that_is_what_it_says(service: ServiceProcess) -> None:
    done = await asyncio.to_thread(call, service, "image.v1.ImageService/GenerateImage", KITTEN)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["provider"] == "local"
    (image,) = answer["images"]
    got = await fetch(image["url"])
    assert got.status == 200
    assert got.headers["Content-Type"] == image["mime_type"] == "image/png"
    assert hashlib.sha256(got.body).hexdigest() == image["sha256"]
    assert len(got.body) == int(image["size_bytes"])
    with Image.open(io.BytesIO(got.body)) as picture:
        assert picture.size == (image["width_px"], image["height_px"]) == (2048, 2048)


@pytest.mark.parametrize(
    ("method", "body", "answers"),
    [
        ("GenerateImageAsync", KITTEN, "TASK_STATE_PENDING"),
        (
            "GenerateSequentialImages",
            {"prompt": "四季", "model": "local-canvas", "size": "256x256"},
            '"index": 3',
        ),
        ("GenerateSequentialImagesAsync", {"prompt": "四季", "max_images": 2}, "TASK_STATE_PENDING"),
        ("HealthCheck", {}, "HEALTH_STATUS_SERVING"),
    ],
)
def test_grpcurl_calls_answer(
    service: ServiceProcess, method: str, body: dict[str, Any], answers: str
) -> None:
    done = call(service, f"image.v1.ImageService/{method}", body)
    assert done.returncode == 0, done.stderr
    assert answers in done.stdout


def test_grpcurl_asking_for_a_task_that_never_was(service: ServiceProcess) -> None:
    done = call(service, "image.v1.ImageService/GetImageTask", {"task_id": "task_1234567890"})
    assert "Code: NotFound" in done.stderr
    assert "TASK_NOT_FOUND" in done.stderr


@pytest.mark.parametrize("body", BODIES, ids=lambda body: str(body.get("model", "default")))
async def test_pasted_bodies_run(service: ServiceProcess, body: dict[str, Any]) -> None:
    request = json_format.ParseDict(body, image_service_pb2.GenerateImageRequest())
    async with calling(service) as calls:
        answer = await calls.images.GenerateImage(request, timeout=60)
    assert answer.provider == "local"
    (image,) = answer.images
    if "x" in str(body.get("size", "")):
        assert f"{image.width_px}x{image.height_px}" == body["size"]

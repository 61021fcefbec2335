"""A deployment's own catalogue file: a model that this version does not know is made all the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from admin.v1.usage_service_pb2 import GetUsageRequest
from admin.v1.usage_service_pb2_grpc import UsageServiceStub
from image.v1.image_service_pb2 import (
    OUTPUT_FORMAT_PNG,
    GenerateImageRequest,
    GenerateSequentialImagesRequest,
)
from model.v1.model_service_pb2 import GetModelRequest
from model.v1.model_service_pb2_grpc import ModelServiceStub
from task.v1.task_pb2 import Cost
from task.v1.task_service_pb2 import GetTaskRequest

from tests.side_port import fetch
from tests.stack import calling, running_stack
from tests.upstreams import ArkUpstream

OWN_FILE = """
[[model]]
id = "seedream-of-ours"
routes = [{ provider = "ark", upstream = "doubao-seedream-5-0-260128" }]
parameters = { watermark = true, groups = true, output_formats = ["jpeg", "png"] }
sizes = { default = "2K", labels = { 2K = "2048x2048" } }

[[model]]
id = "doubao-seedream-4-0-250828" # ours is an older one, which takes seeds and makes no groups
routes = [{ provider = "ark", upstream = "doubao-seedream-3-0-t2i-250415" }]
parameters = { seed = true }
price = { currency = "CNY", per_image = 0.25 }
sizes = { default = "1024x1024", listed = ["1024x1024"] }
"""


OWL_SERIES = 'currency="CNY",model="doubao-seedream-4-0-250828",provider="ark"'


async def spent_today(usage: UsageServiceStub) -> None:
    """Two pictures at a known price and one without."""
    today = datetime.now(UTC).date()
    request = GetUsageRequest(start_date=str(today - timedelta(days=1)), end_date=str(today))
    owl, fox = (await usage.GetUsage(request, timeout=10)).sums
    assert (owl.model, owl.tasks, owl.images, owl.paid_calls) == ("doubao-seedream-4-0-250828", 1, 2, 2)
    assert list(owl.costs) == [Cost(currency="CNY", amount_micros=500_000)]
    assert (fox.model, fox.images, fox.images_without_price) == ("seedream-of-ours", 1, 1)
    assert list(fox.costs) == []


async def test_what_the_file_says_is_what_the_vendor_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(OWN_FILE)
    async with ArkUpstream() as upstream:
        with running_stack(
            APP_ENVIRONMENT="production",
            IMAGE_API_KEY="any",
            IMAGE_BASE_URL=upstream.base_url,
            OUTPUT_FETCH_ALLOW_PRIVATE="true",
            MODEL_CATALOGUE=str(path),
        ) as stack:
            worker = stack.start("worker")
            api = stack.start("api")
            assert "models are offered that their vendors have retired" in api.log()
            async with calling(api) as calls:
                shown = await ModelServiceStub(calls.channel).GetModel(
                    GetModelRequest(model="seedream-of-ours"), timeout=10
                )
                assert shown.model.provider == "ark"
                png = GenerateImageRequest(
                    prompt="a fox", model="seedream-of-ours", output_format=OUTPUT_FORMAT_PNG
                )
                answer = await calls.images.GenerateImage(png, timeout=60)
                assert answer.model == "seedream-of-ours"
                assert answer.images[0].mime_type == "image/png"
                assert not answer.images[0].HasField("seed")
                assert not answer.usage.HasField("cost"), "the price is not known"
                body = upstream.last_body["a fox"]
                assert (body["model"], body["size"], body["output_format"]) == (
                    "doubao-seedream-5-0-260128",
                    "2K",
                    "png",
                )
                assert "seed" not in body

                two = GenerateSequentialImagesRequest(prompt="an owl", max_images=2, seed=7)
                answer = await calls.images.GenerateSequentialImages(two, timeout=60)
                assert [image.index for image in answer.images] == [0, 1]
                assert answer.images[0].seed == 7
                assert answer.images[1].HasField("seed")
                body = upstream.last_body["an owl"]
                assert body["model"] == "doubao-seedream-3-0-t2i-250415"
                assert "seed" in body
                assert "sequential_image_generation" not in body
                assert upstream.billed["an owl"] == 2, "one call per picture"

                assert answer.usage.cost == Cost(currency="CNY", amount_micros=500_000)
                task = (await calls.tasks.GetTask(GetTaskRequest(task_id=answer.task_id))).task
                assert task.cost == answer.usage.cost
                [attempt] = task.attempts
                assert (attempt.cost_micros, attempt.cost_currency) == (500_000, "CNY")
                metrics = (await fetch(f"{worker.http}/metrics")).body.decode()
                assert f"imagegen_cost_total{{{OWL_SERIES}}} 0.5" in metrics
                await spent_today(UsageServiceStub(calls.channel))

"""`imagegen models`, and the client's list behind it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from image.v1.image_service_pb2 import OUTPUT_FORMAT_JPEG, OUTPUT_FORMAT_PNG
from model.v1.model_pb2 import (
    Model,
    ModelLimits,
    ModelParameters,
    ModelRoute,
    SizeBounds,
    SizeLabel,
    SizeRules,
)
from model.v1.model_service_pb2 import ListModelsRequest, ListModelsResponse
from task.v1.task_pb2 import Cost

from imagegen import ImageClient
from imagegen.models import HEADERS, columns
from tests.client.command_line import imagegen
from tests.client.scripted_server import Fault, ScriptedService

NEWER = ParseDict({"seed": True, "output_formats": [99]}, ModelParameters())
"""Of a service that knows more formats than this client."""
SEEDREAM = Model(
    id="seedream",
    routes=[
        ModelRoute(
            provider="ark",
            available=True,
            parameters=ModelParameters(
                watermark=True, groups=True, output_formats=[OUTPUT_FORMAT_JPEG, OUTPUT_FORMAT_PNG]
            ),
            price_per_image=Cost(currency="CNY", amount_micros=250_000),
        )
    ],
    provider="ark",
    sizes=SizeRules(
        default_size="2K",
        labels=[SizeLabel(label="2K"), SizeLabel(label="4K")],
        bounds=SizeBounds(min_area_px=3_686_400, max_area_px=16_777_216),
    ),
    limits=ModelLimits(max_reference_images=14),
    retired_date=date.max.isoformat(),
)
DALL_E = Model(
    id="dall-e-3",
    routes=[ModelRoute(provider="openai", parameters=NEWER)],
    sizes=SizeRules(sizes=["1024x1024", "1024x1792"]),
    limits=ModelLimits(min_reference_images=1, max_reference_images=1),
    retired_date="2026-05-12",
    retired=True,
)
CANVAS = Model(
    id="canvas",
    routes=[
        ModelRoute(provider="ark"),
        ModelRoute(provider="local", available=True, price_per_image=Cost(currency="CNY")),
    ],
    provider="local",
)


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        (
            SEEDREAM,
            (
                "seedream",
                "ark",
                "0.25 CNY",
                "2K, 4K, WxH of 3.7 to 16.8 megapixels",
                "0-14",
                "watermark, groups",
                "jpeg, png",
            ),
        ),
        (
            DALL_E,
            (
                "dall-e-3, retired 2026-05-12",
                "openai (not set up)",
                "not known",
                "1024x1024, 1024x1792",
                "1",
                "seed",
                "format 99",
            ),
        ),
        (CANVAS, ("canvas", "local", "free", "", "-", "-", "")),
        (Model(id="new"), ("new", "(not set up)", "not known", "", "-", "-", "")),
    ],
    ids=lambda value: value.id if isinstance(value, Model) else "",
)
def test_a_model_in_one_line(model: Model, shown: tuple[str, ...]) -> None:
    assert columns(model) == shown
    assert len(shown) == len(HEADERS)


async def test_the_client_reads_every_page(service: ScriptedService, client: ImageClient) -> None:
    service.on(
        "ListModels",
        ListModelsResponse(models=[SEEDREAM], next_page_token="a"),  # noqa: S106
        Fault(code=grpc.StatusCode.UNAVAILABLE, message="one moment"),
        ListModelsResponse(next_page_token="b"),  # noqa: S106
        ListModelsResponse(models=[DALL_E, CANVAS]),
    )
    assert await client.models() == [SEEDREAM, DALL_E, CANVAS]
    assert [request.page_token for request in service.asked("ListModels")] == ["", "a", "a", "b"]


async def test_the_table(service: ScriptedService, tmp_path: Path) -> None:
    service.on("ListModels", ListModelsResponse(models=[SEEDREAM, DALL_E, CANVAS]))
    outcome = await imagegen("models", "--target", service.target, cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    head, *lines = outcome.out.splitlines()
    assert head.split() == list(HEADERS)
    assert [line.split("  ")[0] for line in lines] == ["seedream", "dall-e-3, retired 2026-05-12", "canvas"]
    assert all(line == line.rstrip() for line in lines)
    assert "0.25 CNY" in lines[0]


async def test_as_json(service: ScriptedService, tmp_path: Path) -> None:
    service.on("ListModels", ListModelsResponse(models=[SEEDREAM, CANVAS]))
    outcome = await imagegen("models", "--json", "--target", service.target, cwd=tmp_path)
    assert outcome.code == 0
    [first, second] = outcome.document()["models"]
    assert ParseDict(first, Model()) == SEEDREAM
    assert ParseDict(second, Model()) == CANVAS
    assert service.asked("ListModels") == [ListModelsRequest()]


async def test_a_service_that_knows_no_models_says_so(service: ScriptedService, tmp_path: Path) -> None:
    outcome = await imagegen("models", "--target", service.target, cwd=tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("imagegen: ")

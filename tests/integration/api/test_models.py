"""model.v1.ModelService: what it tells of models is what requests for them meet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from image.v1.image_service_pb2 import (
    OUTPUT_FORMAT_JPEG,
    OUTPUT_FORMAT_PNG,
    OUTPUT_FORMAT_WEBP,
    GenerateImageRequest,
    OutputFormat,
)
from model.v1.model_pb2 import Model, ModelRoute, SizeLabel
from model.v1.model_service_pb2 import GetModelRequest, ListModelsRequest
from model.v1.model_service_pb2_grpc import ModelServiceStub
from task.v1.task_pb2 import TASK_TYPE_IMAGE, Cost

from server.providers.catalogue import load_catalogue
from tests.integration.api.deployment import Deployment, called, deployed
from tests.integration.api.refusals import Refusal, assert_invalid, read_refusal, refusal_of
from tests.integration.api.requests import data, image, sequence
from tests.stack import Calls

pytestmark = pytest.mark.xdist_group("api-models")

IDS = [model.id for model in load_catalogue().models]
FREE = Cost(currency="CNY", amount_micros=0)
OWN_FILE = """
[[model]]
id = "doubao-seedream-4-5-251128"
price = { currency = "CNY", per_image = 0.25 }

[[model]]
id = "our-model"
aliases = ["ours"]
routes = [{ provider = "openai" }]
sizes = { default = "64x64", listed = ["64x64"] }
"""


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """An API process as production has it: a key of Ark's, no stand-in, a catalogue file of its own."""
    path: Path = tmp_path_factory.mktemp("catalogue") / "models.toml"
    path.write_text(OWN_FILE)
    with deployed(APP_ENVIRONMENT="production", IMAGE_API_KEY="any", MODEL_CATALOGUE=str(path)) as deployment:
        yield deployment


@pytest.fixture
async def production(vendor: Deployment) -> AsyncIterator[Calls]:
    """Stubs of it."""
    async with called(vendor) as calls:
        yield calls


async def get(calls: Calls, name: str) -> Model:
    answer = await ModelServiceStub(calls.channel).GetModel(GetModelRequest(model=name), timeout=10)
    return answer.model


async def listed(calls: Calls, page_size: int = 0) -> list[list[Model]]:
    """All pages."""
    stub, pages, token = ModelServiceStub(calls.channel), [], ""
    while True:
        request = ListModelsRequest(page_size=page_size, page_token=token)
        answer = await stub.ListModels(request, timeout=10)
        pages.append(list(answer.models))
        token = answer.next_page_token
        if not token:
            return pages


# --- the list ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page_size", "pages"), [(0, 1), (1, len(IDS)), (4, 3), (len(IDS), 1)])
async def test_every_model_is_listed_once(calls: Calls, page_size: int, pages: int) -> None:
    found = await listed(calls, page_size)
    assert [model.id for page in found for model in page] == IDS
    assert len(found) == pages


async def test_the_list_says_what_each_model_says(calls: Calls) -> None:
    [found] = await listed(calls)
    assert found == [await get(calls, model_id) for model_id in IDS]


# --- one model ---------------------------------------------------------------------------------------------


async def test_what_is_told_of_a_model(production: Calls) -> None:
    model = await get(production, "doubao-seedream-4.5")
    assert (model.id, list(model.aliases)) == ("doubao-seedream-4-5-251128", ["doubao-seedream-4.5"])
    assert (model.type, model.provider) == (TASK_TYPE_IMAGE, "ark")
    assert not model.HasField("unavailable")
    [route] = model.routes
    assert (route.provider, route.available) == ("ark", True)
    assert route.price_per_image == Cost(currency="CNY", amount_micros=250_000)
    takes = route.parameters
    assert (takes.seed, takes.guidance_scale, takes.watermark, takes.groups) == (False, False, True, True)
    assert list(takes.output_formats) == [OUTPUT_FORMAT_JPEG]
    assert list(model.sizes.labels) == [
        SizeLabel(label="2K", width_px=2048, height_px=2048),
        SizeLabel(label="4K", width_px=4096, height_px=4096),
    ]
    assert (model.sizes.default_size, list(model.sizes.sizes)) == ("2K", [])
    bounds = model.sizes.bounds
    assert (bounds.min_area_px, bounds.max_area_px, bounds.max_aspect_ratio) == (3_686_400, 16_777_216, 16)
    limits = model.limits
    assert (limits.min_reference_images, limits.max_reference_images) == (0, 14)
    assert (limits.max_images, limits.max_images_and_references) == (15, 15)
    assert list(model.qualities) == ["standard"]
    assert (model.retired, model.retired_date) == (False, "")


async def test_a_price_that_is_not_known_is_not_zero(production: Calls) -> None:
    [unknown] = (await get(production, "doubao-seedream-4-0-250828")).routes
    assert not unknown.HasField("price_per_image")
    [free] = (await get(production, "local-canvas")).routes
    assert free.price_per_image == FREE


async def test_a_list_of_sizes_has_no_bounds(production: Calls) -> None:
    sizes = (await get(production, "dall-e-3")).sizes
    assert list(sizes.sizes) == ["1024x1024", "1024x1792", "1792x1024"]
    assert not sizes.HasField("bounds")
    assert sizes.default_size == "1024x1024", "the deployment's 2K is none of its sizes"


@pytest.mark.parametrize(
    ("name", "day"), [("dall-e-3", "2026-05-12"), ("doubao-seedream-4.0", "2026-07-23"), ("local-canvas", "")]
)
async def test_retired_models_say_since_when(production: Calls, name: str, day: str) -> None:
    model = await get(production, name)
    assert (model.retired, model.retired_date) == (bool(day), day)


async def test_without_any_key_the_local_provider_stands_in(calls: Calls) -> None:
    model = await get(calls, "doubao-seedream-4-0-250828")
    vendors, local = model.routes
    assert (vendors.provider, vendors.available, model.provider) == ("ark", False, "local")
    assert (local.provider, local.available, local.price_per_image) == ("local", True, FREE)
    assert local.parameters.seed
    assert not model.HasField("unavailable")


async def test_a_model_of_a_vendor_that_is_not_set_up_says_what_a_request_gets(production: Calls) -> None:
    for name in ("dall-e-3", "jimeng_high_aes_general_v21_L", "ours"):
        model = await get(production, name)
        assert model.provider == ""
        assert not any(route.available for route in model.routes)
        refusal = await refusal_of(
            production.images.GenerateImageAsync(image(model=name, size=""), timeout=10)
        )
        error = model.unavailable
        assert (error.code, error.message) == (refusal.code.value[0], refusal.text)
        assert dict(error.metadata) == refusal.metadata
        assert refusal.reason == "PROVIDER_NOT_CONFIGURED"


# --- what is told is what is taken --------------------------------------------------------------------------


async def tried(calls: Calls, request: GenerateImageRequest) -> Refusal | None:
    """The refusal of the request, if it is refused."""
    try:
        await calls.images.GenerateImageAsync(request, timeout=10)
    except grpc.aio.AioRpcError as error:
        return read_refusal(error)
    return None


def valid(model: Model) -> GenerateImageRequest:
    """A request that sets nothing which the model may lack."""
    references = [data(1_000)] * model.limits.min_reference_images
    return image(model=model.id, size="", reference_images=references)


ARK_IDS = [model.id for model in load_catalogue().models if model.route("ark")]


@pytest.mark.parametrize("model_id", [*ARK_IDS, "local-canvas"])
async def test_requests_meet_what_is_told(production: Calls, model_id: str) -> None:
    model = await get(production, model_id)
    route: ModelRoute = model.routes[0]
    takes = route.parameters
    for size in (model.sizes.default_size, *(x.label for x in model.sizes.labels), *model.sizes.sizes):
        request = valid(model)
        request.size = size
        assert await tried(production, request) is None, size
    asked = {
        "seed": (takes.seed, GenerateImageRequest(seed=1)),
        "guidance_scale": (takes.guidance_scale, GenerateImageRequest(guidance_scale=2.5)),
        "watermark": (takes.watermark, GenerateImageRequest(watermark=True)),
    }
    for field, (taken, extra) in asked.items():
        request = valid(model)
        request.MergeFrom(extra)
        refusal = await tried(production, request)
        assert (refusal is None) is taken, field
        if refusal is not None:
            assert_invalid(refusal, {field: f"by {model_id} at {route.provider}; allowed: "})
    for wanted in (OUTPUT_FORMAT_PNG, OUTPUT_FORMAT_JPEG, OUTPUT_FORMAT_WEBP):
        request = valid(model)
        request.output_format = wanted
        refusal = await tried(production, request)
        assert (refusal is None) is (wanted in takes.output_formats)
        if refusal is not None:
            names = ", ".join(
                OutputFormat.Name(f).removeprefix("OUTPUT_FORMAT_") for f in takes.output_formats
            )
            assert_invalid(refusal, {"output_format": f"allowed: {names}"})
    limits = model.limits
    for references in {limits.min_reference_images - 1, limits.max_reference_images + 1} & set(range(15)):
        request = valid(model)
        del request.reference_images[:]
        request.reference_images.extend([data(1_000)] * references)
        refusal = await tried(production, request)
        assert refusal is not None
        assert_invalid(refusal, {"reference_images": model_id})


async def test_everything_that_a_model_lacks_is_told_at_once(production: Calls) -> None:
    request = sequence(
        model="doubao-seedream-4.5",
        size="1K",
        seed=7,
        guidance_scale=3.0,
        quality="hd",
        output_format=OUTPUT_FORMAT_WEBP,
        max_images=9,
        reference_images=[data(1_000)] * 7,
    )
    refusal = await refusal_of(production.images.GenerateSequentialImagesAsync(request, timeout=10))
    assert_invalid(
        refusal,
        {
            "seed": "allowed: -1 (random), 0 or unset",
            "guidance_scale": "allowed: unset",
            "output_format": "allowed: JPEG",
            "quality": "allowed: standard",
            "size": "allowed: 2K, 4K or WIDTHxHEIGHT",
            "max_images": "9 images and 7 references are more than 15 together",
        },
    )


# --- wrong requests ----------------------------------------------------------------------------------------


def listing(*, size: int = 0, after: str = "") -> ListModelsRequest:
    return ListModelsRequest(page_size=size, page_token=after)


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (listing(size=-1), {"page_size": "0 (50) or more"}),
        (listing(after="!"), {"page_token": "`next_page_token` as it came"}),
        (listing(after="Z29uZQ=="), {"page_token": "`next_page_token` as it came"}),
        (listing(size=-1, after="!"), {"page_size": "0 (50)", "page_token": "empty"}),
        (GetModelRequest(), {"model": "must have 1 to 128 characters"}),
        (GetModelRequest(model=" "), {"model": "must have 1 to 128 characters"}),
        (GetModelRequest(model="m" * 129), {"model": "has 129"}),
    ],
    ids=["size", "token", "token of nothing", "both", "no model", "blank", "long"],
)
async def test_wrong_requests(
    calls: Calls, request_: ListModelsRequest | GetModelRequest, wanted: dict[str, str]
) -> None:
    stub = ModelServiceStub(calls.channel)
    if isinstance(request_, ListModelsRequest):
        assert_invalid(await refusal_of(stub.ListModels(request_, timeout=10)), wanted)
    else:
        assert_invalid(await refusal_of(stub.GetModel(request_, timeout=10)), wanted)


async def test_a_model_that_nobody_knows(calls: Calls) -> None:
    stub = ModelServiceStub(calls.channel)
    refusal = await refusal_of(stub.GetModel(GetModelRequest(model="dall-e-9"), timeout=10))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert refusal.metadata == {"model": "dall-e-9"}
    assert refusal.resource == ("model", "dall-e-9")
    assert "local-canvas" in refusal.text

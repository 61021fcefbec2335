"""model.v1.ModelService: one short method per rpc, and how a model is said in its messages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

import grpc.aio
from model.v1 import model_pb2, model_service_pb2_grpc
from model.v1 import model_service_pb2 as pb

from server.api import convert, paging
from server.domain.catalogue import Route, SizeRules
from server.domain.errors import InvalidRequest, ModelNotFound, Violation
from server.domain.money import Cost
from server.domain.request import MAX_ID_CHARS, MAX_IMAGES
from server.service.models import Models, Offer

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """Shows the catalogue."""

    def __init__(self, *, models: Models, now_ms: Callable[[], int]) -> None:
        self._models = models
        self._now_ms = now_ms

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: N802
        page = paging.page(request.page_size, request.page_token)
        try:
            offers, more = self._models.page(after=page.after, limit=page.limit, today=self._today())
        except ModelNotFound as error:
            raise InvalidRequest([paging.unknown_token()]) from error
        return pb.ListModelsResponse(
            models=[_model(offer) for offer in offers],
            next_page_token=paging.token(offers[-1].model.id) if more else "",
        )

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:  # noqa: N802
        name = request.model.strip()
        if not 1 <= len(name) <= MAX_ID_CHARS:
            description = f"must have 1 to {MAX_ID_CHARS} characters, has {len(name)}"
            raise InvalidRequest([Violation(field="model", description=description)])
        return pb.GetModelResponse(model=_model(self._models.get(name, today=self._today())))

    def _today(self) -> date:
        return datetime.fromtimestamp(self._now_ms() / 1000, UTC).date()


def _model(offer: Offer) -> model_pb2.Model:
    model = offer.model
    return model_pb2.Model(
        id=model.id,
        aliases=model.aliases,
        type=f"TASK_TYPE_{model.type}",
        routes=[_route(route, available=route.provider in offer.available) for route in offer.routes],
        provider=offer.provider,
        unavailable=convert.task_error(offer.unavailable) if offer.unavailable is not None else None,
        sizes=_sizes(model.sizes, offer.default_size),
        limits=model_pb2.ModelLimits(
            min_reference_images=model.min_references,
            max_reference_images=model.max_references,
            max_images=model.max_images,
            max_images_and_references=MAX_IMAGES,
        ),
        qualities=model.qualities,
        retired_date=model.retired_date.isoformat() if model.retired_date is not None else "",
        retired=offer.retired,
    )


def _route(route: Route, *, available: bool) -> model_pb2.ModelRoute:
    takes, price = route.parameters, route.price
    return model_pb2.ModelRoute(
        provider=route.provider,
        available=available,
        parameters=model_pb2.ModelParameters(
            seed=takes.seed,
            guidance_scale=takes.guidance_scale,
            watermark=takes.watermark,
            groups=takes.groups,
            output_formats=[f"OUTPUT_FORMAT_{f.name}" for f in takes.output_formats],
        ),
        price_per_image=convert.cost(
            Cost(currency=price.currency, amount_micros=price.micros_per_image) if price else None
        ),
    )


def _sizes(rules: SizeRules, default_size: str) -> model_pb2.SizeRules:
    bounds = model_pb2.SizeBounds(
        min_side_px=rules.min_side_px,
        max_side_px=rules.max_side_px,
        min_area_px=rules.min_area_px,
        max_area_px=rules.max_area_px,
        max_aspect_ratio=rules.max_aspect,
    )
    return model_pb2.SizeRules(
        default_size=default_size,
        labels=[
            model_pb2.SizeLabel(label=label, width_px=size.width_px, height_px=size.height_px)
            for label, size in rules.labels.items()
        ],
        sizes=[str(size) for size in rules.listed],
        bounds=bounds if rules.max_area_px else None,
    )

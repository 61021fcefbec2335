"""The use case of looking at models: what each can be asked for here, and whether it is available."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from msgspec import Struct

from server.domain.catalogue import Catalogue, Model, Route, stand_in
from server.domain.errors import ProviderNotConfigured, TaskError
from server.domain.routing import Routing


class Offer(Struct, frozen=True, kw_only=True):
    """One model as this deployment offers it."""

    model: Model
    routes: Sequence[Route]
    """Who can serve it; where the local provider stands in for vendors, it is one of them."""
    available: frozenset[str]
    """The providers among them that are set up."""
    provider: str
    """Who serves a request that names none; empty: nobody."""
    unavailable: TaskError | None
    """What a request gets when nobody does."""
    default_size: str
    """What a request without a size asks for."""
    retired: bool


class Models:
    """The catalogue through the eyes of callers."""

    def __init__(self, *, catalogue: Catalogue, routing: Routing, default_size: str) -> None:
        self._catalogue = catalogue
        self._routing = routing
        self._default_size = default_size

    def page(self, *, after: str, limit: int, today: date) -> tuple[Sequence[Offer], bool]:
        """Up to `limit` models from the first one behind the model `after` ('' = from the start), and
        whether there are more. Raises ModelNotFound when there is no model `after`."""
        models = self._catalogue.models
        start = models.index(self._catalogue.find(after)) + 1 if after else 0
        end = start + limit
        return [self._offer(model, today) for model in models[start:end]], end < len(models)

    def get(self, name: str, *, today: date) -> Offer:
        """The model of this id or alias. Raises ModelNotFound."""
        return self._offer(self._catalogue.find(name), today)

    def _offer(self, model: Model, today: date) -> Offer:
        routes = list(model.routes)
        available = {route.provider for route in routes if route.provider in self._routing.configured}
        unavailable = None
        try:
            chosen = self._routing.choose(model, "")
        except ProviderNotConfigured as error:
            provider = ""
            unavailable = TaskError(reason=error.reason, message=error.message, metadata=error.metadata)
        else:
            provider = chosen.provider
            if provider not in available:
                routes.append(stand_in(model.id))
                available.add(provider)
        taken = model.sizes.resolve(self._default_size) is not None
        return Offer(
            model=model,
            routes=routes,
            available=frozenset(available),
            provider=provider,
            unavailable=unavailable,
            default_size=self._default_size.strip() if taken else model.sizes.default,
            retired=model.retired(today),
        )

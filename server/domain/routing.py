"""Who makes a model's images in this deployment."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from server.domain.catalogue import LOCAL, Model, Route, stand_in
from server.domain.errors import InvalidRequest, ProviderNotConfigured, Violation

PROVIDERS = ("ark", "jimeng", "openai", LOCAL)
"""Names that a route may have."""
GROUPS = {"volcengine": ("ark", "jimeng")}
"""Names a request may use for any one of several providers."""


def pool_code(provider: str) -> str:
    """The two characters that name the provider's queue in Redis keys."""
    return provider[:2]


class Routing(Struct, frozen=True, kw_only=True):
    """Chooses the provider of a task at acceptance."""

    configured: Collection[str]
    """Providers that are set up here."""
    stand_in: bool
    """Whether `local` takes the place of vendors that are not: development without any vendor key."""

    def choose(self, model: Model, wanted: str) -> Route:
        """The model's first route over a configured provider, among those the request admits.

        Raises InvalidRequest when the wanted provider does not serve the model, ProviderNotConfigured when
        none of those that do is set up.
        """
        serving = [route.provider for route in model.routes]
        admitted = GROUPS.get(wanted, (wanted,)) if wanted else serving
        routes = [r for r in model.routes if r.provider in admitted]
        for route in routes:
            if route.provider in self.configured:
                return route
        if self.stand_in and (routes or wanted == LOCAL):
            return stand_in(model.id)
        if not routes:
            groups = [name for name, members in GROUPS.items() if set(members) & set(serving)]
            allowed = ", ".join(
                [*serving, *groups] + ([LOCAL] if self.stand_in and LOCAL not in serving else [])
            )
            raise InvalidRequest(
                [
                    Violation(
                        field="provider",
                        description=f"{wanted[:64]!r} does not serve {model.id}; allowed: empty, {allowed}",
                    )
                ]
            )
        names = ", ".join(r.provider for r in routes)
        raise ProviderNotConfigured(
            f"Model {model.id} is served by {names}, which this deployment is not set up for, or has no "
            "adapter for. Ask its operators, or for another model.",
            metadata={"model": model.id, "provider": names},
        )

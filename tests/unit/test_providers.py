"""Which providers a deployment has, by its settings."""

from __future__ import annotations

import pytest

from server import app, parts
from server.providers import registry
from server.providers.catalogue import load_catalogue
from server.providers.contract import Provider
from server.settings import Settings, load

KEY = "sk-very-secret-key"
JIMENG = {"volcengine_access_key": "access", "volcengine_secret_key": "secret"}


def settings(**values: object) -> Settings:
    return load(None, **values)


@pytest.mark.parametrize(
    ("values", "configured", "stand_in"),
    [
        ({}, {"local"}, True),
        ({"app_environment": "production"}, {"local"}, False),
        ({"image_api_key": KEY}, {"local", "ark"}, False),
        ({"image_api_key": KEY, "app_environment": "production"}, {"local", "ark"}, False),
        (JIMENG, {"local"}, False),
        ({"openai_api_key": KEY}, {"local"}, False),
        ({"image_api_key": "  "}, {"local"}, False),
    ],
    ids=["nothing", "production", "ark", "ark in production", "jimeng", "openai", "a blank key"],
)
def test_a_key_sets_a_vendor_up(values: dict[str, object], configured: set[str], stand_in: bool) -> None:
    routing = app.routing_of(settings(**values))
    assert set(routing.configured) == configured
    assert routing.stand_in is stand_in
    assert parts.configured_providers(settings(**values)) == configured


def test_keys_that_nothing_uses_are_named() -> None:
    every = settings(image_api_key=KEY, openai_api_key=KEY, **JIMENG)
    assert app.without_adapter(every) == ["jimeng", "openai"]
    assert app.without_adapter(settings(image_api_key=KEY)) == []


def test_retired_models_that_are_still_sent_to_a_vendor_are_named() -> None:
    catalogue = load_catalogue()
    assert parts.retired_models(catalogue, app.routing_of(settings())) == []
    assert parts.retired_models(catalogue, app.routing_of(settings(image_api_key=KEY))) == [
        "doubao-seedream-4-0-250828 (2026-07-23)",
        "doubao-seedream-3-0-t2i-250415 (2026-05-13)",
    ]


@pytest.mark.parametrize("key", ["", KEY])
async def test_what_is_configured_is_built_under_its_name(key: str) -> None:
    built = registry.build(ark_api_key=key, ark_base_url="https://ark.example", fetch_private=False)
    assert set(built) == registry.configured(ark_api_key=key)
    for name, provider in built.items():
        one: Provider = provider
        assert one.name == name
        assert one.paid is (name != "local")
        assert KEY not in repr(one)
        await one.aclose()

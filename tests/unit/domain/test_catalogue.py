"""The catalogue: looking a model up, and what the built-in models are."""

from __future__ import annotations

from datetime import date

import pytest
from msgspec.structs import replace

from server.domain.catalogue import Catalogue, Model, Parameters, Route, SizeRules, stand_in
from server.domain.errors import ModelNotFound
from server.domain.money import Price
from server.domain.request import MAX_IMAGES, OutputFormat
from server.domain.routing import PROVIDERS
from server.providers.catalogue import load_catalogue


def model(name: str, *aliases: str) -> Model:
    return Model(
        id=name,
        aliases=aliases,
        routes=(Route(provider="ark", upstream_model=f"{name}-at-ark"),),
        sizes=SizeRules(default="64x64"),
    )


# --- looking up -----------------------------------------------------------------------------------


def test_a_model_is_found_by_id_and_alias() -> None:
    catalogue = Catalogue([model("a", "a-1", "a-2"), model("b")])
    assert [catalogue.find(name).id for name in ("a", "a-1", "a-2", "b")] == ["a", "a", "a", "b"]


@pytest.mark.parametrize("name", ["c", "A", " a", ""])
def test_an_unknown_model_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(ModelNotFound, match="Known models: a, b") as caught:
        Catalogue([model("a"), model("b")]).find(name)
    assert caught.value.metadata == {"model": name}


@pytest.mark.parametrize("models", [[model("a"), model("a")], [model("a"), model("b", "a")]])
def test_two_models_of_one_name_are_refused(models: list[Model]) -> None:
    with pytest.raises(ValueError, match="'a' stands twice"):
        Catalogue(models)


def test_the_route_over_a_provider() -> None:
    catalogue = Catalogue([model("a", "a-1")])
    assert catalogue.route("a", "ark") == catalogue.find("a").routes[0]
    assert catalogue.route("a-1", "ark").upstream_model == "a-at-ark"


@pytest.mark.parametrize("name", ["a", "gone"])
def test_a_vendors_model_without_a_route_is_drawn_here(name: str) -> None:
    route = Catalogue([model("a")]).route(name, "local")
    assert route == stand_in(name)
    assert route.parameters.seed
    assert route.price == Price(currency="CNY", micros_per_image=0)


def test_of_a_model_that_has_left_the_catalogue_nothing_is_taken_for_granted() -> None:
    route = Catalogue([model("a")]).route("gone", "ark")
    assert route == Route(provider="ark", upstream_model="gone", parameters=Parameters(), price=None)


@pytest.mark.parametrize(
    ("retired_date", "retired"),
    [(None, False), (date(2026, 7, 23), True), (date(2026, 7, 24), True), (date(2026, 7, 25), False)],
)
def test_a_model_is_retired_from_that_day_on(retired_date: date | None, retired: bool) -> None:
    ended = replace(model("a"), retired_date=retired_date)
    assert ended.retired(date(2026, 7, 24)) is retired


# --- the built-in file ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model_id", "provider"),
    [
        ("doubao-seedream-4-0-250828", "doubao-seedream-4-0-250828", "ark"),
        ("doubao-seedream-3-0-t2i-250415", "doubao-seedream-3-0-t2i-250415", "ark"),
        ("doubao-seedream-3.0-t2i", "doubao-seedream-3-0-t2i-250415", "ark"),
        ("doubao-seedream-4-5-251128", "doubao-seedream-4-5-251128", "ark"),
        ("doubao-seedream-5-0-lite-260128", "doubao-seedream-5-0-260128", "ark"),
        ("doubao-seedream-5-0-pro-260628", "doubao-seedream-5-0-pro-260628", "ark"),
        ("doubao-seededit-3-0-i2i-250628", "doubao-seededit-3-0-i2i-250628", "ark"),
        ("jimeng_high_aes_general_v21_L", "jimeng_high_aes_general_v21_L", "jimeng"),
        ("dall-e-3", "dall-e-3", "openai"),
        ("local-canvas", "local-canvas", "local"),
    ],
)
def test_the_built_in_models(name: str, model_id: str, provider: str) -> None:
    found = load_catalogue().find(name)
    assert (found.id, found.routes[0].provider) == (model_id, provider)


JPEG, PNG = OutputFormat.JPEG, OutputFormat.PNG
ARK_TABLE = {
    "doubao-seedream-3-0-t2i-250415": ((0, 0), {"seed", "guidance_scale"}, (JPEG,)),
    "doubao-seededit-3-0-i2i-250628": ((1, 1), {"seed", "guidance_scale"}, (JPEG,)),
    "doubao-seedream-4-0-250828": ((0, 14), {"groups"}, (JPEG,)),
    "doubao-seedream-4-5-251128": ((0, 14), {"groups"}, (JPEG,)),
    "doubao-seedream-5-0-260128": ((0, 14), {"groups"}, (JPEG, PNG)),
    "doubao-seedream-5-0-pro-260628": ((0, 10), set[str](), (JPEG, PNG)),
}
"""Ark's parameter table: references taken, optional fields, formats. Everything there takes `watermark`."""


def test_every_image_model_of_ark_takes_what_its_table_says() -> None:
    found = {}
    for known in load_catalogue().models:
        if (route := known.route("ark")) is None:
            continue
        takes = route.parameters
        assert takes.watermark, known.id
        names = {name for name in ("seed", "guidance_scale", "groups") if getattr(takes, name)}
        found[known.id] = ((known.min_references, known.max_references), names, takes.output_formats)
    assert found == ARK_TABLE


@pytest.mark.parametrize("known", load_catalogue().models, ids=lambda known: known.id)
def test_every_built_in_entry_makes_sense(known: Model) -> None:
    assert known.max_images == MAX_IMAGES
    assert "standard" in known.qualities, "the word for no preference"
    for route in known.routes:
        assert route.provider in PROVIDERS
        assert (route.price is not None) == (route.provider == "local"), "vendors' prices change any day"


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("dall-e-3", date(2026, 5, 12)),
        ("doubao-seedream-3-0-t2i-250415", date(2026, 5, 13)),
        ("doubao-seedream-4-0-250828", date(2026, 7, 23)),
        ("doubao-seedream-4-5-251128", None),
        ("local-canvas", None),
    ],
)
def test_when_models_were_retired(name: str, day: date | None) -> None:
    assert load_catalogue().find(name).retired_date == day

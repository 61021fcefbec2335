"""The catalogue: looking a model up, and a file that cannot be used says where and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.domain.catalogue import Catalogue, Model, Route, SizeRules
from server.domain.errors import ModelNotFound
from server.domain.request import OutputFormat, Size
from server.providers.catalogue import CatalogueError, load_catalogue

GOOD = """
[[model]]
id = "painter"
aliases = ["painter-1"]
routes = [{ provider = "ark", upstream = "p-1" }, { provider = "local" }]
max_references = 3
max_images = 4
output_formats = ["jpeg", "png"]
qualities = ["standard", "hd"]
[model.sizes]
default = "64x64"
labels = { "1k" = "1024x1024" }
listed = ["32x64"]
min_side_px = 16
max_area_px = 4096
max_aspect = 2.5
"""


def model(name: str, *aliases: str) -> Model:
    return Model(
        id=name,
        aliases=aliases,
        routes=(Route(provider="ark", upstream_model=f"{name}-at-ark"),),
        sizes=SizeRules(default=Size(width_px=64, height_px=64)),
    )


def loaded(directory: Path, text: str | bytes) -> Catalogue:
    path = directory / "models.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_catalogue(path)


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


@pytest.mark.parametrize(
    ("name", "provider", "upstream"),
    [("a", "ark", "a-at-ark"), ("a-1", "ark", "a-at-ark"), ("a", "local", "a"), ("gone", "ark", "gone")],
)
def test_the_name_at_the_provider(name: str, provider: str, upstream: str) -> None:
    assert Catalogue([model("a", "a-1")]).upstream_model(name, provider) == upstream


# --- the built-in file ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model_id", "provider"),
    [
        ("doubao-seedream-4-0-250828", "doubao-seedream-4-0-250828", "ark"),
        ("doubao-seedream-3-0-t2i-250415", "doubao-seedream-3-0-t2i-250415", "ark"),
        ("doubao-seedream-3.0-t2i", "doubao-seedream-3-0-t2i-250415", "ark"),
        ("jimeng_high_aes_general_v21_L", "jimeng_high_aes_general_v21_L", "jimeng"),
        ("dall-e-3", "dall-e-3", "openai"),
        ("local-canvas", "local-canvas", "local"),
    ],
)
def test_the_built_in_models(name: str, model_id: str, provider: str) -> None:
    found = load_catalogue().find(name)
    assert (found.id, found.routes[0].provider) == (model_id, provider)


# --- files ----------------------------------------------------------------------------------------


def test_everything_a_file_may_say(tmp_path: Path) -> None:
    found = loaded(tmp_path, GOOD).find("painter-1")
    assert found == Model(
        id="painter",
        aliases=("painter-1",),
        routes=(
            Route(provider="ark", upstream_model="p-1"),
            Route(provider="local", upstream_model="painter"),
        ),
        sizes=SizeRules(
            default=Size(width_px=64, height_px=64),
            labels={"1K": Size(width_px=1024, height_px=1024)},
            listed=(Size(width_px=32, height_px=64),),
            min_side_px=16,
            max_area_px=4096,
            max_aspect=2.5,
        ),
        max_references=3,
        max_images=4,
        output_formats=(OutputFormat.JPEG, OutputFormat.PNG),
        qualities=("standard", "hd"),
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("max_images = 4", "max_image = 4", "unknown field 'max_image'; known: aliases, id,"),
        ("min_side_px", "min_side", "unknown field 'min_side'; known: default, labels,"),
        ('default = "64x64"', "", "'default' is missing"),
        ('default = "64x64"', 'default = "2K"', "'2K' is not WIDTHxHEIGHT"),
        ('"1024x1024"', '"1024"', "'1024' is not WIDTHxHEIGHT"),
        ('["32x64"]', '["32"]', "'32' is not WIDTHxHEIGHT"),
        ('provider = "ark", ', "", "'provider' is missing"),
        ('["jpeg", "png"]', '["gif"]', "'gif' is not a valid OutputFormat"),
        ("max_references = 3", 'max_references = "many"', "invalid literal for int"),
    ],
)
def test_a_wrong_entry_names_file_model_and_reason(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in GOOD
    with pytest.raises(CatalogueError) as caught:
        loaded(tmp_path, GOOD.replace(old, new))
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'models.toml'}: model painter: ")
    assert reason in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD.replace('id = "painter"', ""), "model number 1: 'id' is missing"),
        (GOOD + GOOD.replace('id = "painter"', ""), "model number 2: 'id' is missing"),
        ("", "holds no [[model]]"),
        ("model = []", "holds no [[model]]"),
        (GOOD + GOOD, "model name 'painter' stands twice in the catalogue"),
        ("[[model]\n", "line 1"),
        (b"\xff", "utf-8"),
    ],
    ids=["no id", "no id later", "empty", "none", "twice", "no TOML", "no UTF-8"],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str | bytes, reason: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        loaded(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "models.toml"))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('routes = [{ provider = "ark", upstream = "p-1" }, { provider = "local" }]', "routes = []"),
        ('routes = [{ provider = "ark", upstream = "p-1" }, { provider = "local" }]', 'routes = ["ark"]'),
    ],
)
def test_a_model_needs_routes_to_named_providers(tmp_path: Path, old: str, new: str) -> None:
    assert old in GOOD
    with pytest.raises(CatalogueError, match="model painter"):
        loaded(tmp_path, GOOD.replace(old, new))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(tmp_path / "nowhere.toml")
    assert str(tmp_path / "nowhere.toml") in str(caught.value)

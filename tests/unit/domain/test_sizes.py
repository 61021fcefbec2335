"""Sizes: how they are written, and what every model of the catalogue takes, at and around each bound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.catalogue import Model, SizeRules
from server.domain.request import Size, parse_size
from server.providers.catalogue import load_catalogue

CATALOGUE = load_catalogue()
MODELS = {model.id: model for model in CATALOGUE.models}


def size(text: str) -> Size:
    width_px, height_px = text.split("x")
    return Size(width_px=int(width_px), height_px=int(height_px))


# --- how a size is written ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["1024x768", "1024X768", "1024×768", "1024*768", "  1024x768\n", "01024x768", "1024x000768"]
)
def test_forms_of_a_size(text: str) -> None:
    assert parse_size(text) == size("1024x768")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2K",
        "x",
        "1024",
        "1024x",
        "x768",
        "1024 x 768",
        "1024x768x2",
        "1024x768px",
        "-1024x768",
        "1024.0x768",
        "1e3x768",
        "1234567x1",
        "1x1234567",
        "١٠٢٤x768",
        "1024x768\x00",
    ],
)
def test_what_is_no_size(text: str) -> None:
    assert parse_size(text) is None


@pytest.mark.parametrize("text", ["0x0", "999999x999999"])
def test_nonsense_sizes_are_read_and_left_to_the_model(text: str) -> None:
    assert parse_size(text) == size(text)
    assert all(model.sizes.resolve(text) is None for model in CATALOGUE.models)


def test_a_size_is_written_as_it_is_read() -> None:
    assert parse_size(str(size("64x4096"))) == size("64x4096")


# --- what the models take -------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_listed_size_and_label_is_taken(model: Model) -> None:
    rules = model.sizes
    for listed in rules.listed:
        assert rules.resolve(f" {listed} ") == (listed, "")
    for label, meant in rules.labels.items():
        assert rules.resolve(f" {label.lower()} ") == (meant, label)
        if rules.max_area_px:
            assert rules.resolve(str(meant)) == (meant, ""), "what a label means can be asked for in pixels"
    assert rules.resolve(rules.default) is not None


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_allowed_sizes_are_told(model: Model) -> None:
    text = model.sizes.describe()
    for name in (*model.sizes.labels, *map(str, model.sizes.listed)):
        assert name in text
    if model.sizes.max_area_px:
        assert f"{model.sizes.max_area_px:,}" in text


@pytest.mark.parametrize(
    ("model", "label", "meant"),
    [
        (model, label, meant)
        for model in ("doubao-seedream-4-0-250828", "local-canvas")
        for label, meant in {"1K": "1024x1024", "2K": "2048x2048", "4K": "4096x4096"}.items()
    ],
)
def test_the_labels(model: str, label: str, meant: str) -> None:
    assert MODELS[model].sizes.resolve(label) == (size(meant), label)


@pytest.mark.parametrize("label", ["5K", "8K", "1k1", "K", "HD"])
def test_labels_that_nobody_knows(label: str) -> None:
    assert all(model.sizes.resolve(label) is None for model in CATALOGUE.models)


def test_a_label_is_sent_as_the_vendor_spells_it() -> None:
    resolved = MODELS["doubao-seededit-3-0-i2i-250628"].sizes.resolve(" Adaptive ")
    assert resolved == (size("1024x1024"), "adaptive")


def test_labels_are_known_only_to_the_models_that_list_them() -> None:
    assert MODELS["dall-e-3"].sizes.resolve("1K") is None


ARK_AREAS_PX = {
    "doubao-seedream-3-0-t2i-250415": (512**2, 2048**2),
    "doubao-seedream-4-0-250828": (921_600, 16_777_216),
    "doubao-seedream-4-5-251128": (3_686_400, 16_777_216),
    "doubao-seedream-5-0-260128": (3_686_400, 16_777_216),
    "doubao-seedream-5-0-pro-260628": (921_600, 4_194_304),
}
RECOMMENDED = ("2048x2048", "2304x1728", "1728x2304", "2560x1440", "1440x2560", "2496x1664", "3024x1296")


@given(
    model=st.sampled_from(sorted(ARK_AREAS_PX)),
    width_px=st.integers(1, 20_000),
    height_px=st.integers(1, 20_000),
)
def test_whatever_is_taken_lies_in_the_vendors_ranges(model: str, width_px: int, height_px: int) -> None:
    low, high = ARK_AREAS_PX[model]
    inside = low <= width_px * height_px <= high and max(width_px, height_px) <= 16 * min(width_px, height_px)
    resolved = MODELS[model].sizes.resolve(f"{width_px}x{height_px}")
    if resolved is not None:
        assert inside
        assert resolved == (Size(width_px=width_px, height_px=height_px), "")
    else:
        assert not inside


@pytest.mark.parametrize("text", RECOMMENDED)
def test_the_sizes_that_the_vendor_recommends_are_taken(text: str) -> None:
    for model in ("doubao-seedream-4-0-250828", "doubao-seedream-4-5-251128", "doubao-seedream-5-0-260128"):
        assert MODELS[model].sizes.resolve(text) == (size(text), "")


@dataclass(frozen=True, slots=True)
class Edge:
    """A size on a bound, which is taken, and one a step beyond it, which is not."""

    model: str
    inside: str
    outside: str


EDGES = [
    Edge("doubao-seedream-4-0-250828", "960x960", "959x960"),  # least area: 921,600
    Edge("doubao-seedream-4-0-250828", "4096x4096", "4097x4096"),  # greatest area
    Edge("doubao-seedream-4-0-250828", "3840x240", "3841x240"),  # 1:16
    Edge("doubao-seedream-4-0-250828", "240x3840", "240x3841"),
    Edge("doubao-seedream-3-0-t2i-250415", "512x512", "511x512"),  # least area
    Edge("doubao-seedream-3-0-t2i-250415", "480x1024", "255x1024"),
    Edge("doubao-seedream-3-0-t2i-250415", "2048x2048", "2049x2048"),  # greatest area
    Edge("doubao-seedream-4-5-251128", "1920x1920", "1919x1920"),  # least area: 3,686,400
    Edge("doubao-seedream-4-5-251128", "4096x4096", "4097x4096"),
    Edge("doubao-seedream-4-5-251128", "7680x480", "7681x480"),  # 1:16
    Edge("doubao-seedream-5-0-260128", "1920x1920", "1919x1920"),
    Edge("doubao-seedream-5-0-260128", "4096x4096", "4097x4096"),
    Edge("doubao-seedream-5-0-260128", "7680x480", "7681x480"),
    Edge("doubao-seedream-5-0-pro-260628", "960x960", "959x960"),
    Edge("doubao-seedream-5-0-pro-260628", "2048x2048", "2049x2048"),
    Edge("doubao-seedream-5-0-pro-260628", "3840x240", "3841x240"),  # 1:16
    Edge("doubao-seededit-3-0-i2i-250628", "adaptive", "1024x1024"),  # the label, and nothing beside it
    Edge("jimeng_high_aes_general_v21_L", "256x256", "255x257"),
    Edge("jimeng_high_aes_general_v21_L", "768x768", "769x768"),
    Edge("jimeng_high_aes_general_v21_L", "256x768", "256x769"),  # 1:3
    Edge("jimeng_high_aes_general_v21_L", "768x256", "768x255"),
    Edge("dall-e-3", "1024x1792", "1024x1791"),  # a list, and nothing between
    Edge("dall-e-3", "1792x1024", "1792x1025"),
    Edge("local-canvas", "64x64", "63x64"),
    Edge("local-canvas", "64x1024", "64x1025"),  # 1:16
    Edge("local-canvas", "4096x4096", "4097x4096"),
    Edge("local-canvas", "4096x256", "4096x255"),
]


@pytest.mark.parametrize("edge", EDGES, ids=lambda e: f"{e.model}-{e.inside}")
def test_each_bound_and_a_step_beyond(edge: Edge) -> None:
    rules = MODELS[edge.model].sizes
    label = edge.inside if edge.inside in rules.labels else ""
    assert rules.resolve(edge.inside) == (rules.labels.get(edge.inside) or size(edge.inside), label)
    assert rules.resolve(edge.outside) is None


def test_every_model_of_the_catalogue_has_its_edges() -> None:
    assert {edge.model for edge in EDGES} == set(MODELS)


SQUARE_MILLION = SizeRules(
    default="1000x1000",
    min_side_px=500,
    max_side_px=2_000,
    min_area_px=900_000,
    max_area_px=1_100_000,
    max_aspect=3.0,
)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("1000x900", True),  # least area
        ("1000x899", False),
        ("1000x1100", True),  # greatest area
        ("1000x1101", False),
        ("578x1730", True),  # 1:2.99
        ("577x1732", False),  # 1:3.002
        ("500x2000", False),  # sides and area are right, 1:4 is not
    ],
)
def test_each_rule_alone(text: str, taken: bool) -> None:
    assert (SQUARE_MILLION.resolve(text) is not None) is taken


@pytest.mark.parametrize(
    ("aspect", "text", "taken"), [(4.0, "500x2000", True), (4.0, "499x1996", False), (5.0, "450x2001", False)]
)
def test_the_sides_alone(aspect: float, text: str, taken: bool) -> None:
    rules = SizeRules(
        default="1000x1000",
        min_side_px=500,
        max_side_px=2_000,
        max_area_px=10_000_000,
        max_aspect=aspect,
    )
    assert (rules.resolve(text) is not None) is taken


def test_without_an_area_only_the_list_is_taken() -> None:
    rules = SizeRules(default="8x8", listed=(size("8x8"),), max_aspect=math.inf)
    assert rules.resolve("8x8") == (size("8x8"), "")
    assert rules.resolve("9x9") is None

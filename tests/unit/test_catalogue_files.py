"""A deployment's own catalogue file: what it may say, and what is said about a wrong one."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from server.domain.catalogue import Catalogue, Model, Parameters, Route, SizeRules
from server.domain.money import Price
from server.domain.references import ReferenceRules
from server.domain.request import OutputFormat, Size
from server.domain.task import TaskType
from server.providers.catalogue import CatalogueError, load_catalogue
from server.providers.catalogue_lines import line_of

GOOD = """\
# A model of ours.
[[model]]
id = "painter"
type = "image"
aliases = ["painter-1"]
routes = [
  { provider = "ark", upstream = "ep-1", price = { currency = "USD", per_image = 0.04 } },
  { provider = "local" },
]
min_references = 1
max_references = 3
max_images = 4
qualities = ["standard", "hd"]
retired = 2027-01-31
price = { currency = "CNY", per_image = 0.25 }

[model.parameters]
seed = true
guidance_scale = true
watermark = true
groups = true
output_formats = ["png", "jpeg"]

[model.sizes]
default = "1k"
listed = ["32x64"]
min_side_px = 16
max_area_px = 4096
max_aspect = 2.5

[model.sizes.labels]
1K = "1024x1024"

[model.references]
formats = ["jpeg", "png"]
max_bytes = 4096
min_side_px = 20
max_area_px = 1_000_000
max_aspect = 3
"""


def loaded(directory: Path, text: str | bytes) -> Catalogue:
    path = directory / "models.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_catalogue(path)


def faults(directory: Path, text: str | bytes) -> list[str]:
    """What is said about the file, its name left out."""
    with pytest.raises(CatalogueError) as caught:
        loaded(directory, text)
    lines = str(caught.value).splitlines()
    head = f"{directory / 'models.toml'}: "
    assert all(line.startswith(head) for line in lines)
    return [line.removeprefix(head) for line in lines]


# --- files that are right -------------------------------------------------------------------------


def test_everything_a_file_may_say(tmp_path: Path) -> None:
    takes = Parameters(
        seed=True,
        guidance_scale=True,
        watermark=True,
        groups=True,
        output_formats=(OutputFormat.PNG, OutputFormat.JPEG),
    )
    assert loaded(tmp_path, GOOD).find("painter-1") == Model(
        id="painter",
        type=TaskType.IMAGE,
        aliases=("painter-1",),
        routes=(
            Route(
                provider="ark",
                upstream_model="ep-1",
                parameters=takes,
                price=Price(currency="USD", micros_per_image=40_000),
            ),
            Route(
                provider="local",
                upstream_model="painter",
                parameters=takes,
                price=Price(currency="CNY", micros_per_image=250_000),
            ),
        ),
        sizes=SizeRules(
            default="1k",
            labels={"1K": Size(width_px=1024, height_px=1024)},
            listed=(Size(width_px=32, height_px=64),),
            min_side_px=16,
            max_area_px=4096,
            max_aspect=2.5,
        ),
        min_references=1,
        max_references=3,
        reference_rules=ReferenceRules(
            formats=("JPEG", "PNG"), max_bytes=4096, min_side_px=20, max_area_px=1_000_000, max_aspect=3
        ),
        max_images=4,
        qualities=("standard", "hd"),
        retired_date=date(2027, 1, 31),
    )


def test_a_model_needs_little(tmp_path: Path) -> None:
    text = (
        '[[model]]\nid = "m"\nroutes = [{ provider = "ark" }]\nsizes = { default = "8x8", listed = ["8x8"] }'
    )
    found = loaded(tmp_path, text).find("m")
    assert found.routes == (Route(provider="ark", upstream_model="m", parameters=Parameters(), price=None),)
    assert (found.max_references, found.max_images, found.retired_date) == (0, 15, None)
    assert found.reference_rules == ReferenceRules(), "all that the service takes"


def test_the_built_in_models_stay(tmp_path: Path) -> None:
    built_in = load_catalogue()
    assert loaded(tmp_path, GOOD).models[:-1] == built_in.models


def test_an_entry_of_a_known_id_changes_only_what_it_names(tmp_path: Path) -> None:
    text = """
    [[model]]
    id = "doubao-seedream-4-0-250828"
    routes = [{ provider = "ark", upstream = "ep-20260101" }]
    price = { currency = "CNY", per_image = 0.2 }
    """
    before = load_catalogue().find("doubao-seedream-4-0-250828")
    after = loaded(tmp_path, text).find("doubao-seedream-4.0")
    [route] = after.routes
    assert (route.upstream_model, route.parameters) == ("ep-20260101", before.routes[0].parameters)
    assert route.price == Price(currency="CNY", micros_per_image=200_000)
    assert (after.sizes, after.aliases, after.retired_date) == (
        before.sizes,
        before.aliases,
        before.retired_date,
    )


@pytest.mark.parametrize(
    ("written", "micros"),
    [("0", 0), ("0.000001", 1), ("0.1", 100_000), ("0.259", 259_000), ("12", 12_000_000)],
)
def test_a_price_is_exact(tmp_path: Path, written: str, micros: int) -> None:
    found = loaded(tmp_path, GOOD.replace("per_image = 0.25", f"per_image = {written}")).find("painter")
    assert found.routes[1].price == Price(currency="CNY", micros_per_image=micros)


# --- files that are wrong -------------------------------------------------------------------------

WRONG = {
    "unknown field": (
        "max_images = 4",
        "max_image = 4",
        "line 12: model painter: max_image: is not known; known: aliases, id, max_images,",
    ),
    "unknown field of sizes": (
        "min_side_px",
        "min_side",
        "line 27: model painter: sizes.min_side: is not known; known: default, labels, listed,",
    ),
    "unknown parameter": (
        "groups = true",
        "group = true",
        "line 21: model painter: parameters.group: is not known; known: groups, guidance_scale,",
    ),
    "unknown field of a route": (
        "upstream =",
        "upstrem =",
        "line 6: model painter: routes[0].upstrem: is not known; known: price, provider, upstream",
    ),
    "unknown provider": (
        '"ark"',
        '"arc"',
        "line 6: model painter: routes[0].provider: 'arc' is not known; known:",
    ),
    "no provider": ('provider = "ark", ', "", "line 6: model painter: routes[0].provider: is missing"),
    "one provider twice": (
        '"local" }',
        '"ark", upstream = "ep-2" }',
        "line 6: model painter: routes[1]: provider 'ark' stands in routes[0] already; each may stand once",
    ),
    "unknown type": (
        'type = "image"',
        'type = "sound"',
        "line 4: model painter: type: Input should be 'image'",
    ),
    "blank in an id": ('"painter"', '"the painter"', "line 3: model the painter: id: "),
    "number for an alias": (
        '["painter-1"]',
        "[1]",
        "line 5: model painter: aliases[0]: Input should be a valid string",
    ),
    "text for a number": (
        "max_references = 3",
        'max_references = "3"',
        "line 11: model painter: max_references: ",
    ),
    "too many references": (
        "max_references = 3",
        "max_references = 15",
        "line 11: model painter: max_references: ",
    ),
    "more needed than taken": (
        "min_references = 1",
        "min_references = 4",
        "line 2: model painter: min_references may",
    ),
    "no image": ("max_images = 4", "max_images = 0", "line 12: model painter: max_images: "),
    "no quality": ('["standard", "hd"]', "[]", "line 13: model painter: qualities: "),
    "no date": ("2027-01-31", '"soon"', "line 14: model painter: retired: "),
    "currency in words": ('"CNY"', '"yuan"', "line 15: model painter: price.currency: "),
    "negative price": ("0.25", "-0.25", "line 15: model painter: price.per_image: "),
    "price of no whole micros": (
        "0.25",
        "0.2500001",
        "line 15: model painter: price: per_image has at most six",
    ),
    "number for a switch": ("seed = true", "seed = 1", "line 18: model painter: parameters.seed: "),
    "unknown format": (
        '"png", "jpeg"',
        '"gif"',
        "line 22: model painter: parameters.output_formats[0]: 'gif' is not known; known: png, jpeg, webp",
    ),
    "no default": ('default = "1k"\n', "", "line 24: model painter: sizes.default: is missing"),
    "default that is no size of the model": (
        'default = "1k"',
        'default = "2K"',
        "line 24: model painter: sizes: default '2K' is none of the model's sizes; allowed: 1K or 32x64 or",
    ),
    "label without pixels": (
        '"1024x1024"',
        '"1024"',
        "line 32: model painter: sizes.labels.1K: '1024' is not WIDTHxHEIGHT",
    ),
    "listed without pixels": (
        '["32x64"]',
        '["32"]',
        "line 26: model painter: sizes.listed[0]: '32' is not WIDTHxHEIGHT",
    ),
    "bounds upside down": (
        "min_side_px = 16",
        "min_side_px = 20000",
        "line 24: model painter: sizes: min_side_px and",
    ),
    "unknown format of references": (
        '["jpeg", "png"]\nmax_bytes',
        '["jpg"]\nmax_bytes',
        "line 35: model painter: references.formats[0]: 'jpg' is not known; known: png, jpeg, webp, gif,",
    ),
    "unknown rule of references": (
        "max_bytes = 4096",
        "max_byte = 4096",
        "line 36: model painter: references.max_byte: is not known; known: formats, max_area_px, max_aspect,",
    ),
    "more bytes of a reference than the service takes": (
        "max_bytes = 4096",
        "max_bytes = 10_485_761",
        "line 36: model painter: references.max_bytes: Input should be less than or equal to 10485760",
    ),
    "smaller references than the service takes": (
        "min_side_px = 20",
        "min_side_px = 14",
        "line 37: model painter: references.min_side_px: Input should be greater than or equal to 15",
    ),
    "larger references than the service takes": (
        "1_000_000",
        "36_000_001",
        "line 38: model painter: references.max_area_px: Input should be less than or equal to 36000000",
    ),
    "longer references than the service takes": (
        "max_aspect = 3",
        "max_aspect = 16.1",
        "line 39: model painter: references.max_aspect: Input should be less than or equal to 16",
    ),
    "rules that no reference keeps to": (
        "min_side_px = 20",
        "min_side_px = 1001",
        "line 34: model painter: references: min_side_px squared may not exceed max_area_px",
    ),
    "name of a built-in model": (
        '["painter-1"]',
        '["dall-e-3"]',
        "line 5: model painter: 'dall-e-3' is a name of dall-e-3 and of painter",
    ),
}


@pytest.mark.parametrize(("old", "new", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_entry_names_line_model_field_and_reason(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    assert old in GOOD
    [fault] = faults(tmp_path, GOOD.replace(old, new, 1))
    assert fault.startswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD.replace('id = "painter"', ""), "line 2: model number 1: id: is missing"),
        (GOOD + GOOD, "line 42: model painter: stands twice in this file"),
        ("", "line 1: expected [[model]] tables and nothing else"),
        ("model = 1", "line 1: expected [[model]] tables and nothing else"),
        ("[[models]]", "line 1: expected [[model]] tables and nothing else, not 'models'"),
        ("[[model]]\n[[model]\n", "Expected ']]' at the end of an array declaration (at line 2, column 8)"),
        (b"\xff", "cannot be read: 'utf-8' codec"),
    ],
    ids=["no id", "twice", "empty", "no table", "other table", "no TOML", "no UTF-8"],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str | bytes, told: str) -> None:
    [fault] = faults(tmp_path, text)
    assert fault.startswith(told)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    second = GOOD.replace("painter", "other").replace("max_images = 4", "max_images = 16")
    told = faults(tmp_path, GOOD.replace("seed = true", 'seed = "no"').replace('"hd"]', '""]') + second)
    assert [fault.split(": ")[:3] for fault in told] == [
        ["line 13", "model painter", "qualities[1]"],
        ["line 18", "model painter", "parameters.seed"],
        ["line 51", "model other", "max_images"],
    ]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"cannot be read: .*No such file") as caught:
        load_catalogue(tmp_path / "nowhere.toml")
    assert str(caught.value).startswith(str(tmp_path / "nowhere.toml"))


@pytest.mark.parametrize(
    ("field", "line"),
    [
        (("sizes", "labels", "2K"), 5),
        (("sizes", "labels", "3K"), 4),
        (("sizes", "default"), 3),
        (("price", "currency"), 6),
        ((), 1),
    ],
)
def test_a_field_is_found_however_it_is_written(field: tuple[str, ...], line: int) -> None:
    text = (
        '[[model]]\n[ model . sizes ]\n  default="1x1"\n[model.sizes."labels"]\n"2K"="1x1"\n[model.price]\n'
    )
    assert line_of(text, 0, field) == line


def test_of_routes_with_a_table_each_the_one_at_fault_is_named(tmp_path: Path) -> None:
    """Tables in place of one list: both the second of a provider and an unknown one have a line."""
    head, _, tail = GOOD.partition("routes = [")
    rest = tail.partition("\n]\n")[2]
    tables = "".join(f'\n[[model.routes]]\nprovider = "{name}"\n' for name in ("ark", "local", "{}"))
    for third, told in (
        ("ark", "line 43: model painter: routes[2]: provider 'ark' stands in routes[0] already;"),
        ("arc", "line 44: model painter: routes[2].provider: 'arc' is not known;"),
    ):
        [fault] = faults(tmp_path, head + rest + tables.replace("{}", third))
        assert fault.startswith(told)

"""The catalogue's rules of reference images and the loopback Ark's: what one admits, the other takes."""

from __future__ import annotations

import base64
import io
from functools import cache

import pytest
from PIL import Image

from server.domain.references import FORMATS
from server.domain.request import MAX_IMAGES, MAX_REFERENCE_BYTES
from server.providers.catalogue import load_catalogue
from server.service.references import picture_fault
from tests.integration.api.requests import padded
from tests.upstreams.ark_images import Refused
from tests.upstreams.ark_models import MODELS
from tests.upstreams.ark_rules import accept

CATALOGUE = load_catalogue()
SIZES = [
    *((64, 48), (14, 14), (14, 15), (15, 14), (15, 15)),
    *((90, 30), (91, 30), (30, 90), (30, 91), (15, 240), (15, 241), (240, 15), (241, 15)),
    *((6_000, 6_000), (6_000, 6_001), (24_000, 1_500)),
]
"""At and beyond every bound that a model of Ark has."""


@cache
def drawn(width_px: int, height_px: int, kind: str = "PNG") -> bytes:
    """A picture of two colours at most: the largest ones shall be small."""
    file = io.BytesIO()
    Image.new("1" if kind == "PNG" else "L", (width_px, height_px)).save(file, kind)
    return file.getvalue()


def many_in_one() -> bytes:
    """A JPEG file as some cameras write it: with a second picture behind the first."""
    file = io.BytesIO()
    first, second = Image.new("L", (64, 48)), Image.new("L", (32, 24))
    first.save(file, "MPO", save_all=True, append_images=[second])
    return file.getvalue()


def taken_by_ark(model: str, kind: str, *pictures: bytes) -> bool:
    """Whether the loopback Ark's endpoint would make an image of these."""
    images = [f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}" for data in pictures]
    try:
        accept({"model": model, "prompt": "a heron", "image": images})
    except Refused:
        return False
    return True


EDITING = [model.id for model in CATALOGUE.models if model.route("ark") is not None and model.max_references]


@pytest.mark.parametrize("name", EDITING)
def test_both_take_the_same_pictures(name: str) -> None:
    known = CATALOGUE.find(name)
    pictures = {f"{kind} 64x48": (kind, drawn(64, 48, kind)) for kind in FORMATS}
    pictures |= {f"PNG {width}x{height}": ("PNG", drawn(width, height)) for width, height in SIZES}
    pictures |= {f"PNG of {n} bytes": ("PNG", padded(MAX_REFERENCE_BYTES + n)) for n in (0, 1)}
    pictures |= {"JPEG of two pictures": ("JPEG", many_in_one()), "no picture": ("PNG", b"no picture")}
    admitted = {
        title for title, (_, data) in pictures.items() if picture_fault(data, known.reference_rules) is None
    }
    taken = {title for title, (kind, data) in pictures.items() if taken_by_ark(name, kind, data)}
    assert admitted == taken
    assert 0 < len(admitted) < len(pictures)


@pytest.mark.parametrize("name", MODELS)
def test_both_take_the_same_number_of_pictures(name: str) -> None:
    known = CATALOGUE.find(name)
    admitted = [known.min_references <= count <= known.max_references for count in range(MAX_IMAGES)]
    assert admitted == [taken_by_ark(name, "PNG", *[drawn(64, 48)] * count) for count in range(MAX_IMAGES)]


def test_every_model_that_takes_references_is_looked_at() -> None:
    assert {CATALOGUE.find(name).id for name, rules in MODELS.items() if rules.max_references} == set(EDITING)

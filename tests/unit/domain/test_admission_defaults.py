"""Admission: what is filled in where a request does not say, and that what it says is kept."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from server.domain.admission import Draft
from server.domain.catalogue import Catalogue
from server.domain.request import OutputFormat, Size
from server.domain.task import Priority
from tests.unit.domain.drafts import BYTES, CANVAS, DEFAULTS, GOOD, SEED, admitted, draft, square


def test_an_empty_request_gets_the_defaults() -> None:
    result = admitted(GOOD)
    assert result.model is CANVAS
    assert result.route is CANVAS.routes[0]
    assert (result.ttl_ms, result.max_paid_attempts) == (3_600_000, 2)
    request = result.request
    assert (request.size, request.size_label) == (square(2048), "2K")
    assert (request.seed, request.guidance_scale, request.watermark) == (SEED, None, False)
    assert (request.output_format, request.quality) == (OutputFormat.PNG, "")
    assert (request.sequence, request.max_images, request.references) == (False, 1, ())


def test_what_was_asked_for_is_kept() -> None:
    asked = Draft(
        prompt=" a cat ",
        model="canvas",
        size="640x480",
        watermark=True,
        seed=0,
        guidance_scale=2.5,
        quality="standard",
        output_format=OutputFormat.WEBP,
        negative_prompt=" dogs ",
        priority=Priority.LOW,
        ttl_ms=1_500,
        max_paid_attempts=1,
        sequence=True,
        max_images=2,
    )
    result = admitted(asked)
    request = result.request
    assert (request.prompt, request.negative_prompt) == (" a cat ", " dogs "), "prompts are taken as they are"
    assert (request.size, request.size_label) == (Size(width_px=640, height_px=480), "")
    assert (request.seed, request.guidance_scale, request.watermark) == (0, 2.5, True)
    assert (request.output_format, request.quality) == (OutputFormat.WEBP, "standard")
    assert (request.sequence, request.max_images) == (True, 2)
    assert (result.ttl_ms, result.max_paid_attempts) == (1_500, 1)


@pytest.mark.parametrize(
    ("model", "default", "size", "label"),
    [
        ("canvas", "2K", square(2048), "2K"),
        ("canvas", "1k", square(1024), "1K"),
        ("canvas", "100x200", Size(width_px=100, height_px=200), ""),
        ("canvas", "8K", square(512), ""),  # the model does not take it: its own
        ("canvas", "", square(512), ""),
        ("sketch", "2K", square(256), ""),
        ("sketch", "256x256", square(256), ""),
    ],
)
def test_an_empty_size_is_the_deployments_if_the_model_takes_it(
    model: str, default: str, size: Size, label: str
) -> None:
    request = admitted(draft(model=model), defaults=replace(DEFAULTS, size=default)).request
    assert (request.size, request.size_label) == (size, label)


@pytest.mark.parametrize(("references", "most", "images"), [(0, 15, 4), (12, 15, 3), (14, 15, 1), (0, 2, 2)])
def test_so_many_images_as_there_is_room_for(references: int, most: int, images: int) -> None:
    """The default is nobody's wish: it gives way to the references and to what the model makes."""
    model = replace(CANVAS, max_images=most)
    asked = draft(sequence=True, references=(BYTES,) * references)
    assert admitted(asked, catalogue=Catalogue([model])).request.max_images == images


@pytest.mark.parametrize("seed", [None, -1])
def test_a_random_seed_is_chosen_once_and_kept(seed: int | None) -> None:
    assert admitted(draft(seed=seed)).request.seed == SEED


def test_a_model_makes_its_first_format() -> None:
    assert admitted(draft(model="sketch")).request.output_format is OutputFormat.JPEG


@pytest.mark.parametrize(("asked", "wanted"), [(0, 4), (1, 1), (15, 15)])
def test_a_sequence_has_four_images_unless_it_says(asked: int, wanted: int) -> None:
    request = admitted(draft(sequence=True, max_images=asked)).request
    assert (request.sequence, request.max_images) == (True, wanted)

"""Requests as sent, and a small deployment that admits them: what admission's tests begin with."""

from __future__ import annotations

from msgspec.structs import replace

from server.domain.admission import Admitted, Defaults, Draft, DraftReference, admit
from server.domain.catalogue import Catalogue, Model, Parameters, Route, SizeRules, stand_in
from server.domain.request import OutputFormat, Size
from server.domain.routing import Routing


def square(side_px: int) -> Size:
    return Size(width_px=side_px, height_px=side_px)


CANVAS = Model(
    id="canvas",
    aliases=("canvas-1",),
    routes=(stand_in("canvas"),),
    sizes=SizeRules(
        default="512x512",
        labels={"1K": square(1024), "2K": square(2048)},
        min_side_px=64,
        max_side_px=4096,
        max_area_px=4096**2,
    ),
    max_references=20,
)
SKETCH = Model(
    id="sketch",
    routes=(
        Route(
            provider="local",
            upstream_model="sketch",
            parameters=Parameters(
                seed=True, guidance_scale=True, output_formats=(OutputFormat.JPEG, OutputFormat.PNG)
            ),
        ),
    ),
    sizes=SizeRules(default="256x256", listed=(square(256),)),
    max_references=2,
    max_images=3,
    qualities=("standard", "hd"),
)
BLIND = replace(SKETCH, id="blind", max_references=0)
PLAIN = replace(SKETCH, id="plain", routes=(Route(provider="local", upstream_model="plain"),))
"""Takes no field that a model may lack."""
EDITOR = replace(SKETCH, id="editor", min_references=1)
ELSEWHERE = Model(
    id="elsewhere",
    routes=(Route(provider="ark", upstream_model="elsewhere"),),
    sizes=SizeRules(default="64x64", listed=(square(64),)),
)
CATALOGUE = Catalogue([CANVAS, SKETCH, BLIND, PLAIN, EDITOR, ELSEWHERE])
ROUTING = Routing(configured=frozenset({"local"}), stand_in=False)
DEFAULTS = Defaults(model="canvas", size="2K", max_paid_attempts=2)
SEED = 4711

GOOD = Draft(prompt="a cat")
BYTES = DraftReference(kind="data", data=b"picture")
OUTPUT = DraftReference(kind="output", task_id="01ARZ3NDEKTSV4RRFFQ69G5FAV", index=0)


def draft(**changes: object) -> Draft:
    """A good request, but for these fields."""
    return replace(GOOD, **changes)


def admitted(draft: Draft, *, defaults: Defaults = DEFAULTS, catalogue: Catalogue = CATALOGUE) -> Admitted:
    """What becomes of the request here; the seed of one without is SEED, and references look good."""
    return admit(
        draft, catalogue=catalogue, routing=ROUTING, defaults=defaults, seed=SEED, look=lambda *_: None
    )

"""Sitting animals that look at the painter: cat, dog, fox, rabbit and panda.

Everything is drawn at a height of 1 over the point the animal sits on, and scaled when it is painted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from msgspec import Struct

from server.providers.painter.canvas import Canvas, Path, Point
from server.providers.painter.colour import Colour, lch, mix, shade
from server.providers.painter.geometry import both, curve, ellipse, placed, points, stroke
from server.providers.painter.scene import Scene

# Lightness, chroma, hue.
_COATS: dict[str, tuple[float, float, float]] = {
    "ginger": (0.76, 0.125, 62),
    "grey": (0.66, 0.02, 250),
    "white": (0.955, 0.012, 85),
    "black": (0.30, 0.015, 280),
    "cream": (0.88, 0.05, 75),
    "brown": (0.58, 0.075, 55),
    "red": (0.66, 0.15, 48),
}


class _Build(Struct, frozen=True, kw_only=True):
    coats: tuple[str, ...]
    ears: str
    tail: str = ""
    muzzle: float
    """How far the muzzle stands out, 0-1."""
    whiskers: bool = False
    cat_eyes: bool = False
    limbs: str = ""
    """The coat of legs, ears and shoulders where it is not that of the body."""
    dyed: bool = True
    """Whether a coat named by the prompt is taken."""


_BUILDS = {
    "cat": _Build(
        coats=("ginger", "grey", "white", "cream", "black"),
        ears="pointed",
        tail="long",
        muzzle=0.35,
        whiskers=True,
        cat_eyes=True,
    ),
    "dog": _Build(coats=("cream", "brown", "ginger", "white"), ears="hanging", tail="short", muzzle=1.0),
    "fox": _Build(
        coats=("red",), ears="pointed", tail="bushy", muzzle=0.7, whiskers=True, cat_eyes=True, dyed=False
    ),
    "rabbit": _Build(coats=("white", "grey", "cream", "brown"), ears="long", muzzle=0.35, whiskers=True),
    "panda": _Build(coats=("white",), ears="round", muzzle=0.6, limbs="black", dyed=False),
}

_BODY = curve(
    points("0,-.6 .15,-.53 .24,-.28 .27,-.08 .19,0 -.19,0 -.27,-.08 -.24,-.28 -.15,-.53"), closed=True
)
_SHOULDERS = curve(points("-.2,-.5 0,-.56 .2,-.5 .22,-.36 0,-.42 -.22,-.36"), closed=True)
_CHEST = curve(points("0,-.52 .085,-.45 .09,-.28 0,-.14 -.09,-.28 -.085,-.45"), closed=True)
_HAUNCHES = both(ellipse(0.2, -0.115, 0.115, 0.12))
_LEGS = [
    *both(stroke(curve(points(".095,-.36 .085,-.2 .08,-.03")), 0.115, 0.095)),
    *both(ellipse(0.095, -0.36, 0.0575)),
]
_PAWS = [*both(ellipse(0.085, -0.028, 0.066, 0.036)), *both(ellipse(0.235, -0.026, 0.075, 0.034))]
_SKULL = curve(
    points(
        "0,-.895 .13,-.875 .225,-.775 .245,-.655 .17,-.555 0,-.52 "
        "-.17,-.555 -.245,-.655 -.225,-.775 -.13,-.875"
    ),
    closed=True,
)
_TAILS: dict[str, list[Path]] = {
    "long": [
        stroke(curve(points(".18,-.06 .36,-.05 .43,-.2 .37,-.36 .44,-.47")), 0.085, 0.06),
        ellipse(0.44, -0.47, 0.03),
    ],
    "short": [stroke(curve(points(".2,-.12 .32,-.2 .36,-.34")), 0.09, 0.03)],
    "bushy": [curve(points(".14,-.04 .34,-.01 .5,-.12 .53,-.32 .46,-.47 .38,-.32 .3,-.17"), closed=True)],
}
_TAIL_TIP = curve(points(".525,-.3 .46,-.47 .405,-.36 .46,-.33"), closed=True)
_EARS: dict[str, list[Path]] = {
    "pointed": [*both(curve(points(".05,-.86 .13,-.965 .19,-1.03 .22,-.9 .24,-.74")))],
    "long": [*both(ellipse(0.1, -1.08, 0.065, 0.24, turn=0.17))],
    "round": [*both(ellipse(0.185, -0.87, 0.085))],
    "hanging": [*both(curve(points(".12,-.87 .24,-.85 .31,-.66 .25,-.56 .2,-.66"), closed=True))],
}
_INNER_EARS: dict[str, list[Path]] = {
    "pointed": [*both(points(".1,-.87 .18,-.98 .205,-.83"))],
    "long": [*both(ellipse(0.102, -1.07, 0.033, 0.18, turn=0.17))],
}
_HEAD_STRIPES = [
    *(stroke([(x, -0.885), (x * 0.7, -0.795)], 0.026, 0.006) for x in (-0.075, 0.0, 0.075)),
    *(side for y in (-0.69, -0.645) for side in both(stroke([(0.238, y), (0.16, y + 0.012)], 0.022, 0.004))),
]
_BODY_STRIPES = [
    side for y in (-0.36, -0.29, -0.22) for side in both(stroke([(0.245, y), (0.15, y + 0.03)], 0.026, 0.006))
]
_FOX_MASK = both(curve(points(".03,-.6 .14,-.68 .235,-.66 .15,-.56 0,-.525"), closed=True))
_WHISKERS = [
    side
    for row in range(3)
    for side in both(stroke([(0.09, -0.615 + 0.014 * row), (0.31, -0.65 + 0.04 * row)], 0.006, 0.003))
]


class _Colours(Struct, frozen=True, kw_only=True):
    coat: Colour
    pale: Colour
    dark: Colour
    limbs: Colour
    pink: Colour
    ink: Colour
    white: Colour
    iris: Colour


def is_animal(subject: str | None) -> bool:
    """Whether `paint_animal` knows it."""
    return subject in _BUILDS


def paint_animal(canvas: Canvas, scene: Scene, subject: str, *, x: float, y: float, size: float) -> None:
    """Paint the animal sitting at (x, y); `size` is its height in pixels, without the ears of a rabbit."""
    build, palette = _BUILDS[subject], scene.palette
    drawn = scene.chance("coat").choice(build.coats)
    coat = scene.coat if build.dyed and scene.coat in _COATS else drawn
    colours = _colours_of(scene, build, coat)
    nod = 0.06 * math.sin(scene.progress * 7)
    cos, sin = math.cos(nod), math.sin(nod)

    def paint(
        outlines: Sequence[Path], colour: Colour, foot: Colour | None = None, alpha: float = 1.0
    ) -> None:
        paths = [placed(outline, x, y, size, flip=scene.side > 0) for outline in outlines]
        canvas.fill(paths, colour, foot=foot, alpha=alpha)

    def paint_head(
        outlines: Sequence[Path], colour: Colour, foot: Colour | None = None, alpha: float = 1.0
    ) -> None:
        turned = [
            [(px * cos - (py + 0.5) * sin, px * sin + (py + 0.5) * cos - 0.5) for px, py in outline]
            for outline in outlines
        ]
        paint(turned, colour, foot, alpha)

    canvas.fill([ellipse(x, y - size * 0.005, size * 0.4, size * 0.05)], palette.near, alpha=0.35)
    dark, limbs = colours.dark, colours.limbs
    if build.tail:
        paint(_TAILS[build.tail], mix(colours.coat, dark, 0.25))
    if build.tail == "bushy":
        paint([_TAIL_TIP], colours.pale)
    paint([_BODY], mix(colours.coat, dark, 0.1), mix(colours.coat, dark, 0.45))
    if build.limbs:
        paint([*_HAUNCHES, _SHOULDERS, *_LEGS, *_PAWS], limbs)
    else:
        paint(_HAUNCHES, mix(limbs, dark, 0.16), mix(limbs, dark, 0.3))
        paint([_CHEST], colours.pale)
        paint(_LEGS, limbs, mix(limbs, colours.pale, 0.25))
        paint(_PAWS, colours.pale, mix(colours.pale, dark, 0.25))
    paint_head(_EARS[build.ears], dark if build.ears == "hanging" else mix(limbs, dark, 0.1))
    if build.ears in _INNER_EARS:
        paint_head(_INNER_EARS[build.ears], colours.pink, alpha=0.85)
    paint_head([_SKULL], shade(colours.coat, lighter=0.015), mix(colours.coat, dark, 0.12))
    if subject == "cat" and coat in ("ginger", "grey", "cream"):
        paint_head(_HEAD_STRIPES, dark, alpha=0.75)
        paint(_BODY_STRIPES, dark, alpha=0.6)
    if subject == "fox":
        paint_head(_FOX_MASK, colours.pale)
    _paint_face(paint_head, build, colours)
    # The side towards the light shines.
    paint_head(
        [stroke(curve(points("-.245,-.655 -.225,-.775 -.13,-.875")), 0.006, 0.016)], palette.light, alpha=0.55
    )
    paint([stroke(curve(points("-.15,-.52 -.238,-.28 -.268,-.08")), 0.006, 0.014)], palette.light, alpha=0.4)


def _colours_of(scene: Scene, build: _Build, coat: str) -> _Colours:
    """The colours of the coat as they look in this light."""
    palette = scene.palette
    ambient = mix(palette.haze, palette.light, 0.5)
    lightness, chroma, hue = _COATS[coat]

    def tone(colour: Colour, tint: float = 1.0) -> Colour:
        dimmed = shade(
            colour, lighter=-0.34 * palette.darkness * colour[0], vivid=1 - 0.35 * palette.darkness
        )
        return mix(dimmed, ambient, (0.12 + 0.1 * palette.darkness) * tint)

    pale = lch(min(0.97, lightness + 0.2), chroma * 0.3, hue + 8)
    if coat == "black":
        pale = lch(0.42, 0.015, 280)
    green_eyed = coat in ("black", "grey", "white")
    return _Colours(
        coat=tone(lch(lightness, chroma, hue)),
        pale=tone(pale),
        dark=tone(lch(lightness * 0.72, chroma * 1.05, hue - 12)),
        limbs=tone(lch(*_COATS[build.limbs or coat])),
        pink=tone(lch(0.8, 0.07, 15)),
        ink=tone(lch(0.2, 0.02, 280), 0.3),
        white=tone((0.99, 0.0, 0.0), 0.3),
        iris=tone(lch(0.78, 0.13, 120 if green_eyed else 85), 0.3),
    )


def _paint_face(paint: Callable[..., None], build: _Build, colours: _Colours) -> None:
    muzzle, ink = build.muzzle, colours.ink
    patched = bool(build.limbs)
    if patched:
        paint(both(ellipse(0.105, -0.705, 0.066, 0.085, turn=0.5)), ink)
    paint([ellipse(0.0, -0.6, 0.07 + 0.035 * muzzle, 0.05 + 0.03 * muzzle)], colours.pale)
    paint(both(ellipse(0.1, -0.705, 0.043, 0.05)), colours.pale if patched else ink)
    if build.cat_eyes:
        paint(both(ellipse(0.1, -0.705, 0.038, 0.045)), colours.iris)
        paint(both(ellipse(0.1, -0.705, 0.024, 0.042)), ink)
    elif patched:
        paint(both(ellipse(0.1, -0.703, 0.036, 0.043)), ink)
    paint([ellipse(side + 0.014, -0.724, 0.013) for side in (-0.1, 0.1)], colours.white)
    nose = 0.026 + 0.018 * muzzle
    snout: list[Point] = [(-nose, -0.637), (0.0, -0.645), (nose, -0.637), (0.0, -0.637 + nose * 1.15)]
    paint([curve(snout, closed=True)], colours.pink if muzzle < 0.5 else ink)
    paint(both(stroke(curve(points("0,-.61 .012,-.583 .05,-.587")), 0.009, 0.005)), ink, alpha=0.8)
    paint(both(ellipse(0.165, -0.63, 0.035, 0.022)), colours.pink, alpha=0.35)
    if build.whiskers:
        paint(_WHISKERS, colours.white, alpha=0.8)

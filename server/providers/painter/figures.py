"""Travellers, boats, balloons and butterflies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from server.providers.painter.canvas import Canvas, Path, Point
from server.providers.painter.colour import lch, mix, shade
from server.providers.painter.geometry import both, curve, ellipse, placed, points, rectangle, stroke
from server.providers.painter.scene import Scene

_CLOAK = curve(points("-.03,-.8 .075,-.74 .1,-.5 .12,-.3 -.02,-.27 -.17,-.3 -.15,-.5 -.1,-.72"), closed=True)
_HEAD = [
    ellipse(0.005, -0.865, 0.062, 0.07),
    ellipse(0.005, -0.895, 0.135, 0.022),
    ellipse(0.0, -0.925, 0.064, 0.045),
]
_SCARF = stroke(curve(points(".03,-.8 -.1,-.79 -.22,-.83 -.34,-.79")), 0.055, 0.035)
_HULL = [*curve(points("-.42,-.13 -.34,0 0,.035 .32,0 .46,-.16")), (0.0, -0.1)]
_MAIN_SAIL = [*curve(points(".03,-1 .22,-.55 .4,-.2")), *curve(points(".4,-.2 .2,-.17 .03,-.19"))]
_JIB = [*curve(points("-.02,-.9 -.2,-.5 -.37,-.18")), (-0.02, -0.22)]
_SUIT: list[Path] = [
    *both(stroke(curve(points(".07,-.4 .1,-.2 .1,-.03")), 0.15, 0.13)),
    *both(stroke(curve(points(".13,-.62 .22,-.5 .23,-.36")), 0.13, 0.1)),
    *both(ellipse(0.11, -0.03, 0.09, 0.04)),
    ellipse(0.0, -0.52, 0.17, 0.2),
    ellipse(0.0, -0.81, 0.17),
]


def paint_wanderer(canvas: Canvas, scene: Scene, *, x: float, y: float, height: float) -> None:
    """Somebody in a cloak with a staff, walking towards the light; the stride changes with the progress."""
    palette, flip = scene.palette, scene.side < 0
    ink = mix(palette.near, (0.1, 0.0, 0.0), 0.35)
    swing = 0.11 * math.sin(scene.progress * 9.0 + 1.0)
    limbs = [
        stroke(curve([(0.0, -0.42), (0.03 + swing * 0.6, -0.2), (swing + 0.02, 0.0)]), 0.1, 0.06),
        stroke(curve([(0.0, -0.42), (0.02 - swing * 0.3, -0.2), (-swing - 0.05, 0.0)]), 0.1, 0.06),
        stroke([(swing, -0.012), (swing + 0.09, -0.01)], 0.045, 0.03),
        stroke([(-swing - 0.06, -0.012), (-swing + 0.02, -0.01)], 0.045, 0.03),
        stroke([(0.2 + swing * 0.4, 0.0), (0.17, -0.78)], 0.018, 0.018),
        stroke(curve(points(".02,-.68 .11,-.56 .18,-.52")), 0.075, 0.045),
    ]

    def at(*outlines: Path) -> list[Path]:
        return [placed(outline, x, y, height, flip=flip) for outline in outlines]

    canvas.fill(at(*limbs), ink)
    canvas.fill(
        at(_CLOAK), mix(palette.accent, palette.near, 0.25), foot=mix(palette.accent, palette.near, 0.5)
    )
    canvas.fill(at(*_HEAD), ink)
    canvas.fill(at(_SCARF), shade(palette.accent, lighter=0.1))
    rim = stroke(curve(points(".07,-.74 .1,-.5 .115,-.33")), 0.02, 0.012)
    canvas.fill(at(rim), palette.light, alpha=0.5)


def paint_astronaut(canvas: Canvas, scene: Scene, *, x: float, y: float, height: float) -> None:
    """Somebody in a space suit, seen from the front."""
    palette = scene.palette
    white = mix(lch(0.93, 0.01, 250), palette.haze, 0.2)

    def at(*outlines: Path) -> list[Path]:
        return [placed(outline, x, y, height) for outline in outlines]

    canvas.fill([ellipse(x, y, height * 0.26, height * 0.035)], palette.near, alpha=0.5)
    canvas.fill(at(rectangle(-0.2, -0.72, 0.2, -0.36)), shade(white, lighter=-0.28))
    canvas.fill(at(*_SUIT), white, foot=shade(white, lighter=-0.18))
    canvas.fill(at(ellipse(0.0, -0.81, 0.125, 0.105)), palette.sky[0], foot=palette.accent)
    canvas.fill(at(ellipse(0.04, -0.845, 0.035, 0.02, turn=0.5)), palette.light, alpha=0.8)
    canvas.fill(at(rectangle(-0.075, -0.56, 0.075, -0.47)), shade(white, lighter=-0.2))
    lamps = at(ellipse(-0.035, -0.515, 0.018), ellipse(0.03, -0.515, 0.018))
    canvas.fill(lamps, palette.accent)


def paint_boat(canvas: Canvas, scene: Scene, *, x: float, y: float, height: float) -> None:
    """A small sailing boat with its reflection; `height` is that of the mast in pixels."""
    palette, flip = scene.palette, scene.side > 0
    wood = mix(palette.near, lch(0.35, 0.07, 40), 0.5)
    sail = mix(lch(0.97 - 0.42 * palette.darkness, 0.02, 80), palette.light, 0.3)
    reflection = mix(palette.near, palette.sky[1], 0.35)

    def at(outline: Path, squash: float = 1.0) -> list[Point]:
        return placed([(px, py * squash) for px, py in outline], x, y, height, flip=flip)

    mirrored = [at(_HULL, -0.7), at(_MAIN_SAIL, -0.55), at(_JIB, -0.55)]
    canvas.fill(mirrored, reflection, foot=mix(reflection, sail, 0.3), alpha=0.42, fade=0.75)
    canvas.fill([at(stroke([(0.0, -0.05), (0.0, -1.04)], 0.022, 0.014))], wood)
    canvas.fill([at(_MAIN_SAIL)], sail, foot=mix(sail, palette.haze, 0.3))
    canvas.fill([at(_JIB)], mix(sail, palette.accent, 0.5), foot=mix(palette.accent, palette.haze, 0.2))
    canvas.fill([at(_HULL)], shade(wood, lighter=0.06), foot=wood)
    canvas.fill([at(stroke(curve(points("-.41,-.12 0,-.085 .455,-.15")), 0.02, 0.02))], sail, alpha=0.7)
    canvas.fill([at(points("0,-1.04 .12,-1 0,-.96"))], palette.accent)


def paint_balloon(canvas: Canvas, scene: Scene, *, x: float, y: float, size: float, name: str) -> None:
    """A hot-air balloon of two colours; (x, y) is the middle of its envelope, `size` its diameter."""
    chance, palette, radius = scene.chance(f"balloon {name}"), scene.palette, size / 2
    hue = math.degrees(math.atan2(palette.accent[2], palette.accent[1])) + chance.choice((0, 40, -45, 170))
    first = mix(lch(0.7 - 0.25 * palette.darkness, 0.15, hue), palette.haze, 0.1)
    second = mix(lch(0.93 - 0.3 * palette.darkness, 0.03, hue + 60), palette.haze, 0.1)

    def seam(share: float) -> list[Point]:
        """From the crown to the mouth; share -1 is the left outline, 1 the right one."""
        line = []
        for step in range(29):
            level = -1 + 2.35 * (step / 28) ** 1.6
            swell = math.sqrt(1 - level * level) if level < 0 else 0.17 + 0.83 * (1 - (level / 1.35) ** 1.8)
            line.append((x + radius * share * swell, y + radius * level))
        return line

    gores = 8
    seams = [seam(math.sin((step / gores - 0.5) * math.pi)) for step in range(gores + 1)]
    for number in range(gores):
        colour = first if number % 2 else second
        gore = [*seams[number], *reversed(seams[number + 1])]
        canvas.fill([gore], colour, foot=shade(colour, lighter=-0.12))
    canvas.fill([[*seam(-scene.side), *reversed(seam(-scene.side * 0.25))]], palette.near, alpha=0.18)

    def at(*outlines: Sequence[Point]) -> list[Path]:
        return [placed(outline, x, y, radius) for outline in outlines]

    basket = points("-.13,1.72 .13,1.72 .11,1.92 -.11,1.92")
    ropes = both(stroke([(0.15, 1.35), (0.1, 1.72)], 0.02, 0.02))
    canvas.fill(at(basket, *ropes), mix(palette.near, lch(0.4, 0.06, 60), 0.6))
    if palette.darkness > 0.3:
        flame = lch(0.9, 0.12, 75)
        canvas.glow((x, y + radius), radius=radius * 1.1, colour=flame, alpha=0.55 * palette.darkness)


def paint_butterflies(canvas: Canvas, scene: Scene, *, x: float, y: float) -> None:
    """A few butterflies around a point."""
    if scene.lacks("subject") or scene.palette.darkness > 0.6 or scene.has("rain") or scene.has("snow"):
        return
    chance, unit = scene.chance("butterflies"), canvas.unit
    upper, lower = ellipse(0.55, -0.3, 0.5, 0.3, turn=-0.6), ellipse(0.4, 0.3, 0.32, 0.24, turn=0.6)
    for number in range(4):
        size = unit * chance.uniform(0.012, 0.02)
        place = x + unit * chance.uniform(-0.16, 0.16), y + unit * chance.uniform(-0.14, 0.1)
        drift = 0.05 * unit * math.sin(scene.progress * 6 + number)
        folded = chance.uniform(0.45, 1.0)
        hue = math.degrees(math.atan2(scene.palette.accent[2], scene.palette.accent[1])) + 70 * number
        wing = lch(0.8, 0.13, hue)
        for outline, colour in ((upper, wing), (lower, shade(wing, lighter=-0.1))):
            pair = both([(px * folded, py) for px, py in outline])
            canvas.fill([placed(side, place[0] + drift, place[1], size) for side in pair], colour)
        body = stroke([(0.0, -0.35), (0.0, 0.5)], 0.14, 0.08)
        canvas.fill([placed(body, place[0] + drift, place[1], size)], scene.palette.near)

"""Skylines, quays, houses, lighthouses and pagodas."""

from __future__ import annotations

import random

from server.providers.painter.canvas import Canvas, Path, Point
from server.providers.painter.colour import Colour, lch, mix, shade
from server.providers.painter.geometry import both, curve, ellipse, placed, points, rectangle, stroke
from server.providers.painter.scene import Scene

_LAMPLIGHT = lch(0.88, 0.12, 82)


def paint_skyline(
    canvas: Canvas, scene: Scene, base: float, *, nearness: float, height: float, name: str
) -> None:
    """A row of towers that stand on the row `base`; `height` of the tallest in units."""
    chance, palette, unit = scene.chance(f"skyline {name}"), scene.palette, canvas.unit
    walls: list[Path] = []
    shadows: list[Path] = []
    panes: tuple[list[Path], list[Path], list[Path]] = ([], [], [])
    middle, x = canvas.width * (0.5 - scene.side * 0.08), -unit * chance.uniform(0.05, 0.1)
    while x < canvas.width:
        wide = unit * chance.uniform(0.045, 0.1) * (0.7 + 0.5 * nearness)
        # Towers grow towards the centre of town.
        central = max(0.0, 1 - abs(x - middle) / (unit * 0.75))
        tall = height * unit * (0.22 + 0.36 * chance.random() + 0.42 * central * chance.random())
        top, dark = base - tall, x if scene.side > 0 else x + wide * 0.6
        walls += [rectangle(x, top, x + wide, base + 2), *_roof(chance, x, top, wide)]
        shadows.append(rectangle(dark, top, dark + wide * 0.4, base + 2))
        if nearness > 0.3:
            cell = unit * (0.006 + 0.005 * nearness)
            lit = (0.1 + 0.4 * palette.darkness) * chance.uniform(0.4, 1.3)
            for pane in _window_grid(x, top, wide, tall, cell):
                panes[0 if chance.random() > lit else 2 if chance.random() < 0.16 else 1].append(pane)
        x += wide * chance.uniform(0.92, 1.12)
    body = palette.shaded(nearness)
    # By day the walls catch the light, by night the glow of the streets.
    source = palette.light if palette.darkness < 0.5 else lch(0.5, 0.09, 45)
    face = mix(body, source, 0.22 * (1 - 0.4 * palette.darkness))
    canvas.fill(walls, face, foot=mix(face, palette.haze, 0.4 * (1 - nearness)))
    canvas.fill(shadows, mix(body, palette.near, 0.3), alpha=0.5)
    canvas.fill(panes[0], mix(body, palette.sky[0], 0.5), alpha=0.4 * (1 - 0.7 * palette.darkness))
    lights = lch(0.86, 0.11, 78), lch(0.9, 0.05, 95)
    if scene.has("neon"):
        lights = lch(0.78, 0.17, 350), lch(0.78, 0.17, 195)
    for shapes, light in zip(panes[1:], lights, strict=True):
        colour = mix(palette.haze, light, 0.3 + 0.7 * palette.darkness)
        canvas.fill(shapes, colour, alpha=0.3 + 0.65 * palette.darkness)


def paint_quay(canvas: Canvas, scene: Scene, top: float) -> None:
    """A street along the lower edge with a rail and lamps, from the row `top` down."""
    unit, palette, right = canvas.unit, scene.palette, canvas.width + 2.0
    street = mix(palette.near, palette.sky[0], 0.15)
    canvas.ground([(0.0, top), (right, top)], (mix(street, palette.haze, 0.2), street), depth=unit * 0.12)
    rails = [
        rectangle(-2.0, top - unit * (level + 0.004), right, top - unit * level) for level in (0.02, 0.043)
    ]
    posts = [unit * 0.06 * number for number in range(int(canvas.width / (unit * 0.06)) + 1)]
    rails += [
        rectangle(x - unit * 0.002, top - unit * 0.048, x + unit * 0.002, top + unit * 0.005) for x in posts
    ]
    lamps = [unit * (0.17 + 0.42 * number) for number in range(int(canvas.width / (unit * 0.42)) + 1)]
    rails += [stroke([(x, top), (x, top - unit * 0.2)], unit * 0.009, unit * 0.005) for x in lamps]
    shade_shape = points("-.014,-.2 0,-.222 .014,-.2")
    rails += [placed(shade_shape, x, top, unit) for x in lamps]
    canvas.fill(rails, mix(palette.near, (0.0, 0.0, 0.0), 0.25))
    if palette.darkness > 0.3:
        shine = 0.9 * palette.darkness
        heads, pools = [(x, top - unit * 0.192) for x in lamps], [(x, top + unit * 0.03) for x in lamps]
        canvas.glow(*heads, radius=unit * 0.085, colour=_LAMPLIGHT, alpha=shine, falloff=2.4)
        canvas.glow(*pools, radius=unit * 0.11, colour=_LAMPLIGHT, alpha=shine / 3)


def paint_house(canvas: Canvas, scene: Scene, *, x: float, y: float, size: float) -> None:
    """A cottage with smoke over its chimney, `size` pixels wide; its windows are lit when it is dark."""
    palette, flip = scene.palette, scene.side > 0
    wall = mix(lch(0.84 - 0.45 * palette.darkness, 0.05, 70), palette.near, 0.25)
    roof = mix(lch(0.5 - 0.22 * palette.darkness, 0.12, 30), palette.near, 0.2)
    if scene.has("snow"):
        roof = mix(palette.light, palette.sky[0], 0.15 + 0.4 * palette.darkness)

    def fill(colour: Colour, *outlines: Path, foot: Colour | None = None) -> None:
        canvas.fill([placed(outline, x, y, size, flip=flip) for outline in outlines], colour, foot=foot)

    fill(shade(wall, lighter=-0.14), rectangle(0.2, -0.82, 0.31, -0.5))
    smoke, drift = mix(palette.haze, palette.light, 0.4), -size if flip else size
    for puff in range(5):
        place = x + drift * (0.26 + 0.07 * puff), y - size * (0.92 + 0.15 * puff)
        radius = size * (0.08 + 0.035 * puff)
        canvas.glow(place, radius=radius, colour=smoke, alpha=0.5 - 0.08 * puff, falloff=1.2)
    fill(shade(wall, lighter=0.03), points("-.46,.03 -.46,-.36 -.28,-.66 -.1,-.36 -.1,.03"))
    fill(shade(wall, lighter=-0.07), rectangle(-0.1, -0.36, 0.46, 0.03))
    fill(roof, points("-.28,-.7 .36,-.7 .54,-.32 -.08,-.32"), foot=shade(roof, lighter=-0.06))
    fill(shade(roof, lighter=-0.1), points("-.28,-.7 -.54,-.3 -.47,-.3 -.265,-.63"))
    panes = [
        rectangle(left, top, left + 0.12, top + 0.14)
        for left, top in ((0.02, -0.24), (0.24, -0.24), (-0.34, -0.29))
    ]
    fill(
        shade(wall, lighter=-0.2),
        *(rectangle(p[0][0] - 0.014, p[0][1] - 0.014, p[2][0] + 0.014, p[2][1] + 0.014) for p in panes),
    )
    fill(mix(lch(0.62, 0.05, 235), _LAMPLIGHT, 0.35 + 0.65 * palette.darkness), *panes)
    fill(shade(roof, lighter=-0.15), rectangle(-0.33, -0.12, -0.23, 0.03))
    if palette.darkness > 0.4:
        canvas.glow((x, y - size * 0.15), radius=size * 0.9, colour=_LAMPLIGHT, alpha=0.35 * palette.darkness)


def paint_lighthouse(canvas: Canvas, scene: Scene, *, x: float, y: float, height: float) -> None:
    """A red and white lighthouse; in the dark its beams reach across the picture."""
    palette = scene.palette
    white = mix(lch(0.95 - 0.45 * palette.darkness, 0.015, 80), palette.haze, 0.15)
    red = lch(0.58 - 0.2 * palette.darkness, 0.16, 28)

    def fill(colour: Colour, *outlines: Path, alpha: float = 1.0) -> None:
        canvas.fill([placed(outline, x, y, height) for outline in outlines], colour, alpha=alpha)

    def slab(low: float, high: float) -> list[Point]:
        wide, narrow = 0.1 - 0.045 * low, 0.1 - 0.045 * high
        return [(-wide, -low), (-narrow, -high), (narrow, -high), (wide, -low)]

    if palette.darkness > 0.2:
        beams = both([(0.0, -0.86), (2.6, -0.98), (2.6, -0.64)])
        fill(palette.light, *beams, alpha=0.16 * palette.darkness)
        lamp = x, y - height * 0.86
        canvas.glow(lamp, radius=height * 0.5, colour=_LAMPLIGHT, alpha=0.8 * palette.darkness)
    fill(white, slab(-0.02, 0.8))
    fill(red, slab(0.12, 0.28), slab(0.44, 0.6))
    away = -scene.side
    fill(
        palette.near,
        [(0.1 * away, 0.0), (0.064 * away, -0.8), (0.006 * away, -0.8), (0.01 * away, 0.0)],
        alpha=0.28,
    )
    fill(shade(red, lighter=-0.12), rectangle(-0.075, -0.815, 0.075, -0.79))
    fill(lch(0.92, 0.09, 90), rectangle(-0.042, -0.9, 0.042, -0.81))
    fill(red, points("-.06,-.9 0,-.99 .06,-.9"))


def paint_pagoda(canvas: Canvas, scene: Scene, *, x: float, y: float, height: float) -> None:
    """A tower of five curved roofs."""
    palette = scene.palette
    dark = mix(palette.near, lch(0.3, 0.09, 30), 0.45)
    wall = mix(lch(0.6 - 0.28 * palette.darkness, 0.15, 32), palette.near, 0.08)
    roofs: list[Path] = [
        points("-.05,-.825 0,-.895 .05,-.825"),
        stroke(points("0,-.825 0,-.985"), 0.016, 0.004),
    ]
    walls: list[Path] = []
    panes: list[Path] = []
    for storey in range(5):
        floor, half = -0.165 * storey, 0.2 - 0.024 * storey
        top, eave = floor - 0.165, floor - 0.113
        walls.append(rectangle(-half * 0.68, top, half * 0.68, floor + 0.003))
        panes += [
            rectangle(half * (place - 0.11), top + 0.075, half * (place + 0.11), floor - 0.018)
            for place in (-0.42, 0.0, 0.42)
        ]
        tips = [
            (-half * 1.22, eave - 0.022),
            (-half * 0.7, eave),
            (half * 0.7, eave),
            (half * 1.22, eave - 0.022),
        ]
        upper = curve([tips[3], (half * 0.8, eave - 0.028), (half * 0.42, top - 0.012)])
        roofs.append([*curve(tips), *upper, *((-px, py) for px, py in reversed(upper))])
    glass = mix(dark, _LAMPLIGHT, 0.2 + 0.8 * palette.darkness)
    for shapes, colour, foot in (
        (walls, wall, mix(wall, palette.near, 0.3)),
        (panes, glass, None),
        (roofs, dark, None),
    ):
        canvas.fill([placed(shape, x, y, height) for shape in shapes], colour, foot=foot)


def _roof(chance: random.Random, x: float, top: float, wide: float) -> list[Path]:
    """What stands on a tower: nothing, steps, a slope, a mast, a dome or a spire."""
    kind, foot = chance.randrange(6), top + 1
    if kind == 0:
        steps = rectangle(x + wide * 0.2, top - wide * 0.3, x + wide * 0.8, foot)
        return [steps, rectangle(x + wide * 0.38, top - wide * 0.55, x + wide * 0.62, foot)]
    if kind == 1:
        return [[(x, foot), (x, top - wide * 0.35), (x + wide, foot)]]
    if kind == 2:
        mast = rectangle(x + wide * 0.47, top - wide, x + wide * 0.53, foot)
        return [mast, rectangle(x + wide * 0.3, top - wide * 0.18, x + wide * 0.7, foot)]
    if kind == 3:
        return [ellipse(x + wide / 2, top, wide * 0.36, wide * 0.3)]
    if kind == 4:
        return [[(x + wide * 0.1, foot), (x + wide / 2, top - wide * 0.9), (x + wide * 0.9, foot)]]
    return []


def _window_grid(x: float, top: float, wide: float, tall: float, cell: float) -> list[Path]:
    columns, rows = max(2, int(wide / (cell * 1.9))), max(1, int((tall - cell) / (cell * 2.1)))
    gap = wide / columns
    return [
        rectangle(x + gap * (column + 0.26), upper, x + gap * (column + 0.74), upper + cell)
        for upper in (top + cell * (1.1 + 2.1 * row) for row in range(rows))
        for column in range(columns)
    ]

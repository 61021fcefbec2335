"""Mountains, mountain lakes, deserts and other planets."""

from __future__ import annotations

import random

from server.providers.painter.canvas import Canvas, Point
from server.providers.painter.colour import mix
from server.providers.painter.flowers import paint_cactus
from server.providers.painter.geometry import wavering
from server.providers.painter.mountains import paint_range, rugged
from server.providers.painter.scene import Scene
from server.providers.painter.sky import light_place, paint_birds, paint_sky
from server.providers.painter.staging import (
    across,
    horizon_row,
    paint_bank,
    paint_corner,
    paint_heights,
    paint_subject,
    paint_wooded_hill,
)
from server.providers.painter.terrain import height_on, paint_dune, paint_hill, rolling, skyline
from server.providers.painter.water import paint_sailing, paint_water
from server.providers.painter.weather import paint_mist


def paint_mountains(canvas: Canvas, scene: Scene) -> None:
    """Ranges behind ranges, wooded hills, and a slope to stand on."""
    unit, horizon = canvas.unit, horizon_row(canvas, 0.36)
    paint_sky(canvas, scene, horizon)
    paint_heights(canvas, scene, horizon)
    far = rugged(canvas, scene.chance("far"), base=horizon, rise=unit * 0.2, frequency=1.5)
    paint_range(canvas, scene, far, nearness=0.14, snow=0.25)
    paint_mist(canvas, scene, horizon - unit * 0.02, thickness=0.09, alpha=0.6, name="far")
    _paint_massif(canvas, scene, horizon + unit * 0.05, rise=0.38)
    paint_birds(canvas, scene, horizon)
    paint_mist(canvas, scene, horizon + unit * 0.06, thickness=0.1, alpha=0.75, name="main")
    middle = rolling(
        canvas, scene.chance("middle"), base=horizon + unit * 0.1, rise=unit * 0.13, frequency=1.2
    )
    paint_wooded_hill(canvas, scene, middle, nearness=0.5, height=0.045, name="middle")
    paint_mist(canvas, scene, horizon + unit * 0.17, thickness=0.07, alpha=0.55, name="middle")
    near = rolling(canvas, scene.chance("near"), base=horizon + unit * 0.2, rise=unit * 0.12, frequency=0.8)
    paint_wooded_hill(canvas, scene, near, nearness=0.72, height=0.075, name="near")
    paint_bank(canvas, scene, horizon + unit * 0.3)


def paint_lake(canvas: Canvas, scene: Scene) -> None:
    """A lake that mirrors mountains, with a boat or seen from a slope."""
    unit, waterline = canvas.unit, horizon_row(canvas, 0.4)
    paint_sky(canvas, scene, waterline)
    paint_heights(canvas, scene, waterline)
    far = rugged(canvas, scene.chance("far"), base=waterline - unit * 0.03, rise=unit * 0.17, frequency=1.6)
    paint_range(canvas, scene, far, nearness=0.16, snow=0.25)
    _paint_massif(canvas, scene, waterline, rise=0.31)
    paint_mist(canvas, scene, waterline - unit * 0.04, thickness=0.07, alpha=0.7, name="shore")
    shore = rolling(
        canvas, scene.chance("shore"), base=waterline - unit * 0.014, rise=unit * 0.05, frequency=1.4
    )
    paint_wooded_hill(canvas, scene, shore, nearness=0.6, height=0.06, name="shore")
    paint_birds(canvas, scene, waterline)
    paint_water(canvas, scene, waterline, light_place(canvas, scene, waterline))
    paint_mist(canvas, scene, waterline + unit * 0.01, thickness=0.035, alpha=0.5, name="water")
    if scene.subject == "boat" or (scene.subject is None and scene.chance("boat").random() < 0.5):
        if not scene.lacks("subject"):
            paint_sailing(canvas, scene, waterline)
        paint_corner(canvas, scene)
    else:
        paint_bank(canvas, scene, canvas.height - unit * 0.1)


def paint_desert(canvas: Canvas, scene: Scene) -> None:
    """Dunes before table mountains, or pyramids where the prompt names them."""
    unit, horizon, chance = canvas.unit, horizon_row(canvas, 0.44), scene.chance("landmarks")
    paint_sky(canvas, scene, horizon)
    if scene.has("pyramid"):
        for place, size in ((0.3, 0.14), (-0.02, 0.2), (-0.34, 0.3)):
            _paint_pyramid(
                canvas, scene, x=across(canvas, place * scene.side), y=horizon + unit * 0.09, size=unit * size
            )
    elif chance.random() < 0.6:
        for _ in range(3):
            _paint_mesa(canvas, scene, chance, horizon + unit * 0.1)
    paint_mist(canvas, scene, horizon, thickness=0.08, alpha=0.5, name="heat")
    for row, nearness in enumerate((0.25, 0.42, 0.6, 0.8, 1.0)):
        base, rise = horizon + unit * (0.015 + 0.08 * row), unit * (0.05 + 0.024 * row)
        line = _dune_line(
            canvas, scene.chance(f"dune {row}"), base=base, rise=rise, frequency=1.9 - 0.22 * row
        )
        paint_dune(canvas, scene, line, nearness=nearness)
        if row == 3:
            if scene.subject is None and not scene.lacks("trees") and chance.random() < 0.5:
                for number in range(3):
                    x = across(canvas, -scene.side * chance.uniform(0.12, 0.48))
                    height = unit * chance.uniform(0.06, 0.13)
                    paint_cactus(
                        canvas,
                        scene,
                        x=x,
                        y=height_on(line, x) + unit * 0.01,
                        height=height,
                        name=str(number),
                    )
            paint_subject(canvas, scene, line)


def paint_space(canvas: Canvas, scene: Scene) -> None:
    """A bare planet under another one."""
    unit, palette, horizon = canvas.unit, scene.palette, horizon_row(canvas, 0.26)
    paint_sky(canvas, scene, horizon + unit * 0.1)
    far = rugged(canvas, scene.chance("far"), base=horizon + unit * 0.05, rise=unit * 0.16, frequency=2.2)
    paint_range(canvas, scene, far, nearness=0.4)
    paint_mist(canvas, scene, horizon + unit * 0.06, thickness=0.08, alpha=0.5, name="dust")
    middle = rolling(canvas, scene.chance("middle"), base=horizon + unit * 0.11, rise=unit * 0.07)
    paint_hill(canvas, scene, middle, nearness=0.6, lit=0.35, misty=0.3)
    near = rolling(canvas, scene.chance("near"), base=horizon + unit * 0.19, rise=unit * 0.05)
    canvas.ground(near, (mix(palette.near, palette.land, 0.35), palette.near), depth=unit * 0.2)
    paint_subject(canvas, scene, near)


def _paint_massif(canvas: Canvas, scene: Scene, base: float, *, rise: float) -> None:
    """The highest mountain, opposite the light; `rise` in units."""
    summit = -scene.side * scene.chance("summit").uniform(0.06, 0.3)
    line = rugged(
        canvas, scene.chance("main"), base=base, rise=canvas.unit * rise, frequency=1.15, summit=summit
    )
    paint_range(canvas, scene, line, nearness=0.42, snow=0.75 if scene.has("snow") else 0.37)


def _dune_line(
    canvas: Canvas, chance: random.Random, *, base: float, rise: float, frequency: float
) -> list[Point]:
    wave = wavering(chance, frequency=frequency, octaves=1)
    return skyline(canvas, lambda x: base - rise * (1 - 2.2 * abs(wave(x)) ** 1.25))


def _paint_mesa(canvas: Canvas, scene: Scene, chance: random.Random, base: float) -> None:
    palette, unit = scene.palette, canvas.unit
    left, wide = chance.uniform(-0.1, 0.9) * canvas.width, unit * chance.uniform(0.1, 0.26)
    tall = unit * chance.uniform(0.11, 0.22)
    rock = mix(palette.shaded(0.3), palette.lit(0.35), 0.4)

    def at(*spots: Point) -> list[Point]:
        return [(left + wide * x, base - tall * y) for x, y in spots]

    right_foot, right_wall = ((1.24, 0.0), (1.0, 0.58), (0.94, 1.0)), ((0.6, 1.0), (0.62, 0.5), (0.56, 0.0))
    left_foot, left_wall = ((-0.22, 0.0), (0.0, 0.62), (0.05, 1.0)), ((0.42, 1.0), (0.38, 0.5), (0.44, 0.0))
    canvas.fill([at(*left_foot, *reversed(right_foot))], rock, foot=mix(rock, palette.haze, 0.55))
    dark = at(*right_foot, *right_wall) if scene.side < 0 else at(*left_foot, *left_wall)
    canvas.fill([dark], palette.shaded(0.45), alpha=0.4, fade=0.7)


def _paint_pyramid(canvas: Canvas, scene: Scene, *, x: float, y: float, size: float) -> None:
    palette, peak = scene.palette, (x, y - size * 0.86)
    stone = mix(palette.lit(0.45), palette.light, 0.15)
    canvas.fill(
        [[(x - size * 0.75, y), peak, (x + size * 0.75, y)]], stone, foot=mix(stone, palette.haze, 0.4)
    )
    dark = [(x - scene.side * size * 0.22, y), peak, (x - scene.side * size * 0.75, y)]
    canvas.fill([dark], palette.shaded(0.55), foot=palette.shaded(0.3), alpha=0.75)

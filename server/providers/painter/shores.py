"""Seas and cities."""

from __future__ import annotations

import math

from server.providers.painter.canvas import Canvas, Path
from server.providers.painter.colour import lch, mix
from server.providers.painter.flowers import paint_grass
from server.providers.painter.geometry import stroke, wavering
from server.providers.painter.scene import Scene
from server.providers.painter.sky import light_place, paint_birds, paint_sky
from server.providers.painter.staging import across, horizon_row, paint_corner, paint_subject, stands
from server.providers.painter.terrain import height_on, skyline
from server.providers.painter.town import paint_lighthouse, paint_quay, paint_skyline
from server.providers.painter.trees import paint_palm
from server.providers.painter.water import paint_islands, paint_sailing, paint_swell, paint_water
from server.providers.painter.weather import paint_mist


def paint_sea(canvas: Canvas, scene: Scene) -> None:
    """The sea with islands and a boat, from a beach, a headland with its lighthouse, or a wooded corner."""
    waterline, chance = horizon_row(canvas, 0.4), scene.chance("shore")
    paint_sky(canvas, scene, waterline)
    paint_islands(canvas, scene, waterline)
    paint_birds(canvas, scene, waterline)
    paint_water(canvas, scene, waterline, light_place(canvas, scene, waterline))
    paint_swell(canvas, scene, waterline)
    if scene.subject in (None, "boat") and not scene.lacks("subject"):
        paint_sailing(canvas, scene, waterline)
    shore = chance.choice(("beach", "beach", "corner", "headland")) if scene.subject is None else "beach"
    if scene.subject == "lighthouse" or shore == "headland":
        _paint_headland(canvas, scene)
    elif shore == "corner" or scene.has("snow"):
        paint_corner(canvas, scene)
    elif scene.subject != "boat":
        _paint_beach(canvas, scene)


def paint_city(canvas: Canvas, scene: Scene) -> None:
    """Towers behind a street, or behind water and a quay."""
    unit, palette = canvas.unit, scene.palette
    wet = scene.has("water") or scene.subject == "boat" or scene.chance("quay").random() < 0.5
    street = canvas.height - unit * (0.1 if wet else 0.14)
    base = horizon_row(canvas, 0.34) if wet else street
    paint_sky(canvas, scene, base)
    if palette.darkness > 0.4:
        smog = lch(0.62, 0.1, 50)
        canvas.glow(
            (canvas.width / 2, base),
            radius=unit * 0.9,
            colour=smog,
            alpha=0.4 * palette.darkness,
            falloff=1.5,
        )
    paint_birds(canvas, scene, base * 0.6)
    for name, nearness, height in (("far", 0.22, 0.62), ("middle", 0.45, 0.52), ("near", 0.74, 0.3)):
        paint_skyline(canvas, scene, base, nearness=nearness, height=height, name=name)
        paint_mist(
            canvas, scene, base - unit * 0.02, thickness=0.12, alpha=0.5 * (1 - nearness), name=f"city {name}"
        )
    if wet:
        paint_water(canvas, scene, base, light_place(canvas, scene, base))
    if scene.subject == "boat":
        paint_sailing(canvas, scene, base)
        return
    paint_quay(canvas, scene, street)
    paint_subject(canvas, scene, [(0.0, street + unit * 0.035), (float(canvas.width), street + unit * 0.035)])


def _paint_beach(canvas: Canvas, scene: Scene) -> None:
    """Sand along the lower edge with the last of a wave running up, palms, and the subject."""
    unit, palette, edge = canvas.unit, scene.palette, -scene.side
    wave = wavering(scene.chance("beach"), frequency=1.6, octaves=3)
    line = skyline(
        canvas,
        lambda x: canvas.height - unit * (0.11 + 0.14 * max(-0.6, min(0.8, x * edge)) + 0.025 * wave(x)),
    )
    sand = mix(palette.lit(1.0), lch(0.84 - 0.48 * palette.darkness, 0.05, 75), 0.7)
    foam = mix(palette.light, palette.haze, 0.3 + 0.4 * palette.darkness)

    def rim(lift: float, width: float) -> Path:
        return stroke(
            [(x, y - unit * (lift + 0.012 * run(x / unit + lift * 40))) for x, y in line], width, width
        )

    run = wavering(scene.chance("foam"), frequency=7, octaves=3)
    canvas.fill([rim(0.03, unit * 0.055)], mix(palette.sky[1], sand, 0.5), alpha=0.35)
    canvas.fill([rim(0.045, unit * 0.005)], foam, alpha=0.4)
    canvas.fill([rim(0.014, unit * 0.014)], foam, alpha=0.8)
    wet = mix(sand, palette.near, 0.32)
    canvas.ground(
        [(x, y - unit * 0.006) for x, y in line], (wet, mix(wet, sand, 0.7), sand, sand), depth=unit * 0.16
    )
    if scene.subject is not None:
        paint_subject(canvas, scene, [(x, y + unit * 0.02) for x, y in line])
    if scene.lacks("trees"):
        return
    for place, height in ((-0.4, 0.44), (-0.47, 0.33)):
        for number, x in enumerate(stands(canvas, place * scene.side)):
            y = height_on(line, x)
            if y < canvas.height - unit * 0.06:
                paint_palm(
                    canvas, scene, x=x, y=y + unit * 0.05, height=unit * height, name=f"{place} {number}"
                )


def _paint_headland(canvas: Canvas, scene: Scene) -> None:
    """A cliff at the dark side with a lighthouse on it."""
    unit, palette, edge = canvas.unit, scene.palette, -scene.side
    half = canvas.width / 2 / unit
    wave = wavering(scene.chance("headland"), frequency=5, octaves=5, roughness=0.6)

    def height_at(place: float) -> float:
        inward = half - place * edge
        cliff = 0.3 * math.sqrt(max(0.0, min(1.0, (0.62 - inward) / 0.28)))
        rocks = 0.12 * max(0.0, min(1.0, (0.8 - inward) / 0.4))
        return canvas.height + unit * 0.02 - unit * (cliff + rocks) * (1 + 0.16 * wave(place))

    line = skyline(canvas, height_at)
    rock = palette.shaded(0.85)
    turf = mix(rock, palette.land, 0.3)
    canvas.ground(line, (turf, rock, mix(rock, palette.near, 0.7)))
    paint_grass(canvas, scene, line, height=0.014, name="headland", colour=turf)
    x = across(canvas, 0.0) + edge * (half - min(0.22, half * 0.45)) * unit
    paint_lighthouse(canvas, scene, x=x, y=height_on(line, x) + unit * 0.01, height=unit * 0.42)

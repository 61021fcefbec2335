"""What glows far above the clouds: nebulae, planets and northern lights."""

from __future__ import annotations

import math

from PIL import Image

from server.providers.painter.canvas import Canvas, Path, Point, noise, soft_step
from server.providers.painter.colour import lch, mix, shade
from server.providers.painter.geometry import ellipse, stroke, wavering
from server.providers.painter.scene import Scene


def paint_aurora(canvas: Canvas, scene: Scene, horizon: float) -> None:
    """Curtains of light: each hangs from a wavering line and fades upwards."""
    chance, unit = scene.chance("aurora"), canvas.unit
    columns, rows = 160, 80
    for hue, level in ((160, 0.42), (185, 0.3), (310, 0.36)):
        wave = wavering(chance, frequency=0.9 * canvas.width / unit, octaves=3)
        curtain = Image.new("L", (columns, rows))
        for column in range(columns):
            place = column / columns
            foot, tall = rows * (0.54 + 0.36 * wave(place)), rows * (0.36 + 0.18 * wave(place * 5 + 7))
            strength = 235 * max(0.0, 0.5 + 0.5 * wave(place * 6.4 + 3))
            ray = bytes(
                int(strength * max(0.0, 1 - (foot - row) / tall) ** 1.6)
                if row < foot
                else int(strength * max(0.0, 1 - (row - foot) / 6))
                for row in range(rows)
            )
            curtain.paste(Image.frombytes("L", (1, rows), ray), (column, 0))
        area = -2.0, horizon * (level - 0.42), canvas.width + 2.0, horizon * (level + 0.55)
        canvas.stain(curtain, area, lch(0.83, 0.15, hue))


def paint_nebula(canvas: Canvas, scene: Scene, horizon: float) -> None:
    """Clouds of gas in the hue of the sky and two others."""
    chance, sky = scene.chance("nebula"), scene.palette.sky[2]
    hue = math.degrees(math.atan2(sky[2], sky[1]))
    area = -40.0, -horizon * 0.2, canvas.width + 40.0, horizon * 1.25
    for turn, peak in ((0, 165), (70, 130), (-60, 120)):
        gas = noise(chance, width=96, height=64, octaves=5).point(soft_step(112, 200, peak))
        canvas.stain(gas, area, lch(0.52, 0.13, hue + turn))


def paint_planet(canvas: Canvas, scene: Scene, horizon: float) -> None:
    """A banded planet with rings, and a small moon."""
    chance, unit, side = scene.chance("planet"), canvas.unit, scene.side
    x = canvas.width / 2 + side * 0.2 * min(unit, canvas.width) + (scene.progress - 0.5) * unit * 0.18
    y, radius = horizon * chance.uniform(0.36, 0.5), unit * chance.uniform(0.13, 0.19)
    hue, tilt = chance.uniform(0, 360), chance.uniform(-0.45, -0.2)
    body, dark, ice = lch(0.78, 0.09, hue), lch(0.34, 0.09, hue + 30), lch(0.8, 0.06, hue + 40)

    def orbit(size: float, squash: float, *, start: float, drop: float = 0.0) -> list[Point]:
        """Half an ellipse around the planet, tilted; `drop` shifts it towards the planet's south."""
        line = []
        for step in range(31):
            angle = start + math.pi * step / 30
            across, along = radius * size * math.cos(angle), radius * (size * squash * math.sin(angle) + drop)
            line.append(
                (
                    x + across * math.cos(tilt) - along * math.sin(tilt),
                    y + across * math.sin(tilt) + along * math.cos(tilt),
                )
            )
        return line

    def rings(start: float) -> list[Path]:
        shapes = ((1.55, 0.1), (1.8, 0.16), (2.05, 0.05))
        return [stroke(orbit(size, 0.2, start=start), radius * wide, radius * wide) for size, wide in shapes]

    canvas.glow((x, y), radius=radius * 2.6, colour=body, alpha=0.4)
    canvas.fill(rings(math.pi), ice, alpha=0.75)
    canvas.fill([ellipse(x, y, radius, corners=96)], body, foot=mix(body, dark, 0.55))
    for _ in range(6):
        level = chance.uniform(-0.75, 0.75)
        band = orbit(math.sqrt(1 - level * level) * 0.98, 0.13, start=0.0, drop=level)
        canvas.fill([stroke(band, radius * 0.05, radius * chance.uniform(0.03, 0.12))], dark, alpha=0.22)
    # The side that the light does not reach: between the rim and a flatter arc.
    angles = [math.pi * (-0.5 + step / 40) for step in range(41)]
    rim = [(x - side * radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
    inner = [
        (x - side * radius * (0.1 + 0.55 * math.cos(angle)), y + radius * 0.98 * math.sin(angle))
        for angle in angles
    ]
    canvas.fill([[*rim, *reversed(inner)]], shade(dark, lighter=-0.15), alpha=0.5)
    canvas.fill(rings(0.0), ice, alpha=0.9)
    moon = ellipse(x - side * unit * 0.36, y - unit * 0.07, radius * 0.22, corners=40)
    canvas.fill([moon], lch(0.82, 0.03, hue + 180), foot=lch(0.4, 0.05, hue + 180))

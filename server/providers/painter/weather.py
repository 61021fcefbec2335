"""What falls, hovers or lies between the painter and the scene."""

from __future__ import annotations

import functools
import math

from PIL import Image, ImageChops

from server.providers.painter.canvas import Canvas, noise
from server.providers.painter.colour import lch, mix
from server.providers.painter.geometry import stroke
from server.providers.painter.scene import Scene


def paint_weather(canvas: Canvas, scene: Scene) -> None:
    """Rain or snow, where the scene has it."""
    chance, unit = scene.chance("weather"), canvas.unit
    spread = canvas.width * canvas.height / unit**2
    if scene.has("rain"):
        pale = mix(scene.palette.haze, (1.0, 0.0, 0.0), 0.3)
        for _ in range(min(500, int(150 * spread))):
            x, y = chance.uniform(-0.05, 1.0) * canvas.width, chance.uniform(-0.05, 1.0) * canvas.height
            length = unit * chance.uniform(0.02, 0.06)
            drop = stroke([(x, y), (x + length * 0.22, y + length)], 0.4, max(1.0, unit * 0.0018))
            canvas.fill([drop], pale, alpha=chance.uniform(0.15, 0.5))
    elif scene.has("snow"):
        white = mix(scene.palette.light, (1.0, 0.0, 0.0), 0.7)
        for amount, size, alpha in ((66, 0.003, 0.9), (33, 0.0055, 0.75), (11, 0.011, 0.5)):
            flakes = [
                (chance.random() * canvas.width, chance.random() * canvas.height)
                for _ in range(min(4 * amount, int(amount * spread)))
            ]
            canvas.glow(*flakes, radius=max(1.5, unit * size), colour=white, alpha=alpha, falloff=1.1)


def paint_mist(canvas: Canvas, scene: Scene, y: float, *, thickness: float, alpha: float, name: str) -> None:
    """A bank of mist around the row y, drifting with the progress; `thickness` in units."""
    if scene.lacks("mist"):
        return
    unit, half = canvas.unit, thickness * canvas.unit
    bank = noise(scene.chance(f"mist {name}"), width=96, height=24, octaves=3)
    bank = bank.point([min(255, int(level * alpha * 1.25)) for level in range(256)])
    swell = bytes(int(255 * math.sin(math.pi * (row + 0.5) / 24) ** 1.5) for row in range(24))
    bank = ImageChops.multiply(bank, Image.frombytes("L", (1, 24), swell).resize(bank.size))
    drift = (scene.progress - 0.5) * unit * 0.3
    area = drift - unit * 0.2, y - half, canvas.width + drift + unit * 0.2, y + half
    palette = scene.palette
    canvas.stain(bank, area, mix(palette.haze, palette.light, 0.2 * (1 - palette.darkness)))


def paint_fireflies(canvas: Canvas, scene: Scene, top: float) -> None:
    """Small lights that hover below the row `top` when it is dark."""
    darkness = scene.palette.darkness
    if darkness < 0.5 or scene.has("snow") or scene.has("rain"):
        return
    chance, unit = scene.chance("fireflies"), canvas.unit
    for size in (0.01, 0.015, 0.022):
        places = [
            (chance.random() * canvas.width, top + (canvas.height - top) * chance.random())
            for _ in range(min(30, int(9 * max(1.0, canvas.width / unit))))
        ]
        canvas.glow(
            *places, radius=unit * size, colour=lch(0.9, 0.14, 105), alpha=0.9 * darkness, falloff=2.4
        )


def paint_vignette(canvas: Canvas, scene: Scene) -> None:
    """Darken the corners a little, which holds the picture together."""
    area = -1.0, -1.0, canvas.width + 1.0, canvas.height + 1.0
    canvas.stain(_corners(), area, mix(scene.palette.near, scene.palette.sky[0], 0.3))


@functools.cache
def _corners() -> Image.Image:
    """How dark it is where, the same in every picture."""
    side = 32
    squares = [((2 * step + 1) / side - 1) ** 2 for step in range(side)]
    dark = bytes(round(66 * max(0.0, (x + y) / 2 - 0.3) ** 1.3) for y in squares for x in squares)
    return Image.frombytes("L", (side, side), dark)

"""What grows low: grass, ferns, flowers and cacti."""

from __future__ import annotations

import math
import random

from server.providers.painter.canvas import Canvas, Path
from server.providers.painter.colour import Colour, lch, mix, shade
from server.providers.painter.geometry import curve, ellipse, leaf, stroke
from server.providers.painter.scene import Scene
from server.providers.painter.terrain import height_on


def paint_grass(
    canvas: Canvas,
    scene: Scene,
    line: Path,
    *,
    height: float,
    name: str,
    colour: Colour,
    density: float = 1.0,
) -> None:
    """Blades along a line; `height` in units."""
    chance, unit = scene.chance(f"grass {name}"), canvas.unit
    blades = []
    for _ in range(min(900, int(canvas.width / unit * 150 * density))):
        x = chance.uniform(-0.01, 1.01) * canvas.width
        y = height_on(line, x) + unit * 0.008
        tall = height * unit * chance.uniform(0.35, 1.0)
        bend, half = tall * chance.uniform(-0.45, 0.45), max(0.9, tall * 0.05)
        knee = x + bend * 0.35
        blades.append(
            [
                (x - half, y),
                (knee - half * 0.6, y - tall * 0.6),
                (x + bend, y - tall),
                (knee + half * 0.6, y - tall * 0.6),
                (x + half, y),
            ]
        )
    canvas.fill(blades, colour)


def paint_ferns(
    canvas: Canvas, scene: Scene, line: Path, *, size: float, name: str, colour: Colour, amount: int
) -> None:
    """Fans of arching leaves along the line, `amount` of them on a square; `size` in units."""
    chance, unit = scene.chance(f"ferns {name}"), canvas.unit
    leaves = []
    for _ in range(int(amount * min(4.0, max(0.5, canvas.width / unit)))):
        x = chance.uniform(-0.02, 1.02) * canvas.width
        y, long = height_on(line, x) + unit * 0.012, unit * size * chance.uniform(0.6, 1.1)
        for number in range(7):
            way, reach = -1 + number / 3, long * chance.uniform(0.8, 1.1)
            arch = x + way * reach * 0.45, y - reach * (0.75 - 0.25 * abs(way))
            tip = x + way * reach * 0.95, y - reach * (0.72 - 0.55 * abs(way))
            leaves.append(leaf(curve([(x, y), arch, tip], steps=5), long * 0.085))
    canvas.fill(leaves, colour)


def paint_flowers(canvas: Canvas, scene: Scene, line: Path, *, size: float, name: str, amount: int) -> None:
    """Flowers from the line down to the lower edge, larger the nearer they stand.

    `size` in units; `amount` is their number on a square.
    """
    if scene.lacks("flowers") or scene.has("snow"):
        return
    chance, unit, palette = scene.chance(f"flowers {name}"), canvas.unit, scene.palette
    colours = _petal_colours(scene, chance)
    stem, heart = mix(palette.near, palette.land, 0.45), lch(0.82 - 0.3 * palette.darkness, 0.13, 85)
    dots: list[list[Path]] = [[] for _ in colours]
    blooms = []
    for _ in range(int(amount * min(4.0, canvas.width / unit))):
        near, x = chance.random() ** 0.8, chance.uniform(-0.02, 1.02) * canvas.width
        tone, top = chance.randrange(len(colours)), height_on(line, x)
        y, radius = top + (canvas.height - top) * near, size * unit * (0.22 + 0.78 * near)
        if radius < unit * 0.011:
            dots[tone].append(ellipse(x, y, radius, radius * 0.7, corners=8))
        else:
            blooms.append((y, x, radius, tone))
    for colour, places in zip(colours, dots, strict=True):
        canvas.fill(places, colour)
    for y, x, radius, tone in sorted(blooms):
        petal = shade(colours[tone], lighter=chance.uniform(-0.04, 0.05))
        _paint_bloom(canvas, chance, x, y, radius, colours=(petal, heart, stem))


def paint_cactus(canvas: Canvas, scene: Scene, *, x: float, y: float, height: float, name: str) -> None:
    """A cactus with two arms."""
    chance, palette = scene.chance(f"cactus {name}"), scene.palette
    limbs = [
        stroke([(x, y + height * 0.03), (x, y - height)], height * 0.15, height * 0.13),
        ellipse(x, y - height, height * 0.065),
    ]
    for side in (-height, height):
        level, tall = y - height * chance.uniform(0.35, 0.55), height * chance.uniform(0.2, 0.36)
        elbow = [(x, level), (x + side * 0.18, level), (x + side * 0.22, level - tall * 0.4)]
        limbs.append(stroke(curve([*elbow, (x + side * 0.22, level - tall)]), height * 0.1, height * 0.085))
        limbs.append(ellipse(x + side * 0.22, level - tall, height * 0.043))
    green = mix(palette.near, lch(0.42 - 0.2 * palette.darkness, 0.06, 150), 0.6)
    canvas.fill(limbs, green)
    shine = x + scene.side * height * 0.04
    edge = stroke([(shine, y), (shine, y - height * 0.97)], height * 0.03, height * 0.02)
    canvas.fill([edge], mix(green, palette.light, 0.5), alpha=0.4)


def _petal_colours(scene: Scene, chance: random.Random) -> list[Colour]:
    """Flower colours that go with the accent, and white."""
    dark, accent = scene.palette.darkness, scene.palette.accent
    hue = math.degrees(math.atan2(accent[2], accent[1]))
    turns = (0, 20, -20, 38) if scene.has("autumn") else (0, 28, -32, 60, -75, 150, 210)
    chroma = 0.13 - 0.055 * dark
    colours = [lch(0.76 - 0.3 * dark, chroma, hue + turn) for turn in chance.sample(turns, 3)]
    return [accent, *colours, lch(0.95 - 0.35 * dark, 0.02, 90)]


def _paint_bloom(
    canvas: Canvas,
    chance: random.Random,
    x: float,
    y: float,
    size: float,
    *,
    colours: tuple[Colour, Colour, Colour],
) -> None:
    """One near flower that grows at (x, y): petals of radius `size` around a heart, on a stem with a leaf."""
    petal, heart, stem = colours
    height = size * chance.uniform(2.2, 3.4)
    bend, side = chance.uniform(-0.18, 0.18) * height, chance.choice((-1, 1))
    hx, hy = x + bend, y - height
    stalk = stroke(curve([(x, y), (x + bend * 0.2, y - height * 0.5), (hx, hy)]), size * 0.2, size * 0.12)
    blade = ellipse(
        x + bend * 0.2 + side * size * 0.54,
        y - height * 0.42,
        size * 0.63,
        size * 0.18,
        turn=-side * 0.6,
        corners=14,
    )
    canvas.fill([stalk, blade], stem)
    petals, turn, squash = chance.choice((5, 6, 8)), chance.uniform(0, math.pi), chance.uniform(0.7, 0.95)
    wide = 0.36 if petals > 5 else 0.46
    outer, inner = [], []
    for number in range(petals):
        angle = turn + 2 * math.pi * number / petals
        dx, dy = math.cos(angle) * size, math.sin(angle) * size * squash
        lie = math.atan2(dy, dx)
        outer.append(ellipse(hx + dx * 0.6, hy + dy * 0.6, size * 0.52, size * wide, turn=lie, corners=16))
        inner.append(
            ellipse(hx + dx * 0.42, hy + dy * 0.42, size * 0.3, size * wide * 0.45, turn=lie, corners=10)
        )
    canvas.fill(outer, petal, foot=shade(petal, lighter=-0.07))
    canvas.fill(inner, shade(petal, lighter=0.07), alpha=0.6)
    canvas.fill([ellipse(hx, hy, size * 0.26, size * 0.24, corners=14)], heart)

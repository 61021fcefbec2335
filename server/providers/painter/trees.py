"""Trees: spruces, broad-leaved trees, palms and bamboo."""

from __future__ import annotations

import math
import random

from server.providers.painter.canvas import Canvas, Path, Point
from server.providers.painter.colour import Colour, lch, mix
from server.providers.painter.geometry import circle, curve, ellipse, leaf, stroke
from server.providers.painter.scene import Scene
from server.providers.painter.terrain import height_on


def spruce(chance: random.Random, x: float, y: float, height: float, *, tiers: int) -> list[Point]:
    """The outline of a spruce that stands at (x, y)."""
    left, right = [(x, y - height)], [(x, y - height)]
    for tier in range(1, tiers + 1):
        level = (tier / tiers) ** 0.92
        reach, tip = height * 0.2 * (0.12 + level * 0.98), y - height * (1 - level * 0.93)
        for side, edge in ((-1, left), (1, right)):
            spread = side * reach * chance.uniform(0.78, 1.12)
            edge.append((x + spread, tip + height * 0.02 * chance.random()))
            if tier < tiers:
                edge.append((x + spread * 0.48, tip - height * 0.035))
    trunk, low = height * 0.022, y + height * 0.02
    foot = [
        (x - trunk, y - height * 0.07),
        (x - trunk, low),
        (x + trunk, low),
        (x + trunk, y - height * 0.07),
    ]
    return [*left, *foot, *reversed(right)]


def paint_treeline(
    canvas: Canvas, scene: Scene, line: Path, *, nearness: float, height: float, name: str
) -> None:
    """A row of spruces along a line, in clumps with gaps; `height` in units."""
    if scene.lacks("trees"):
        return
    chance, palette, tall = scene.chance(f"treeline {name}"), scene.palette, height * canvas.unit
    count = min(420, int(canvas.width / (tall * 0.26)) + 2)
    trees, clump = [], 0.5
    for number in range(count):
        clump = min(1.0, max(-0.1, clump + chance.uniform(-0.3, 0.3)))
        size = tall * chance.uniform(0.55, 1.05)
        x = (number + chance.uniform(-0.4, 0.4)) * canvas.width / (count - 1)
        if chance.random() < clump:
            trees.append(spruce(chance, x, height_on(line, x) + size * 0.08, size, tiers=4))
    dark = palette.shaded(nearness)
    canvas.fill(trees, dark, foot=mix(dark, palette.haze, 0.2))


def paint_spruce(canvas: Canvas, scene: Scene, *, x: float, y: float, height: float, name: str) -> None:
    """A near spruce with light, or snow, on its branches."""
    if scene.lacks("trees"):
        return
    palette, snowy = scene.palette, scene.has("snow")
    outline = spruce(scene.chance(f"spruce {name}"), x, y, height, tiers=9)
    canvas.fill([outline], mix(palette.near, palette.land, 0.16), foot=palette.near)
    touches = []
    for tier in range(1, 9):
        level = (tier / 9) ** 0.92
        reach, tip = height * 0.19 * (0.12 + level * 0.95), y - height * (1 - level * 0.93)
        touches += [
            [
                (x + side * reach * 0.1, tip - height * 0.075),
                (x + side * reach * 0.92, tip - height * 0.004),
                (x + side * reach * 0.5, tip - height * 0.02),
                (x + side * reach * 0.12, tip - height * 0.045),
            ]
            for side in ((-1, 1) if snowy else (scene.side,))
        ]
    bright = mix(palette.land, palette.light, 0.75) if snowy else palette.land
    canvas.fill(touches, bright, alpha=0.85 if snowy else 0.28)


def foliage(scene: Scene, chance: random.Random) -> Colour:
    """A leaf colour of the season."""
    light = 0.66 - 0.32 * scene.palette.darkness
    if scene.has("snow"):
        return lch(light + 0.24, 0.02, 240)
    if scene.has("blossom"):
        return lch(light + 0.14, 0.085, chance.uniform(345, 365))
    if scene.has("autumn"):
        return lch(light, 0.13, chance.uniform(38, 75))
    return mix(scene.palette.land, lch(light - 0.08, 0.1, chance.uniform(118, 150)), 0.55)


def paint_leaf_tree(
    canvas: Canvas, scene: Scene, *, x: float, y: float, height: float, name: str, nearness: float = 1.0
) -> None:
    """A broad-leaved tree: a forked trunk and a crown of leaf clumps, lit from the light's side."""
    if scene.lacks("trees"):
        return
    chance, palette = scene.chance(f"tree {name}"), scene.palette
    lean, crown = chance.uniform(-0.05, 0.05) * height, y - height * 0.66
    trunk = curve([(x, y + height * 0.02), (x + lean * 0.3, y - height * 0.25), (x + lean, crown)])
    limbs = [stroke(trunk, height * 0.07, height * 0.025)]
    for side in (-height, height):
        fork = [(x + lean * 0.5, y - height * 0.34), (x + side * 0.1, crown + height * 0.1)]
        limbs.append(
            stroke(curve([*fork, (x + side * 0.2, crown - height * 0.04)]), height * 0.035, height * 0.012)
        )
    canvas.fill(limbs, mix(palette.shaded(nearness), lch(0.3, 0.03, 60), 0.35))
    clumps = []
    amount = 30 if height > canvas.unit * 0.2 else 12
    for number in range(amount):
        # By the golden angle, so that there are neither holes nor strays.
        angle, away = 2.4 * number + chance.uniform(-0.3, 0.3), ((number + chance.random()) / amount) ** 0.5
        cx = x + lean + math.cos(angle) * away * height * 0.28
        cy = crown - height * 0.07 + math.sin(angle) * away * height * 0.2
        radius = height * chance.uniform(0.06, 0.1) * (1.25 - 0.45 * away)
        # The higher and the nearer to the light a clump is, the more of it shines.
        shine = 1 + ((cx - x - lean) * scene.side - 1.3 * (cy - crown)) / height
        clumps.append((cx, cy, radius, min(1.15, max(0.3, shine))))
    colour = mix(palette.haze, foliage(scene, chance), 0.3 + 0.7 * nearness)
    heart = ellipse(x + lean, crown - height * 0.07, height * 0.24, height * 0.17)
    # From the shade inside to the light outside: colour, shift towards the light, size, opacity.
    for tone, shift, size, alpha in (
        (mix(colour, palette.near, 0.52), 0.0, 1.12, 1.0),
        (mix(colour, palette.near, 0.26), 0.14, 0.94, 1.0),
        (colour, 0.36, 0.68, 0.9),
        (mix(colour, palette.light, 0.25), 0.58, 0.36, 0.8),
    ):
        leaves = [heart] if shift < 0.3 else []
        for cx, cy, radius, shine in clumps:
            spread = radius * size * (shine if shift > 0.3 else 1.0)
            leaves.append(
                _clump(chance, cx + scene.side * radius * shift * 0.7, cy - radius * shift * 0.8, spread)
            )
        canvas.fill(leaves, tone, alpha=alpha)


def paint_palm(canvas: Canvas, scene: Scene, *, x: float, y: float, height: float, name: str) -> None:
    """A palm that leans towards the light."""
    chance, palette = scene.chance(f"palm {name}"), scene.palette
    dark = mix(palette.near, palette.land, 0.1)
    lean = scene.side * height * chance.uniform(0.14, 0.32)
    top = x + lean, y - height
    trunk = curve([(x, y + height * 0.03), (x + lean * 0.25, y - height * 0.45), top])
    tufts = []
    for _ in range(14):
        tip = x + chance.uniform(-0.1, 0.1) * height, y - height * chance.uniform(0.02, 0.1)
        tufts.append(leaf([(x + (tip[0] - x) * 0.4, y + height * 0.035), tip], height * 0.012))
    canvas.fill([stroke(trunk, height * 0.055, height * 0.03), *tufts], dark)
    fronds = []
    for number in range(11):
        angle = math.pi * (1.12 - 0.124 * number) + chance.uniform(-0.08, 0.08)
        reach = height * chance.uniform(0.34, 0.46)
        dx, dy = math.cos(angle) * reach, -math.sin(angle) * reach * 0.62
        middle = top[0] + dx * 0.55, top[1] + dy * 0.95 - reach * 0.05
        spine = curve([top, middle, (top[0] + dx, top[1] + dy + reach * 0.42)], steps=9)
        fronds.append(stroke(spine, height * 0.012, height * 0.006))
        way = math.copysign(height, dx)
        for step, (px, py) in enumerate(spine[2:], start=2):
            long = 0.11 * (1 - step / len(spine)) + 0.025
            fronds.append(
                [(px - way * 0.01, py), (px + way * long * 0.55, py + height * long), (px + way * 0.014, py)]
            )
    canvas.fill(fronds, dark, foot=mix(dark, palette.land, 0.2))


def paint_bamboo(
    canvas: Canvas, scene: Scene, line: Path, *, nearness: float, amount: int, name: str
) -> None:
    """`amount` stalks of bamboo from the line to the upper edge, with their leaves."""
    chance, unit, palette = scene.chance(f"bamboo {name}"), canvas.unit, scene.palette
    fresh = mix(palette.haze, lch(0.6 - 0.3 * palette.darkness, 0.1, 130), nearness)
    green = mix(palette.shaded(nearness), fresh, 0.55)
    stalks, nodes, leaves = [], [], []
    for number in range(amount):
        x = (number + chance.uniform(0.1, 0.9)) / amount * canvas.width
        if nearness > 0.9 and abs(x - canvas.width / 2) < unit * 0.24:
            continue
        wide = unit * (0.006 + 0.022 * nearness) * chance.uniform(0.8, 1.2)
        lean = chance.uniform(-0.04, 0.04) * canvas.height
        foot, joint = height_on(line, x) + unit * 0.01, unit * (0.06 + 0.05 * nearness)
        stalks.append(stroke([(x, foot), (x + lean, -unit * 0.02)], wide, wide * 0.85))
        for step in range(1, int(foot / joint) + 1):
            px, py = x + lean * step * joint / foot, foot - step * joint
            nodes.append(stroke([(px - wide * 0.58, py), (px + wide * 0.58, py)], wide * 0.16, wide * 0.16))
            if chance.random() < 0.55:
                leaves.extend(_bamboo_leaves(chance, px, py, unit * (0.03 + 0.05 * nearness)))
    canvas.fill(stalks, green, foot=mix(green, palette.shaded(nearness), 0.4))
    canvas.fill(nodes, mix(green, palette.light, 0.4), alpha=0.8)
    canvas.fill(leaves, mix(green, palette.near, 0.25 * nearness))


def _bamboo_leaves(chance: random.Random, x: float, y: float, long: float) -> list[Path]:
    way = chance.choice((-1, 1))
    leaves: list[Path] = []
    for _ in range(5):
        angle = chance.uniform(-0.5, 1.1)
        tip = x + way * long * math.cos(angle) * 1.5, y + long * math.sin(angle)
        middle = (x + tip[0]) / 2, (y + tip[1]) / 2 - long * 0.12
        leaves.append(leaf(curve([(x, y), middle, tip], steps=4), long * 0.1))
    return leaves


def _clump(chance: random.Random, x: float, y: float, radius: float) -> list[Point]:
    """A clump of leaves: a circle with an uneven edge."""
    swells = [(px, py, radius * chance.uniform(0.93, 1.07)) for px, py in circle(22)]
    return [(x + swell * px, y + swell * py) for px, py, swell in swells]

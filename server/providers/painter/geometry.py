"""Outlines: closed paths for the canvas to fill, and the noise that lets them look grown."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Sequence

from server.providers.painter.canvas import Point

_LATTICE = 256


def ellipse(
    x: float, y: float, rx: float, ry: float | None = None, *, turn: float = 0.0, corners: int = 40
) -> list[Point]:
    """An ellipse around (x, y); `turn` in radians."""
    ry = rx if ry is None else ry
    cos, sin = math.cos(turn), math.sin(turn)
    outline = []
    for px, py in circle(corners):
        across, along = rx * px, ry * py
        outline.append((x + across * cos - along * sin, y + across * sin + along * cos))
    return outline


@functools.cache
def circle(corners: int) -> tuple[Point, ...]:
    """Points of the circle of radius 1 around (0, 0): a picture has thousands of circles of a few kinds."""
    angles = [2 * math.pi * step / corners for step in range(corners)]
    return tuple((math.cos(angle), math.sin(angle)) for angle in angles)


def curve(knots: Sequence[Point], *, closed: bool = False, steps: int = 8) -> list[Point]:
    """A smooth line (Catmull-Rom) through the knots."""
    count = len(knots)
    line: list[Point] = []
    for index in range(count if closed else count - 1):
        if closed:
            a, b, c, d = (knots[(index + offset) % count] for offset in (-1, 0, 1, 2))
        else:
            a, b, c, d = (knots[min(count - 1, max(0, index + offset))] for offset in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            line.append((_spline(a[0], b[0], c[0], d[0], t), _spline(a[1], b[1], c[1], d[1], t)))
    if not closed:
        line.append(knots[-1])
    return line


def stroke(line: Sequence[Point], start_width: float, end_width: float) -> list[Point]:
    """The outline of a brush stroke along the line, its width running from one value to the other."""
    left: list[Point] = []
    right: list[Point] = []
    last = len(line) - 1
    for index, (x, y) in enumerate(line):
        (ax, ay), (bx, by) = line[max(0, index - 1)], line[min(last, index + 1)]
        length = math.hypot(bx - ax, by - ay) or 1.0
        half = (start_width + (end_width - start_width) * index / max(1, last)) / 2
        nx, ny = -(by - ay) / length * half, (bx - ax) / length * half
        left.append((x + nx, y + ny))
        right.append((x - nx, y - ny))
    return left + right[::-1]


def points(text: str) -> list[Point]:
    """A drawn outline from its notes: "x,y x,y ..."."""
    return [(float(x), float(y)) for x, y in (spot.split(",") for spot in text.split())]


def both(outline: Sequence[Point]) -> list[list[Point]]:
    """An outline and its mirror image about x = 0, for everything that has two sides."""
    return [[(-x, y) for x, y in outline], list(outline)]


def lens(x: float, y: float, half: float, thick: float) -> list[Point]:
    """A flat lozenge: a ripple, a spark on water, a far cloud."""
    return [
        (x - half, y),
        (x - half * 0.4, y - thick),
        (x + half * 0.4, y - thick),
        (x + half, y),
        (x + half * 0.4, y + thick),
        (x - half * 0.4, y + thick),
    ]


def leaf(spine: Sequence[Point], wide: float) -> list[Point]:
    """A leaf along its spine, pointed at both ends."""
    last = len(spine) - 1
    swell = [wide * math.sin(math.pi * (step / last) ** 0.8) for step in range(last + 1)]
    upper = [(x, y - half) for (x, y), half in zip(spine, swell, strict=True)]
    lower = [(x, y + half * 0.6) for (x, y), half in zip(spine, swell, strict=True)]
    return upper + lower[::-1]


def rectangle(left: float, top: float, right: float, bottom: float) -> list[Point]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def placed(outline: Sequence[Point], x: float, y: float, size: float, *, flip: bool = False) -> list[Point]:
    """A shape drawn around (0, 0) at size 1, moved to (x, y) and scaled; `flip` mirrors it."""
    across = -size if flip else size
    return [(x + px * across, y + py * size) for px, py in outline]


def wavering(
    chance: random.Random, *, frequency: float, octaves: int = 4, roughness: float = 0.5
) -> Callable[[float], float]:
    """A smooth random function of one variable, between about -1 and 1, `frequency` waves per unit."""
    layers = [
        (frequency * 2**octave, roughness**octave, [chance.uniform(-1, 1) for _ in range(_LATTICE)])
        for octave in range(octaves)
    ]
    total = sum(weight for _, weight, _ in layers)

    def value(x: float) -> float:
        height = 0.0
        for rate, weight, lattice in layers:
            place = x * rate + 1000.5
            cell = math.floor(place)
            t = place - cell
            t *= t * (3 - 2 * t)
            low, high = lattice[cell % _LATTICE], lattice[(cell + 1) % _LATTICE]
            height += weight * (low + (high - low) * t)
        return height / total

    return value


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t * t * t
    )

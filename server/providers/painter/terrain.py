"""Lines of land across the picture; hills and dunes under them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from server.providers.painter.canvas import Canvas, Path, Point
from server.providers.painter.colour import mix
from server.providers.painter.geometry import wavering
from server.providers.painter.scene import Scene


def skyline(canvas: Canvas, height_at: Callable[[float], float]) -> list[Point]:
    """The line through `height_at`, a function from units right of the middle to a y in pixels."""
    steps = max(48, min(800, canvas.width // 2))
    xs = [canvas.width * step / steps for step in range(steps + 1)]
    return [(x, height_at((x - canvas.width / 2) / canvas.unit)) for x in xs]


def height_on(line: Path, x: float) -> float:
    """The y of a line from `skyline` at x."""
    place = (len(line) - 1) * min(1.0, max(0.0, x / line[-1][0]))
    index = min(len(line) - 2, int(place))
    return line[index][1] + (line[index + 1][1] - line[index][1]) * (place - index)


def rolling(
    canvas: Canvas, chance: random.Random, *, base: float, rise: float, frequency: float = 1.1
) -> list[Point]:
    """A soft hill line around `base`, up to `rise` above and below."""
    wave = wavering(chance, frequency=frequency, octaves=4, roughness=0.33)
    return skyline(canvas, lambda x: base - rise * wave(x))


def crests(line: Path, prominence: float) -> list[int]:
    """Indices of the points from which the line falls by `prominence` both ways before it rises higher."""
    return [
        index
        for index in range(2, len(line) - 2)
        if line[index - 1][1] >= line[index][1] < line[index + 1][1]
        and _falls(line, index, -1, prominence)
        and _falls(line, index, 1, prominence)
    ]


def flank(line: Path, crest: int, step: int, *, lowest: float, bumps: float = 2.0) -> list[Point]:
    """The line from a crest to one side (`step` 1 or -1), over `bumps` so high, to the valley or `lowest`."""
    summit = line[crest][1]
    slope, index, valley = [line[crest]], crest + step, summit
    while 0 <= index < len(line) and line[index][1] < lowest:
        if line[index][1] < valley - 0.3 * (valley - summit) - bumps:
            break
        valley = max(valley, line[index][1])
        slope.append(line[index])
        index += step
    return slope


def paint_hill(
    canvas: Canvas,
    scene: Scene,
    line: Path,
    *,
    nearness: float,
    lit: float = 0.0,
    misty: float = 0.4,
    depth: float = 0.34,
) -> None:
    """Plain land under the line, `depth` units deep.

    `lit` moves it from its shade into the light, `misty` fills its foot with haze.
    """
    palette = scene.palette
    top = mix(palette.shaded(nearness), palette.lit(nearness), lit)
    foot = mix(top, palette.haze, misty)
    canvas.ground(line, (top, mix(top, foot, 0.5), foot), depth=depth * canvas.unit)


def paint_dune(canvas: Canvas, scene: Scene, line: Sequence[Point], *, nearness: float) -> None:
    """A dune: sand in the light, and behind each crest a shaded slip face."""
    palette, unit = scene.palette, canvas.unit
    sand = mix(palette.lit(nearness), palette.light, 0.13 * (1 - 0.3 * palette.darkness))
    canvas.ground(line, (sand, mix(sand, palette.shaded(nearness), 0.4)), depth=unit * 0.5)
    shadow = mix(palette.shaded(nearness), palette.lit(nearness), 0.42)
    chance = scene.chance(f"slip {nearness:.3f}")
    for crest in crests(line, unit * 0.02):
        x, y = line[crest]
        slope = flank(line, crest, -scene.side, lowest=y + unit)
        if len(slope) < 4:
            continue
        # The edge between light and shade swings towards the light before it joins the valley.
        end_x, end_y = slope[-1]
        fall = max(unit * 0.08, (end_y - y) * 1.2)
        bend_x = x + scene.side * fall * chance.uniform(0.15, 0.5)
        bend_y = y + fall * chance.uniform(0.75, 1.05)
        edge = []
        for step in range(1, 20):
            t = step / 20
            a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
            edge.append((a * x + b * bend_x + c * end_x, a * y + b * bend_y + c * (end_y + fall * 0.12)))
        canvas.fill([[*slope, *reversed(edge)]], shadow, foot=mix(shadow, sand, 0.5), alpha=0.85, fade=0.5)


def _falls(line: Path, start: int, step: int, depth: float) -> bool:
    y, index = line[start][1], start + step
    while 0 <= index < len(line):
        if line[index][1] < y:
            return False
        if line[index][1] > y + depth:
            return True
        index += step
    return True

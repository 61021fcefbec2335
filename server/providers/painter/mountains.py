"""Mountain ranges with lit and shaded faces, gullies and snow."""

from __future__ import annotations

import math
import random

from server.providers.painter.canvas import Canvas, Path, Point
from server.providers.painter.colour import mix
from server.providers.painter.geometry import wavering
from server.providers.painter.scene import Scene
from server.providers.painter.terrain import crests, flank, skyline


def rugged(
    canvas: Canvas,
    chance: random.Random,
    *,
    base: float,
    rise: float,
    frequency: float,
    summit: float | None = None,
) -> list[Point]:
    """A mountain range over `base`; with `summit` (units right of the middle) a massif stands out there."""
    ridge = wavering(chance, frequency=frequency, octaves=2, roughness=0.45)
    grain = wavering(chance, frequency=frequency * 5, octaves=5, roughness=0.62)
    bend = wavering(chance, frequency=2.2, octaves=2)
    # Distance from the summit, height and half width of each peak of the massif.
    peaks = [(0.0, chance.uniform(1.0, 1.3), chance.uniform(0.38, 0.56))]
    for side in (-1, 1):
        for away, tall in (((0.17, 0.28), (0.7, 0.92)), ((0.4, 0.6), (0.42, 0.62))):
            peaks.append((side * chance.uniform(*away), chance.uniform(*tall), chance.uniform(0.25, 0.36)))

    def height_at(x: float) -> float:
        height = 0.92 - 1.7 * abs(ridge(x)) + 0.2 * grain(x)
        if summit is None:
            return base - rise * height
        height *= 0.5
        for away, tall, half in peaks:
            steep = abs(x - summit - away) / half
            slope = tall * (1 - steep + 0.16 * bend(x + away) * min(1.0, steep))
            height = max(height, slope + 0.15 * grain(x + away) * min(1.0, 0.25 + steep * 1.6))
        return base - rise * height

    return skyline(canvas, height_at)


def paint_range(canvas: Canvas, scene: Scene, line: Path, *, nearness: float, snow: float = 0.0) -> None:
    """A range in the haze of its distance; `snow` is the share of its height that is white."""
    palette = scene.palette
    body = mix(palette.shaded(nearness), palette.lit(nearness), 0.35)
    top, foot = min(y for _, y in line), max(y for _, y in line)
    depth = max(foot - top, canvas.unit * 0.1) * 1.25
    haze = mix(body, palette.haze, 0.6)
    canvas.ground(line, (body, mix(body, haze, 0.55), haze, haze), depth=depth)
    chance = scene.chance(f"faces {nearness:.3f}")
    peaks = crests(line, canvas.unit * 0.014)
    if snow > 0:
        bright = mix(palette.light, palette.sky[-1], 0.35)
        white = mix(
            mix(bright, palette.sky[0], 0.1 + 0.34 * palette.darkness), palette.haze, 0.35 * (1 - nearness)
        )
        caps = [_snow_cap(line, peak, depth * snow, chance) for peak in peaks]
        canvas.fill([cap for cap in caps if cap], white, foot=mix(white, body, 0.35), alpha=0.92)
    dark = mix(palette.shaded(min(1.0, nearness * 1.5 + 0.12)), palette.sky[0], 0.25)
    for peak in peaks:
        face = _shaded_face(line, peak, scene.side, depth, chance)
        canvas.fill([face], dark, foot=mix(dark, haze, 0.6), alpha=0.34 + 0.26 * nearness, fade=0.85)
        gullies = _gullies(line, peak, scene.side, depth, chance)
        canvas.fill(gullies, dark, foot=mix(dark, haze, 0.5), alpha=0.2 + 0.18 * nearness, fade=0.8)


def _shaded_face(line: Path, peak: int, side: int, depth: float, chance: random.Random) -> list[Point]:
    """The side of a mountain that the light does not reach, cut from the other by a crooked edge."""
    x, y = line[peak]
    outside = flank(line, peak, -side, lowest=y + depth, bumps=depth * 0.02)
    reach = min(depth, (outside[-1][1] - y) * 1.15)
    edge, drift, steps = [], 0.0, 13
    for step in range(1, steps + 1):
        drift += side * reach * chance.uniform(-0.06, 0.075)
        zigzag = side * reach * 0.028 * (-1) ** step
        edge.append((x + drift + zigzag, y + reach * step / steps))
    return [*outside, *reversed(edge)]


def _gullies(line: Path, peak: int, side: int, depth: float, chance: random.Random) -> list[Path]:
    """Narrow shadows that run down the lit side of a mountain."""
    x, y = line[peak]
    slope = flank(line, peak, side, lowest=y + depth, bumps=depth * 0.02)
    fall = min(depth, slope[-1][1] - y)
    kites: list[Path] = []
    for _ in range(min(8, int(fall / max(1.0, depth * 0.1)))):
        px, py = slope[int(chance.uniform(0.04, 0.8) * (len(slope) - 1))]
        start = py + fall * chance.uniform(0.03, 0.3)
        long, wide = fall * chance.uniform(0.16, 0.42), fall * chance.uniform(0.03, 0.07)
        lean = (px - x) * 0.3 - side * long * chance.uniform(0.0, 0.25)
        px -= (px - x) * chance.uniform(0.05, 0.7)
        kites.append(
            [
                (px, start),
                (px + wide + lean * 0.4, start + long * 0.45),
                (px + lean, start + long),
                (px - wide * 0.5 + lean * 0.35, start + long * 0.4),
            ]
        )
    return kites


def _snow_cap(line: Path, peak: int, depth: float, chance: random.Random) -> list[Point]:
    lowest = line[peak][1] + depth
    left = flank(line, peak, -1, lowest=lowest, bumps=depth * 0.04)
    right = flank(line, peak, 1, lowest=lowest, bumps=depth * 0.04)
    rim = [*reversed(left), *right[1:]]
    if len(rim) < 5:
        return []
    (end, end_y), (start, start_y) = rim[0], rim[-1]
    tall = min(depth, max(start_y, end_y) - line[peak][1])
    hem: list[Point] = []
    share, down = chance.uniform(0.02, 0.1), True
    while share < 0.97:
        # Long tongues in the gullies, short bites between them, and less of both at the sides.
        drop = tall * math.sin(math.pi * share)
        drop *= chance.uniform(0.05, 0.42) if down else -chance.uniform(0.0, 0.22)
        hem.append((start + (end - start) * share, start_y + (end_y - start_y) * share + drop))
        share, down = share + chance.uniform(0.02, 0.1), not down
    return rim + hem

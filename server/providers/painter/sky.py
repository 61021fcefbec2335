"""Sky, sun, moon, stars and clouds, and the birds that fly before them."""

from __future__ import annotations

import math

from PIL import Image, ImageChops

from server.providers.painter.canvas import Canvas, Path, Point, noise, soft_step
from server.providers.painter.colour import lch, mix, shade
from server.providers.painter.cosmos import paint_aurora, paint_nebula, paint_planet
from server.providers.painter.geometry import curve, ellipse, lens, stroke, wavering
from server.providers.painter.scene import Scene


def light_place(canvas: Canvas, scene: Scene, horizon: float) -> Point:
    """Where sun or moon stands; it travels with the hour and sets behind the horizon."""
    chance, night = scene.chance("light"), scene.luminary == "moon"
    offset, height = chance.uniform(0.08, 0.13), chance.uniform(0.9, 1.05)
    # The share of its way across the sky: the sun is up from 5:36 to 19:12, the moon from 18:30 to 5.
    passed = ((scene.hour - 18.5) % 24) / 10.5 if night else (scene.hour % 24 - 5.6) / 13.6
    arc = math.sin(math.pi * min(1.0, max(0.0, passed)))
    lift = 0.46 + 0.26 * arc if night else 0.1 + 0.66 * arc**0.9
    wide = min(1.0, canvas.unit * 1.7 / canvas.width)
    travel = (0.5 - passed) * 0.46 + offset * (0.4 if night else 1.0)
    x = canvas.width * (0.5 + scene.side * travel * wide)
    # On a hanging scroll it stands over the heights.
    hanging = horizon > 2.2 * canvas.unit
    sky = horizon * (0.9 + 0.1 * (1 - lift)) / lift if hanging else min(horizon, canvas.unit)
    return x, horizon - lift * height * sky


def paint_sky(canvas: Canvas, scene: Scene, horizon: float) -> None:
    """Everything that is further away than land; below the horizon the colour of the last row goes on."""
    palette, drift = scene.palette, (scene.progress - 0.5) * 0.35 * canvas.unit
    canvas.wash(palette.sky, bottom=horizon)
    canvas.wash((palette.sky[-1],), top=horizon)
    if palette.darkness > 0.25 and not scene.lacks("stars"):
        _paint_stars(canvas, scene, horizon)
    if scene.has("aurora"):
        paint_aurora(canvas, scene, horizon)
    if scene.kind == "space":
        paint_nebula(canvas, scene, horizon)
        paint_planet(canvas, scene, horizon)
    elif scene.has("rain"):
        _paint_overcast(canvas, scene, horizon)
    else:
        if not scene.lacks("clouds"):
            _paint_cirrus(canvas, scene, horizon, drift)
        if not scene.lacks(scene.luminary):
            _paint_light(canvas, scene, light_place(canvas, scene, horizon))
        if not scene.lacks("clouds"):
            if palette.darkness > 0.5 or scene.chance("clouds").random() < 0.5:
                _paint_streaks(canvas, scene, horizon, drift)
            else:
                _paint_cumulus(canvas, scene, horizon, drift)


def paint_birds(canvas: Canvas, scene: Scene, horizon: float) -> None:
    """A small flock of distant birds, further on in every picture of a sequence."""
    if scene.lacks("birds") or scene.palette.darkness > 0.8 or scene.has("rain"):
        return
    chance, unit = scene.chance("birds"), canvas.unit
    x = canvas.width / 2 - scene.side * unit * (0.34 - 0.3 * scene.progress)
    y = horizon * chance.uniform(0.25, 0.42)
    ink = mix(scene.palette.near, scene.palette.sky[1], 0.25)
    for number in range(chance.randint(5, 9)):
        px = x + unit * (0.03 * number * scene.side + chance.uniform(-0.02, 0.02))
        py = y + unit * (0.014 * number * (-1) ** number + chance.uniform(-0.012, 0.012))
        span, beat = unit * chance.uniform(0.009, 0.016), chance.uniform(0.25, 0.6)
        for wing in (-span, span):
            line = curve(
                [(px, py), (px + wing * 0.5, py - span * beat), (px + wing, py - span * beat * 0.45)]
            )
            canvas.fill([stroke(line, max(1.2, span * 0.16), max(0.5, span * 0.03))], ink)


def _paint_light(canvas: Canvas, scene: Scene, centre: Point) -> None:
    palette, unit, night = scene.palette, canvas.unit, scene.luminary == "moon"
    x, y = centre
    halo = mix(palette.light, palette.sky[-1], 0.55)
    canvas.glow(centre, radius=unit * 0.95, colour=halo, alpha=0.34 if night else 0.62, falloff=2.2)
    canvas.glow(centre, radius=unit * 0.24, colour=palette.light, alpha=0.42 if night else 0.7, falloff=1.6)
    radius = unit * (0.052 if night else 0.058)
    colour = shade(palette.light, lighter=0.02)
    if not night and math.hypot(palette.sky[0][1], palette.sky[0][2]) < 0.035:
        # On an ink painting the red sun is the one colour.
        colour = lch(0.62, 0.19, 28)
    foot = palette.light if night else mix(colour, palette.sky[-1], 0.3)
    canvas.fill([ellipse(x, y, radius, corners=72)], colour, foot=foot)
    if night:
        chance = scene.chance("moon")
        seas = [
            ellipse(
                x + radius * chance.uniform(-0.5, 0.5),
                y + radius * chance.uniform(-0.5, 0.5),
                radius * chance.uniform(0.1, 0.24),
                radius * chance.uniform(0.08, 0.18),
            )
            for _ in range(6)
        ]
        canvas.fill(seas, shade(palette.light, lighter=-0.12), alpha=0.45)


def _paint_stars(canvas: Canvas, scene: Scene, horizon: float) -> None:
    chance, unit = scene.chance("stars"), canvas.unit
    strength = min(1.0, (scene.palette.darkness - 0.2) * 1.3)
    white = mix(scene.palette.light, (1.0, 0.0, 0.0), 0.5)
    for _ in range(min(420, int(150 * max(1.0, canvas.width * horizon / unit**2)))):
        x, y = chance.random() * canvas.width, chance.random() ** 1.3 * horizon
        size = max(0.55, unit * chance.uniform(0.0006, 0.0013))
        alpha = chance.choice((0.95, 0.65, 0.4)) * strength
        # One small shape at a time: a mask over the whole sky would cost far more than the dots.
        canvas.fill([ellipse(x, y, size, corners=10)], white, alpha=alpha)
        if chance.random() < 0.05:
            ray = unit * chance.uniform(0.005, 0.009)
            rays = [lens(x, y, ray, ray * 0.09), [(px, py) for py, px in lens(y, x, ray, ray * 0.09)]]
            canvas.glow((x, y), radius=ray * 1.6, colour=white, alpha=0.4 * strength)
            canvas.fill(rays, white, alpha=0.9 * strength)


def _paint_cirrus(canvas: Canvas, scene: Scene, horizon: float, drift: float) -> None:
    """High thin clouds without an outline."""
    chance, unit = scene.chance("cirrus"), canvas.unit
    veil = noise(chance, width=96, height=48, octaves=4).point(soft_step(126, 205, 150))
    fading = bytes(round(255 * math.sin(math.pi * (row + 0.5) / 48) ** 1.2) for row in range(48))
    veil = ImageChops.multiply(veil, Image.frombytes("L", (1, 48), fading).resize(veil.size))
    area = -0.3 * unit + drift, horizon * 0.1, canvas.width + 0.3 * unit + drift, horizon
    canvas.stain(veil, area, scene.palette.cloud)


def _paint_streaks(canvas: Canvas, scene: Scene, horizon: float, drift: float) -> None:
    """Long thin evening clouds, warmer near the horizon."""
    chance, palette, unit = scene.chance("streaks"), scene.palette, canvas.unit
    for _ in range(min(26, int(8 * max(1.0, canvas.width / unit)))):
        depth, x = chance.random(), chance.uniform(-0.1, 1.1) * canvas.width + drift
        y = horizon * (0.22 + 0.66 * depth)
        half, thick = unit * chance.uniform(0.16, 0.52), unit * chance.uniform(0.005, 0.013)
        wave = wavering(chance, frequency=3 / half, octaves=3, roughness=0.6)
        upper, lower = [], []
        for step in range(33):
            place = -1 + step / 16
            swell = max(0.0, 1 - place * place) ** 0.8 * thick
            upper.append((x + place * half, y - swell * (1 + 0.9 * wave(place * half))))
            lower.append((x + place * half, y + swell * 0.45 * (1 + 0.5 * wave(place * half + 99))))
        colour = mix(palette.cloud, palette.sky[-1], 0.25 + 0.4 * depth)
        canvas.fill([[*upper, *reversed(lower)]], colour, alpha=chance.uniform(0.35, 0.75))


def _paint_cumulus(canvas: Canvas, scene: Scene, horizon: float, drift: float) -> None:
    """Heaped clouds with flat feet that dissolve downwards."""
    chance, palette, unit = scene.chance("cumulus"), scene.palette, canvas.unit
    for _ in range(min(14, int(4 * max(1.0, canvas.width / unit)))):
        x, nearness = chance.uniform(-0.05, 1.05) * canvas.width, chance.random()
        x += drift * (0.5 + nearness)
        y = horizon * (0.78 - 0.55 * nearness)
        half = unit * (0.09 + 0.19 * nearness) * chance.uniform(0.8, 1.2)
        puffs: list[Path] = [curve([(x - half, y), (x, y - half * 0.16), (x + half, y)])]
        for number in range(9):
            across = -0.8 + number * 0.2 + chance.uniform(-0.08, 0.08)
            swell = half * (0.34 - 0.24 * abs(across)) * chance.uniform(0.75, 1.2)
            puffs.append(_dome(x + across * half, y, swell * 1.1, swell * chance.uniform(1.0, 1.6)))
        canvas.fill(puffs, palette.cloud, foot=mix(palette.cloud, palette.sky[1], 0.35), alpha=0.92, fade=0.8)


def _dome(x: float, y: float, rx: float, ry: float) -> list[Point]:
    angles = [math.pi * step / 18 for step in range(19)]
    return [(x + rx * math.cos(angle), y - ry * math.sin(angle)) for angle in angles]


def _paint_overcast(canvas: Canvas, scene: Scene, horizon: float) -> None:
    chance, unit = scene.chance("overcast"), canvas.unit
    grey = mix(scene.palette.cloud, scene.palette.near, 0.45)
    area = -unit * 0.2, -horizon * 0.2, canvas.width + unit * 0.2, horizon * 1.05
    for share in (0.35, 0.6):
        cover = noise(chance, width=96, height=48).point(soft_step(70, 190, 210))
        canvas.stain(cover, area, mix(grey, scene.palette.haze, share))

"""Water: the reflection of what stands above it, the glitter under the light, ripples and swell."""

from __future__ import annotations

from PIL import Image

from server.providers.painter.canvas import Canvas, Point
from server.providers.painter.colour import mix
from server.providers.painter.figures import paint_boat
from server.providers.painter.geometry import lens, stroke, wavering
from server.providers.painter.scene import Scene


def paint_water(canvas: Canvas, scene: Scene, waterline: float, light: Point) -> None:
    """Still water from the waterline to the lower edge, under a sun or moon at `light`."""
    palette, unit, depth = scene.palette, canvas.unit, canvas.height - waterline
    deep = mix(palette.sky[0], palette.near, 0.4)
    pale = mix(palette.sky[1], palette.haze, 0.3)
    _reflect(canvas, scene, round(waterline))
    canvas.tint((pale, mix(pale, deep, 0.6), deep), top=waterline, alpha_top=0.16, alpha_bottom=0.72)
    shore = lens(canvas.width / 2, waterline + unit * 0.002, canvas.width, unit * 0.0035)
    canvas.fill([shore], mix(palette.haze, palette.light, 0.4 * (1 - palette.darkness)), alpha=0.5)
    chance = scene.chance("ripples")
    spread = min(3.0, max(1.0, canvas.width * depth / unit**2 * 2))
    for colour, amount, alpha in ((mix(palette.sky[-1], palette.light, 0.3), 60, 0.3), (deep, 40, 0.28)):
        ripples = []
        for _ in range(int(amount * spread)):
            near = chance.random() ** 1.4
            half = unit * (0.012 + 0.1 * near) * chance.uniform(0.5, 1.3)
            y = waterline + depth * (0.03 + 0.97 * near)
            ripples.append(lens(chance.uniform(0, canvas.width), y, half, unit * (0.0006 + 0.0034 * near)))
        canvas.fill(ripples, colour, alpha=alpha)
    if scene.has("rain") or scene.lacks(scene.luminary):
        return
    sparks = []
    for _ in range(110):
        near = chance.random() ** 1.2
        x = light[0] + chance.gauss(0, 0.5) * unit * (0.03 + 0.13 * near)
        half = unit * (0.006 + 0.04 * near) * chance.uniform(0.5, 1.4)
        sparks.append(lens(x, waterline + depth * near, half, unit * (0.0008 + 0.0028 * near)))
    canvas.fill(sparks, palette.light, foot=mix(palette.light, palette.sky[-1], 0.4), alpha=0.85, fade=0.4)


def paint_swell(canvas: Canvas, scene: Scene, waterline: float) -> None:
    """Low waves that roll in, brighter on their crests."""
    unit, palette, depth = canvas.unit, scene.palette, canvas.height - waterline
    trough, crest = mix(palette.sky[0], palette.near, 0.35), mix(palette.sky[-1], palette.light, 0.4)
    for number in range(4):
        wave = wavering(scene.chance(f"wave {number}"), frequency=3.2 - 0.45 * number, octaves=3)
        level, rise = waterline + depth * ((number + 1) / 4.6) ** 1.15, unit * 0.011 * (1 + number)
        xs = range(-1, canvas.width + 8, max(1, canvas.width // 256))
        heights = [wave((x - canvas.width / 2) / unit + scene.progress * 1.7) for x in xs]
        line = [(float(x), level - rise * height) for x, height in zip(xs, heights, strict=True)]
        under = [(x, y + rise * (0.8 + 0.8 * height)) for (x, y), height in zip(line, heights, strict=True)]
        foot = mix(palette.sky[1], palette.near, 0.1)
        canvas.fill([[*line, *reversed(under)]], trough, foot=foot, alpha=0.36, fade=0.7)
        width = unit * 0.0016 * (1 + number * 0.5)
        canvas.fill([stroke(line, width, width)], crest, alpha=0.32)


def paint_islands(canvas: Canvas, scene: Scene, waterline: float) -> None:
    """One to three islands on the horizon."""
    chance, unit, palette = scene.chance("islands"), canvas.unit, scene.palette
    for number in range(chance.randint(1, 3)):
        centre, half = chance.uniform(-0.7, 0.7), chance.uniform(0.16, 0.4)
        tall, wave = unit * chance.uniform(0.04, 0.12), wavering(chance, frequency=6, octaves=4)
        line = []
        for step in range(121):
            away = -1 + step / 60
            swell = max(0.0, 1 - away * away) ** 0.8 * (1 + 0.45 * wave(centre + away * half))
            line.append(
                (canvas.width / 2 + (centre + away * half) * unit, waterline + unit * 0.004 - tall * swell)
            )
        rock = palette.shaded(0.24 + 0.12 * number)
        canvas.fill([line], rock, foot=mix(rock, palette.haze, 0.5))


def paint_sailing(canvas: Canvas, scene: Scene, waterline: float) -> None:
    """A boat on the water below the waterline, under way towards the light."""
    wide = min(canvas.unit, canvas.width)
    x = canvas.width / 2 + scene.side * wide * (0.04 + 0.36 * (scene.progress - 0.5))
    y = waterline + min(canvas.height - waterline, canvas.unit * 0.6) * 0.34
    paint_boat(canvas, scene, x=x, y=y, height=canvas.unit * 0.22)


def _reflect(canvas: Canvas, scene: Scene, waterline: int) -> None:
    """Repeat what stands above the waterline below it, upside down, in strips that waver."""
    depth, width, unit = canvas.height - waterline, canvas.width, canvas.unit
    chance, bend = scene.chance("reflection"), 0.0
    strip = max(1, round(unit / 420))
    for top in range(0, depth, strip):
        near, height = top / depth, min(strip, depth - top)
        # Seen from above, a reflection is shorter than its thing near the shore and longer at our feet.
        source = max(1, waterline - 1 - int(top * 0.82 + top * near * 0.3))
        row = canvas.image.crop((0, max(0, source - height), width, source))
        row = row.resize((width, height)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        bend = 0.6 * bend + chance.uniform(-1.0, 1.0)
        shift = round(unit * 0.012 * bend * (0.15 + near))
        canvas.image.paste(row, (0, waterline + top))
        canvas.image.paste(row, (shift, waterline + top))

"""Forests and gardens."""

from __future__ import annotations

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from server.providers.painter.canvas import Canvas, Path, Point
from server.providers.painter.colour import Colour, lch, mix
from server.providers.painter.figures import paint_butterflies
from server.providers.painter.flowers import paint_ferns, paint_flowers, paint_grass
from server.providers.painter.geometry import curve, ellipse, stroke, wavering
from server.providers.painter.scene import Scene
from server.providers.painter.sky import light_place, paint_birds, paint_sky
from server.providers.painter.staging import across, horizon_row, paint_subject, stands
from server.providers.painter.terrain import height_on, paint_hill, rolling, skyline
from server.providers.painter.town import paint_house
from server.providers.painter.trees import foliage, paint_bamboo, paint_leaf_tree, spruce
from server.providers.painter.weather import paint_fireflies, paint_mist


def paint_forest(canvas: Canvas, scene: Scene) -> None:
    """Trees behind trees in the mist, with light falling between them."""
    unit, palette, horizon = canvas.unit, scene.palette, horizon_row(canvas, 0.3)
    canvas.wash((mix(palette.sky[1], palette.haze, 0.3), mix(palette.haze, palette.light, 0.2), palette.haze))
    x, y = light_place(canvas, scene, horizon)
    light, warm = (x, max(unit * 0.14, y * 0.6)), mix(palette.light, palette.sky[-1], 0.3)
    canvas.glow(light, radius=unit * 0.95, colour=warm, alpha=0.85 - 0.35 * palette.darkness, falloff=1.6)
    for row, nearness in enumerate((0.14, 0.28, 0.48, 0.72, 1.0)):
        base = horizon + unit * (0.055 * row + 0.012 * row * row)
        line = rolling(canvas, scene.chance(f"floor {row}"), base=base, rise=unit * 0.04, frequency=1.4)
        if scene.has("bamboo"):
            amount = min(160, int((20, 16, 11, 7, 5)[row] * max(0.5, canvas.width / unit)))
            paint_bamboo(canvas, scene, line, nearness=nearness, amount=amount, name=str(row))
        elif row < 2:
            _paint_far_trees(canvas, scene, line, row=row, nearness=nearness)
        else:
            _paint_trunks(canvas, scene, line, row=row, nearness=nearness)
        body, lit = palette.shaded(nearness), palette.lit(nearness)
        canvas.ground(line, (mix(body, lit, 0.15), mix(body, lit, 0.35)), depth=unit * 0.3)
        if row >= 2 and not scene.has("snow"):
            fern, size = mix(body, palette.land, 0.22), 0.02 + 0.016 * row
            paint_ferns(canvas, scene, line, size=size, name=str(row), colour=fern, amount=16 - 2 * row)
        if row < 4:
            alpha = 0.6 - 0.08 * row
            paint_mist(canvas, scene, base - unit * 0.02, thickness=0.14, alpha=alpha, name=f"forest {row}")
        if row == 2:
            _paint_shafts(canvas, scene, light)
        if row == 3:
            paint_subject(canvas, scene, line)
    paint_fireflies(canvas, scene, horizon - unit * 0.15)


def paint_garden(canvas: Canvas, scene: Scene) -> None:
    """A meadow full of flowers before hills with orchards, with a path, a fence or a cottage."""
    unit, palette, horizon = canvas.unit, scene.palette, horizon_row(canvas, 0.48)
    paint_sky(canvas, scene, horizon)
    hills = (-0.03, 0.16, 0.16), (0.02, 0.12, 0.3), (0.07, 0.09, 0.46)
    for row, (drop, rise, nearness) in enumerate(hills):
        base, chance = horizon + unit * drop, scene.chance(f"orchard {row}")
        line = rolling(canvas, scene.chance(f"hill {row}"), base=base, rise=unit * rise, frequency=1.0)
        for number in range(min(24, int((0, 9, 6)[row] * canvas.width / unit))):
            x = chance.uniform(0, 1) * canvas.width
            tall = unit * chance.uniform(0.5, 1.0) * (0.0, 0.07, 0.12)[row]
            y = height_on(line, x) + unit * 0.006
            paint_leaf_tree(canvas, scene, x=x, y=y, height=tall, name=f"{row} {number}", nearness=nearness)
        if row == 2 and scene.subject != "house" and scene.chance("cottage").random() < 0.35:
            x = across(canvas, -scene.side * 0.08)
            paint_house(canvas, scene, x=x, y=height_on(line, x) + unit * 0.01, size=unit * 0.11)
        paint_hill(canvas, scene, line, nearness=nearness, lit=0.55 + 0.15 * row, misty=0.35, depth=0.22)
    paint_birds(canvas, scene, horizon)
    near = rolling(canvas, scene.chance("near"), base=horizon + unit * 0.15, rise=unit * 0.06, frequency=0.9)
    if scene.chance("fence").random() < 0.4:
        _paint_fence(canvas, scene, near)
    meadow = palette.lit(0.78), palette.lit(0.95), mix(palette.land, palette.near, 0.45)
    canvas.ground(near, meadow, depth=unit * 0.36)
    _paint_path(canvas, scene, near)
    for number, x in enumerate(stands(canvas, -scene.side * 0.36)):
        y = height_on(near, x) + unit * 0.03
        shade = ellipse(x - scene.side * unit * 0.05, y, unit * 0.17, unit * 0.02)
        canvas.fill([shade], palette.near, alpha=0.3)
        paint_leaf_tree(canvas, scene, x=x, y=y, height=unit * 0.54, name=f"near {number}")
    paint_flowers(canvas, scene, near, size=0.017, name="far", amount=170)
    paint_subject(canvas, scene, [(x, y + unit * 0.09) for x, y in near], scale=1.15)
    bank = rolling(
        canvas, scene.chance("border"), base=canvas.height - unit * 0.05, rise=unit * 0.03, frequency=1.1
    )
    leaf = mix(palette.near, palette.land, 0.75 if scene.has("snow") else 0.32)
    paint_grass(canvas, scene, bank, height=0.075, name="border", colour=leaf, density=1.2)
    canvas.ground(bank, (leaf, palette.near), depth=unit * 0.12)
    paint_flowers(canvas, scene, bank, size=0.034, name="border", amount=26)
    front = [(x, y + unit * 0.04) for x, y in bank]
    paint_grass(canvas, scene, front, height=0.06, name="front", colour=mix(leaf, palette.near, 0.5))
    paint_butterflies(canvas, scene, x=across(canvas, -scene.side * 0.16), y=canvas.height - unit * 0.26)
    paint_fireflies(canvas, scene, horizon)


def _paint_far_trees(canvas: Canvas, scene: Scene, line: list[Point], *, row: int, nearness: float) -> None:
    chance, unit, body = scene.chance(f"trunks {row}"), canvas.unit, scene.palette.shaded(nearness)
    amount = min(120, max(4, int((15, 11)[row] * canvas.width / unit)))
    trees: list[Path] = []
    for number in range(amount):
        x = (number + chance.uniform(0, 1)) / amount * canvas.width
        tall = unit * chance.uniform(0.3, 0.62) * (1 + 0.25 * row)
        trees.append(spruce(chance, x, height_on(line, x) + tall * 0.1, tall, tiers=8))
    canvas.fill(trees, body, foot=mix(body, scene.palette.haze, 0.25))


def _paint_trunks(canvas: Canvas, scene: Scene, line: list[Point], *, row: int, nearness: float) -> None:
    """Tall trunks with a few bare branches, under a roof of leaves."""
    chance, unit, palette = scene.chance(f"trunks {row}"), canvas.unit, scene.palette
    amount = min(80, max(3, int((9, 6, 4)[row - 2] * canvas.width / unit)))
    trunks: list[Path] = []
    for number in range(amount):
        x = (number + chance.uniform(0.1, 0.9)) / amount * canvas.width
        # In front, the middle stays open.
        if row == 4 and abs(x - canvas.width / 2) < unit * 0.24:
            continue
        wide = unit * (0.006 + 0.034 * nearness) * chance.uniform(0.7, 1.25)
        lean = chance.uniform(-0.03, 0.03) * canvas.height
        foot = height_on(line, x) + unit * 0.01
        spine = curve([(x, foot), (x + lean * 0.3, foot * 0.6), (x + lean, -unit * 0.02)])
        trunks.append(stroke(spine, wide, wide * 0.62))
        trunks.append(stroke([(x, foot + wide * 0.4), (x, foot - wide * 1.3)], wide * 2.5, wide * 0.9))
        for _ in range(chance.randint(2, 4)):
            level = chance.uniform(0.35, 0.9)
            reach = unit * (0.04 + 0.1 * nearness) * chance.uniform(0.5, 1.1)
            bx, by, way = x + lean * level, foot * (1 - level), reach * chance.choice((-1, 1))
            limb = curve([(bx, by), (bx + way * 0.5, by - reach * 0.18), (bx + way, by - reach * 0.55)])
            trunks.append(stroke(limb, wide * 0.28, wide * 0.06))
    body = palette.shaded(nearness)
    canvas.fill(trunks, mix(body, palette.haze, 0.12), foot=body)
    if not scene.has("snow"):
        _paint_canopy(canvas, scene, row, mix(body, foliage(scene, chance), 0.25 + 0.1 * nearness))


def _paint_canopy(canvas: Canvas, scene: Scene, row: int, colour: Colour) -> None:
    """Leaves that hang into the picture from above, lower at its sides, where they frame it."""
    unit, half, palette = canvas.unit, canvas.width / 2 / canvas.unit, scene.palette
    chance, depth = scene.chance(f"canopy {row}"), row - 2
    wave = wavering(chance, frequency=4.5, octaves=5, roughness=0.62)

    def hang(x: float) -> float:
        drape = 0.08 * depth * max(0.0, abs(x / half) - 0.35)
        return unit * ((0.04 + 0.018 * depth) * (1 + 1.3 * wave(x)) + drape)

    line = skyline(canvas, hang)
    fringe: list[Path] = [[(-2.0, -2.0), *line, (canvas.width + 2.0, -2.0)]]
    inner: list[Path] = []
    for number in range(int(min(560, 150 * canvas.width / unit))):
        x = chance.uniform(0, 1) * canvas.width
        size = unit * chance.uniform(0.007, 0.013) * (0.7 + 0.25 * depth)
        edge = height_on(line, x)
        within = number % 3 == 0
        y = edge * chance.uniform(0.0, 0.95) if within else edge + abs(chance.gauss(0, 1)) * size * 1.6
        tip = ellipse(x, y, size * 1.5, size * 0.7, turn=chance.uniform(-1.2, 1.2), corners=10)
        (inner if within else fringe).append(tip)
    canvas.fill(fringe, mix(colour, palette.near, 0.2), foot=mix(colour, palette.light, 0.12))
    canvas.fill(inner, mix(colour, palette.light, 0.2), alpha=0.35)


def _paint_shafts(canvas: Canvas, scene: Scene, light: Point) -> None:
    """Soft beams that fall from the light, drawn small and stretched."""
    chance, side = scene.chance("shafts"), 160
    beams = Image.new("L", (side, side))
    pencil, x = ImageDraw.Draw(beams), light[0] / canvas.width * side
    for _ in range(8):
        start, wide = x + chance.uniform(-14, 14), chance.uniform(1.5, 6.5)
        end = start - scene.side * chance.uniform(0.0, 1.1) * side
        beam = [
            (start - wide / 2, -4),
            (start + wide / 2, -4),
            (end + wide * 2, side),
            (end - wide * 2, side),
        ]
        pencil.polygon(beam, fill=int(chance.uniform(28, 74)))
    fading = Image.frombytes("L", (1, side), bytes(int(255 * (1 - row / side) ** 0.7) for row in range(side)))
    beams = ImageChops.multiply(beams.filter(ImageFilter.GaussianBlur(2.2)), fading.resize(beams.size))
    area = 0.0, 0.0, float(canvas.width), canvas.height * 0.97
    canvas.stain(beams, area, mix(scene.palette.light, scene.palette.sky[-1], 0.2))


def _paint_path(canvas: Canvas, scene: Scene, near: list[Point]) -> None:
    """A path that winds from the painter's feet over the crest."""
    unit, palette = canvas.unit, scene.palette
    sway = scene.chance("path").uniform(0.6, 1.0) * scene.side
    x, bottom = across(canvas, 0.08 * sway), canvas.height + unit * 0.02
    top = height_on(near, x) - 1
    spine = [(step / 24, x + unit * sway * (0.5 * (step / 24) ** 2 - 0.34 * step / 24)) for step in range(25)]
    left = [(px - unit * (0.006 + 0.1 * t**1.6), top + (bottom - top) * t) for t, px in spine]
    right = [(px + unit * (0.006 + 0.1 * t**1.6), top + (bottom - top) * t) for t, px in reversed(spine)]
    sand = mix(palette.lit(0.8), lch(0.86 - 0.45 * palette.darkness, 0.05, 80), 0.65)
    canvas.fill([left + right], mix(sand, palette.haze, 0.3), foot=mix(sand, palette.near, 0.18))


def _paint_fence(canvas: Canvas, scene: Scene, line: list[Point]) -> None:
    """A white picket fence along the crest."""
    unit, palette = canvas.unit, scene.palette
    white = mix(lch(0.94 - 0.4 * palette.darkness, 0.01, 90), palette.haze, 0.2)
    pickets: list[Path] = []
    for number in range(min(300, int(canvas.width / (unit * 0.028)) + 1)):
        x = number * unit * 0.028
        y, half = height_on(line, x), unit * 0.005
        pickets.append(
            [
                (x - half, y + half),
                (x - half, y - unit * 0.045),
                (x, y - unit * 0.054),
                (x + half, y - unit * 0.045),
                (x + half, y + half),
            ]
        )
    rails = [
        stroke([(x, y - unit * lift) for x, y in line], unit * 0.006, unit * 0.006) for lift in (0.018, 0.036)
    ]
    canvas.fill([*pickets, *rails], white, foot=mix(white, palette.near, 0.2))

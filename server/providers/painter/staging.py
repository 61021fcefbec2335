"""What several kinds of place share: where the horizon lies, whom the picture is about, and the near bank."""

from __future__ import annotations

from server.providers.painter.animals import is_animal, paint_animal
from server.providers.painter.canvas import Canvas, Path
from server.providers.painter.colour import mix
from server.providers.painter.figures import paint_astronaut, paint_balloon, paint_wanderer
from server.providers.painter.flowers import paint_grass
from server.providers.painter.geometry import ellipse, wavering
from server.providers.painter.mountains import paint_range, rugged
from server.providers.painter.scene import Scene
from server.providers.painter.terrain import height_on, paint_hill, rolling, skyline
from server.providers.painter.town import paint_house, paint_lighthouse, paint_pagoda
from server.providers.painter.trees import paint_leaf_tree, paint_spruce, paint_treeline
from server.providers.painter.weather import paint_mist


def horizon_row(canvas: Canvas, share: float) -> float:
    """The row of the horizon, `share` of a unit above the lower edge; on tall sheets it climbs a little."""
    climb = min(0.3 * (canvas.height - canvas.unit), 0.16 * canvas.unit)
    return canvas.height - share * canvas.unit - climb


def across(canvas: Canvas, place: float) -> float:
    """The x that lies `place` units right of the middle, drawn in on narrow sheets."""
    return canvas.width / 2 + place * min(canvas.unit, canvas.width)


def stands(canvas: Canvas, place: float) -> list[float]:
    """The x of `across(place)`, and on a panorama further ones to both sides of it."""
    x, step = across(canvas, place), canvas.unit * 1.9
    return [x + step * number for number in range(-int(x / step), int((canvas.width - x) / step) + 1)]


def paint_subject(canvas: Canvas, scene: Scene, line: Path, *, scale: float = 1.0) -> None:
    """Whom the picture is about, standing on the line; a wanderer where the prompt names nobody."""
    if scene.lacks("subject"):
        return
    unit, subject = canvas.unit * scale, scene.subject
    # Who lives moves on in a sequence, buildings stay.
    x = across(canvas, scene.side * (0.1 + 0.26 * (scene.progress - 0.5)))
    site = across(canvas, scene.side * 0.16)
    y, site_y = height_on(line, x), min(height_on(line, site) + unit * 0.012, canvas.height - unit * 0.03)
    if subject in ("house", "pagoda", "lighthouse"):
        canvas.fill([ellipse(site, site_y, unit * 0.13, unit * 0.011)], scene.palette.near, alpha=0.3)
    if subject is not None and is_animal(subject):
        y = min(y + unit * 0.06, canvas.height - unit * 0.04)
        paint_animal(canvas, scene, subject, x=x, y=y, size=unit * 0.3)
    elif subject == "house":
        paint_house(canvas, scene, x=site, y=site_y, size=unit * 0.22)
    elif subject == "pagoda":
        paint_pagoda(canvas, scene, x=site, y=site_y, height=unit * 0.42)
    elif subject == "lighthouse":
        paint_lighthouse(canvas, scene, x=site, y=site_y, height=unit * 0.4)
    elif subject == "balloon":
        _paint_balloons(canvas, scene)
    elif scene.kind == "space":
        paint_astronaut(canvas, scene, x=x, y=y + unit * 0.012, height=unit * (0.17 if subject else 0.11))
    else:
        paint_wanderer(canvas, scene, x=x, y=y + unit * 0.008, height=unit * (0.16 if subject else 0.09))


def paint_wooded_hill(
    canvas: Canvas, scene: Scene, line: Path, *, nearness: float, height: float, name: str
) -> None:
    """A hill with spruces (`height` in units) along its crest."""
    paint_treeline(canvas, scene, line, nearness=nearness, height=height, name=name)
    lit = 0.75 if scene.has("snow") else 0.0
    paint_hill(canvas, scene, line, nearness=nearness, misty=0.55, depth=0.2, lit=lit)


def paint_heights(canvas: Canvas, scene: Scene, horizon: float) -> None:
    """On a hanging scroll: range over range in the mist above the horizon."""
    unit = canvas.unit
    rows = min(12, int((horizon / unit - 1.6) / 0.6))
    for row in range(rows, 0, -1):
        chance, name = scene.chance(f"heights {row}"), f"heights {row}"
        base, nearness = horizon - unit * (0.1 + 0.6 * row), 0.36 - 0.22 * row / rows
        rise, summit = unit * chance.uniform(0.3, 0.46), chance.uniform(-0.35, 0.35)
        line = rugged(canvas, chance, base=base, rise=rise, frequency=1.3, summit=summit)
        paint_range(canvas, scene, line, nearness=nearness, snow=0.3)
        slope = [(x, y + unit * 0.3) for x, y in line]
        paint_treeline(canvas, scene, slope, nearness=nearness + 0.1, height=0.03, name=name)
        paint_mist(canvas, scene, base + unit * 0.12, thickness=0.2, alpha=0.9, name=name)


def paint_bank(canvas: Canvas, scene: Scene, base: float) -> None:
    """The slope the painter stands on: grass, trees at the dark side, and the subject."""
    unit, palette, snowy = canvas.unit, scene.palette, scene.has("snow")
    chance, middle, lowest = scene.chance("bank"), canvas.width / 2, canvas.height - canvas.unit * 0.04
    slope = -scene.side * chance.uniform(0.06, 0.12)
    line = [
        (x, min(lowest, y - slope * max(-0.8 * unit, min(0.8 * unit, x - middle))))
        for x, y in rolling(canvas, chance, base=base, rise=unit * 0.035, frequency=0.8)
    ]
    ground = mix(palette.near, palette.land, 0.75 if snowy else 0.18)
    if not snowy:
        paint_grass(canvas, scene, line, height=0.035, name="bank", colour=ground)
    canvas.ground(line, (ground, mix(palette.near, palette.land, 0.45 if snowy else 0.0)), depth=unit * 0.3)
    leafy = scene.has("blossom") or scene.has("autumn")
    for stand, spot in enumerate(stands(canvas, -scene.side * 0.4)):
        group = []
        for _ in range(2 if leafy else chance.randint(3, 5)):
            x = spot + chance.uniform(-0.1, 0.1) * min(unit, canvas.width)
            group.append((unit * chance.uniform(0.2, 0.46), x, height_on(line, x) + unit * 0.02))
        for number, (height, x, y) in enumerate(sorted(group)):
            if leafy:
                paint_leaf_tree(canvas, scene, x=x, y=y, height=height * 1.2, name=f"bank {stand} {number}")
            else:
                paint_spruce(canvas, scene, x=x, y=y, height=height, name=f"bank {stand} {number}")
    paint_subject(canvas, scene, line)
    if not snowy:
        front = [(x, y + unit * 0.1) for x, y in line]
        blade = mix(palette.near, (0.0, 0.0, 0.0), 0.15)
        paint_grass(canvas, scene, front, height=0.06, name="front", colour=blade, density=0.8)


def paint_corner(canvas: Canvas, scene: Scene) -> None:
    """A dark bank with spruces in the lower corner opposite the light, which leads the eye in."""
    unit, palette, snowy = canvas.unit, scene.palette, scene.has("snow")
    chance, corner = scene.chance("corner"), canvas.width / 2 * (1 - scene.side)
    wave = wavering(chance, frequency=4, octaves=3)

    def height_at(place: float) -> float:
        inward = abs(place + (canvas.width / 2 - corner) / unit)
        return canvas.height - unit * (max(-0.05, 0.16 - 0.34 * inward) - 0.008 * wave(place))

    line = skyline(canvas, height_at)
    ground = mix(palette.near, palette.land, 0.7 if snowy else 0.12)
    if not snowy:
        paint_grass(canvas, scene, line, height=0.05, name="corner", colour=ground, density=1.4)
    canvas.ground(line, (ground, mix(ground, palette.near, 0.6)))
    for number in range(4):
        x = corner + scene.side * unit * (0.02 + 0.07 * number + chance.uniform(0, 0.03))
        height = unit * chance.uniform(0.3, 0.62) * (1 - 0.16 * number)
        y = height_on(line, x) + unit * 0.03
        paint_spruce(canvas, scene, x=x, y=y, height=height, name=f"corner {number}")


def _paint_balloons(canvas: Canvas, scene: Scene) -> None:
    chance, unit = scene.chance("balloons"), canvas.unit
    balloons = (-0.36, 0.72, 0.07), (0.36, 0.62, 0.1), (0.06, 0.68, 0.26)
    for number, (place, level, size) in enumerate(balloons):
        x = across(canvas, place * scene.side + chance.uniform(-0.06, 0.06) + (scene.progress - 0.5) * 0.2)
        y = canvas.height - unit * (level + chance.uniform(-0.03, 0.05) + 0.06 * scene.progress)
        paint_balloon(canvas, scene, x=x, y=y, size=unit * size, name=str(number))

"""Paints a scene: the kind of place first, then the weather before it."""

from __future__ import annotations

from collections.abc import Callable

from server.providers.painter.canvas import Canvas
from server.providers.painter.highlands import paint_desert, paint_lake, paint_mountains, paint_space
from server.providers.painter.scene import Scene
from server.providers.painter.shores import paint_city, paint_sea
from server.providers.painter.weather import paint_vignette, paint_weather
from server.providers.painter.woods import paint_forest, paint_garden

_PLACES: dict[str, Callable[[Canvas, Scene], None]] = {
    "mountains": paint_mountains,
    "lake": paint_lake,
    "sea": paint_sea,
    "forest": paint_forest,
    "city": paint_city,
    "desert": paint_desert,
    "garden": paint_garden,
    "space": paint_space,
}


def compose(canvas: Canvas, scene: Scene) -> None:
    """Cover the whole canvas with the scene."""
    _PLACES[scene.kind](canvas, scene)
    paint_weather(canvas, scene)
    paint_vignette(canvas, scene)

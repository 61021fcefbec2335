"""Colours in OKLab, where equal steps look equal and mixtures stay clean.

Source of the matrices: Björn Ottosson, "A perceptual color space for image processing" (2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Colour = tuple[float, float, float]
"""Lightness 0-1 and the two opponent axes a, b (about -0.4 to 0.4) of OKLab."""

Rgb = tuple[int, int, int]


def lch(lightness: float, chroma: float, hue_degrees: float) -> Colour:
    """The colour of that lightness (0-1), chroma (0 is grey, 0.3 as vivid as a screen can) and hue."""
    hue = math.radians(hue_degrees)
    return lightness, chroma * math.cos(hue), chroma * math.sin(hue)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`one` with `share` (0-1) of `other` in it."""
    keep = 1.0 - share
    return (
        one[0] * keep + other[0] * share,
        one[1] * keep + other[1] * share,
        one[2] * keep + other[2] * share,
    )


def shade(colour: Colour, *, lighter: float = 0.0, vivid: float = 1.0) -> Colour:
    """The colour with its lightness moved by `lighter` (-1 to 1) and its chroma multiplied by `vivid`."""
    return min(1.0, max(0.0, colour[0] + lighter)), colour[1] * vivid, colour[2] * vivid


def ramp(stops: Sequence[Colour], steps: int) -> list[Colour]:
    """`steps` colours that pass through the equally spaced `stops` (at least one)."""
    last = len(stops) - 1
    colours: list[Colour] = []
    for step in range(steps):
        place = last * step / max(1, steps - 1)
        index = min(int(place), max(0, last - 1))
        colours.append(mix(stops[index], stops[min(last, index + 1)], place - index))
    return colours


def rgb(colour: Colour) -> Rgb:
    """The nearest sRGB colour; what the screen cannot show loses chroma, not lightness or hue."""
    lightness, a, b = colour
    for _ in range(12):
        linear = _linear(lightness, a, b)
        if min(linear) >= -0.002 and max(linear) <= 1.002:
            break
        a, b = a * 0.9, b * 0.9
    else:
        linear = _linear(lightness, a, b)
    red, green, blue = linear
    return _encoded(red), _encoded(green), _encoded(blue)


def _linear(lightness: float, a: float, b: float) -> tuple[float, float, float]:
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _encoded(channel: float) -> int:
    channel = min(1.0, max(0.0, channel))
    curved = 12.92 * channel if channel <= 0.0031308 else 1.055 * channel ** (1 / 2.4) - 0.055
    return round(255 * curved)

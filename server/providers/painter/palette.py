"""The light of the hour and the mood of the picture, as the colours that everything is painted in."""

from __future__ import annotations

from msgspec import Struct

from server.providers.painter.colour import Colour, lch, mix


class Mood(Struct, frozen=True, kw_only=True):
    """The hues (degrees in OKLCH) a picture is tuned to, and how vivid it is (1 = as in the tables)."""

    cool: float
    warm: float
    ground: float
    accent: float
    vivid: float = 1.0
    lush: float = 1.0
    """How vivid the land is beyond that."""


class Palette(Struct, frozen=True, kw_only=True):
    """What a picture is painted in."""

    sky: tuple[Colour, ...]
    """From the zenith to the horizon."""
    light: Colour
    """Sun or moon."""
    land: Colour
    """Near land in the light."""
    near: Colour
    """Near land in the shade."""
    cloud: Colour
    accent: Colour
    """For the few small things that shall catch the eye."""
    darkness: float
    """0 in daylight, 1 in the night."""

    def towards(self, other: Palette, share: float) -> Palette:
        """The palette with `share` (0-1) of the other one mixed in."""
        return Palette(
            sky=tuple(mix(one, two, share) for one, two in zip(self.sky, other.sky, strict=True)),
            light=mix(self.light, other.light, share),
            land=mix(self.land, other.land, share),
            near=mix(self.near, other.near, share),
            cloud=mix(self.cloud, other.cloud, share),
            accent=mix(self.accent, other.accent, share),
            darkness=self.darkness + (other.darkness - self.darkness) * share,
        )

    @property
    def haze(self) -> Colour:
        """What distance fades to."""
        return mix(self.sky[-2], self.sky[-1], 0.45)

    def shaded(self, nearness: float) -> Colour:
        """The land in the shade at a distance: 0 is the horizon, 1 the spot where the painter stands."""
        return mix(self.haze, self.near, nearness)

    def lit(self, nearness: float) -> Colour:
        """The land in the light at a distance, as in `shaded`."""
        return mix(self.haze, self.land, 0.25 + 0.75 * nearness)


MOODS: dict[str, Mood] = {
    "clear": Mood(cool=245, warm=52, ground=145, accent=28),
    "rose": Mood(cool=285, warm=12, ground=165, accent=5),
    "lagoon": Mood(cool=212, warm=58, ground=172, accent=40),
    "lavender": Mood(cool=300, warm=345, ground=155, accent=320),
    "amber": Mood(cool=228, warm=54, ground=115, accent=50),
    "mint": Mood(cool=185, warm=68, ground=155, accent=20),
    "ember": Mood(cool=270, warm=35, ground=130, accent=45),
    "ink": Mood(cool=240, warm=85, ground=200, accent=27, vivid=0.22),
}

# Lightness, chroma, the hue of the mood to start from, degrees to turn it by.
_Pigment = tuple[float, float, str, float]
# Hour of day: darkness, then sky from the zenith to the horizon (4), light, land, near, cloud.
# fmt: off
_HOURS: dict[float, tuple[float, tuple[_Pigment, ...]]] = {
    4.6: (0.75, (
        (0.270, 0.070, "cool", 22), (0.400, 0.075, "cool", 38), (0.600, 0.075, "warm", -28),
        (0.770, 0.080, "warm", 8), (0.950, 0.040, "warm", 25), (0.400, 0.045, "ground", 10),
        (0.170, 0.040, "cool", 10), (0.620, 0.070, "warm", -25),
    )),
    6.4: (0.0, (
        (0.600, 0.075, "cool", 12), (0.750, 0.060, "warm", -55), (0.860, 0.070, "warm", -5),
        (0.935, 0.065, "warm", 22), (0.980, 0.050, "warm", 30), (0.660, 0.075, "ground", -8),
        (0.310, 0.060, "ground", 15), (0.940, 0.035, "warm", 10),
    )),
    10.0: (0.0, (
        (0.660, 0.100, "cool", 0), (0.780, 0.070, "cool", -4), (0.880, 0.045, "cool", -12),
        (0.955, 0.030, "warm", 30), (0.990, 0.025, "warm", 35), (0.760, 0.110, "ground", -12),
        (0.360, 0.075, "ground", 8), (0.985, 0.010, "warm", 30),
    )),
    14.5: (0.0, (
        (0.640, 0.105, "cool", 4), (0.770, 0.075, "cool", -2), (0.880, 0.048, "cool", -16),
        (0.950, 0.040, "warm", 32), (0.990, 0.035, "warm", 32), (0.760, 0.110, "ground", -16),
        (0.350, 0.075, "ground", 6), (0.980, 0.014, "warm", 25),
    )),
    17.2: (0.0, (
        (0.560, 0.090, "cool", 18), (0.720, 0.065, "warm", -50), (0.840, 0.090, "warm", 4),
        (0.920, 0.090, "warm", 24), (0.980, 0.065, "warm", 30), (0.660, 0.095, "ground", -26),
        (0.290, 0.060, "ground", 10), (0.930, 0.050, "warm", 12),
    )),
    18.6: (0.15, (
        (0.390, 0.095, "cool", 34), (0.560, 0.105, "warm", -52), (0.730, 0.130, "warm", -6),
        (0.860, 0.115, "warm", 22), (0.960, 0.085, "warm", 28), (0.470, 0.075, "ground", -30),
        (0.200, 0.055, "cool", 40), (0.760, 0.105, "warm", -16),
    )),
    19.8: (0.7, (
        (0.250, 0.075, "cool", 24), (0.370, 0.090, "cool", 44), (0.550, 0.105, "warm", -38),
        (0.720, 0.105, "warm", 0), (0.950, 0.040, "warm", 30), (0.340, 0.050, "ground", 10),
        (0.150, 0.045, "cool", 28), (0.500, 0.085, "warm", -42),
    )),
    20.7: (0.88, (
        (0.200, 0.065, "cool", 30), (0.285, 0.080, "cool", 40), (0.400, 0.085, "cool", 56),
        (0.540, 0.085, "warm", -62), (0.950, 0.030, "warm", 32), (0.330, 0.050, "cool", 20),
        (0.128, 0.038, "cool", 22), (0.420, 0.075, "cool", 56),
    )),
    21.8: (1.0, (
        (0.160, 0.055, "cool", 30), (0.235, 0.070, "cool", 24), (0.335, 0.075, "cool", 16),
        (0.470, 0.070, "cool", 2), (0.950, 0.025, "warm", 35), (0.360, 0.050, "cool", -5),
        (0.115, 0.032, "cool", 14), (0.360, 0.050, "cool", 14),
    )),
}
# fmt: on
_NIGHT_ENDS = 27.8
_DAWN = 28.6


def palette_at(hour: float, mood: Mood) -> Palette:
    """The colours of the mood at an hour of the day; any number will do, 25 is one in the morning."""
    keys = {**_HOURS, _NIGHT_ENDS: _HOURS[21.8], _DAWN: _HOURS[4.6]}
    hour = (hour - 4.6) % 24.0 + 4.6
    before = max(key for key in keys if key <= hour)
    after = min(key for key in keys if key >= hour)
    share = 0.0 if after == before else (hour - before) / (after - before)
    (darkness, pigments), (next_darkness, next_pigments) = keys[before], keys[after]
    colours = [
        mix(_tuned(one, mood), _tuned(other, mood), share)
        for one, other in zip(pigments, next_pigments, strict=True)
    ]
    light, land, near, cloud = colours[4:]
    darkness += (next_darkness - darkness) * share
    return Palette(
        sky=tuple(colours[:4]),
        light=light,
        land=land,
        near=near,
        cloud=cloud,
        accent=lch(0.70 - 0.2 * darkness, 0.16 * max(0.8, mood.vivid) * (1 - 0.3 * darkness), mood.accent),
        darkness=darkness,
    )


def _tuned(pigment: _Pigment, mood: Mood) -> Colour:
    lightness, chroma, base, turn = pigment
    hue = {"cool": mood.cool, "warm": mood.warm, "ground": mood.ground}[base] + turn
    lush = mood.lush if base == "ground" else 1.0
    return lch(lightness, chroma * mood.vivid * lush, hue)

"""What will be painted: all decisions that depend on prompt, seed and place in the sequence, none on size."""

from __future__ import annotations

import hashlib
import random

from msgspec import Struct
from msgspec.structs import replace

from server.providers.painter import reading
from server.providers.painter.colour import shade
from server.providers.painter.palette import MOODS, Mood, Palette, palette_at

# Hours a single picture is painted at, and those a sequence passes from its first picture to its last.
_SINGLE_HOURS = {
    "dawn": (5.6, 7.4),
    "day": (9.0, 15.5),
    "sunset": (17.2, 18.7),
    "dusk": (18.9, 19.9),
    "night": (21.5, 27.0),
}
_SEQUENCE_HOURS = {
    "": (6.8, 20.0),
    "dawn": (4.8, 9.0),
    "day": (8.0, 16.8),
    "sunset": (16.4, 19.6),
    "dusk": (18.2, 21.0),
    "night": (19.9, 27.6),
}
# What is drawn from where the prompt says nothing.
_FREE_KINDS = ("mountains", "mountains", "lake", "lake", "sea", "forest", "desert", "garden", "city")
_FREE_MOODS = ("clear", "clear", "lagoon", "amber", "mint", "ember", "rose", "lavender")
_FREE_HOURS = ("dawn", "day", "sunset", "sunset", "dusk", "night")
_FREE_HOURS_OF = {
    "garden": ("dawn", "day", "day", "sunset"),
    "city": ("sunset", "dusk", "night", "day"),
    "space": ("night",),
    "forest": ("dawn", "day", "sunset", "dusk"),
}
_HOMES = {
    "cat": "garden",
    "dog": "garden",
    "rabbit": "garden",
    "house": "garden",
    "fox": "forest",
    "panda": "forest",
    "boat": "sea",
    "lighthouse": "sea",
    "pagoda": "lake",
}


class Scene(Struct, frozen=True, kw_only=True):
    """One picture's content. Pictures of one sequence differ in hour, progress and palette alone."""

    key: bytes
    kind: str
    """One of `reading.KINDS`."""
    features: frozenset[str]
    """Of `reading.FEATURES`."""
    absent: frozenset[str]
    """Of `reading.ELEMENTS`: what shall not be painted."""
    subject: str | None
    """One of `reading.SUBJECTS`."""
    coat: str | None
    """One of `reading.COATS`."""
    hour: float
    """Hour of the day, beyond 24 after midnight."""
    progress: float
    """Place in the sequence, 0-1; of a single picture 0.5."""
    side: int
    """Where the light comes from: -1 left, 1 right."""
    palette: Palette

    def chance(self, name: str) -> random.Random:
        """Randomness of its own for the named part, so that leaving one part out changes no other."""
        return random.Random(hashlib.sha256(self.key + name.encode()).digest())

    @property
    def luminary(self) -> str:
        """What lights the scene: "sun" or "moon"."""
        return "moon" if self.palette.darkness > 0.85 else "sun"

    def has(self, feature: str) -> bool:
        return feature in self.features

    def lacks(self, element: str) -> bool:
        return element in self.absent


def imagine(
    *, prompt: str, seed: int, index: int, count: int, guidance_scale: float | None, negative_prompt: str
) -> Scene:
    """The scene for a prompt; see `paint` for the arguments."""
    key = hashlib.sha256(f"{seed}\0{prompt}".encode("utf-8", "surrogatepass")).digest()
    chance = random.Random(key)
    side, drawn_mood = chance.choice((-1, 1)), chance.choice(_FREE_MOODS)
    features, subject = reading.every(reading.FEATURES, prompt), reading.first(reading.SUBJECTS, prompt)
    kind = reading.first(reading.KINDS, prompt)
    if kind is None and "snow" in features:
        kind = "mountains"
    if kind is None and subject is not None:
        kind = _HOMES.get(subject)
    if kind is None:
        unwanted = reading.every(reading.KINDS, negative_prompt)
        kind = chance.choice([kind for kind in _FREE_KINDS if kind not in unwanted] or _FREE_KINDS)
    named_mood, named_hour = reading.first(reading.MOODS, prompt), reading.first(reading.HOURS, prompt)
    # Ink paintings are on white paper unless something else is asked for.
    drawn_hour = "dawn" if named_mood == "ink" else chance.choice(_FREE_HOURS_OF.get(kind, _FREE_HOURS))
    progress = index / (count - 1) if count > 1 else 0.5
    if count > 1:
        start, end = _SEQUENCE_HOURS[named_hour or ""]
        # The light changes fastest in the evening: dwell there.
        hour = start + (end - start) * progress**0.75
    else:
        hour = chance.uniform(*_SINGLE_HOURS[named_hour or drawn_hour])
    mood = _tempered(
        MOODS[named_mood or drawn_mood], kind, features, guidance_scale, random.Random(key + b"mood")
    )
    palette = palette_at(hour, mood)
    if count > 1:
        # A touch of one light over all of them keeps the pictures of a sequence together.
        palette = palette.towards(palette_at((start + end) / 2 + 3, mood), 0.28)
    if "snow" in features:
        white = shade(palette.land, lighter=0.16 * (1 - 0.7 * palette.darkness))
        palette = replace(palette, land=white)
    return Scene(
        key=key,
        kind=kind,
        features=features,
        absent=reading.every(reading.ELEMENTS, negative_prompt),
        subject=subject,
        coat=reading.first(reading.COATS, prompt),
        hour=hour,
        progress=progress,
        side=side,
        palette=palette,
    )


def _tempered(
    mood: Mood, kind: str, features: frozenset[str], guidance_scale: float | None, chance: random.Random
) -> Mood:
    """The mood, a little different each time and fit for the place; guidance makes it bolder or quieter."""
    turn, vivid = chance.uniform(-12, 12), mood.vivid * chance.uniform(0.92, 1.08)
    if guidance_scale is not None:
        vivid *= 1 + max(-0.3, min(0.35, (guidance_scale - 6) / 16))
    ground, lush = mood.ground + turn, mood.lush
    if kind == "desert":
        ground = 55 + turn / 2
    elif kind == "city":
        ground = mood.cool - 10
    elif kind == "garden":
        ground, lush = 135 + turn, 1.25
    if "snow" in features:
        ground, vivid, lush = 250 + turn, vivid * 0.75, 0.4
    elif "autumn" in features and kind != "city":
        ground = 75 + turn / 2
    if "rain" in features:
        vivid *= 0.55
    return replace(
        mood,
        cool=mood.cool + turn,
        warm=mood.warm + turn / 2,
        ground=ground,
        accent=mood.accent + turn,
        vivid=vivid,
        lush=lush,
    )

"""The pictures of a loopback vendor, and the signed links they hang behind."""

from __future__ import annotations

import hashlib
import io
import secrets
import time
from dataclasses import dataclass

from PIL import Image

SIDE_PX = 64
"""Small whatever was asked for: load tests want many of them."""
PATH = "/outputs/"


@dataclass(slots=True, kw_only=True)
class Output:
    """One picture that was made; it is drawn when it is fetched."""

    prompt: str
    name: str
    signature: str
    png: bool
    expires: float
    """On the monotonic clock."""
    failing_status: int = 0
    failures_left: int = 0

    @property
    def link(self) -> str:
        """Path and signed query, as an object store gives them."""
        return f"{PATH}{self.name}?X-Tos-Expires=86400&X-Tos-Signature={self.signature}"

    @property
    def mime_type(self) -> str:
        return "image/png" if self.png else "image/jpeg"

    def draw(self) -> bytes:
        """Its bytes: no two pictures are alike, each is the same every time."""
        return draw(self.name, png=self.png)


class Outputs:
    """The pictures of one server, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Output] = {}

    def add(self, prompt: str, *, png: bool, life_s: float) -> Output:
        """A new picture behind a name nobody can guess."""
        name = f"{secrets.token_hex(16)}.{'png' if png else 'jpeg'}"
        output = Output(
            prompt=prompt,
            name=name,
            signature=secrets.token_hex(32),
            png=png,
            expires=time.monotonic() + life_s,
        )
        self._by_name[name] = output
        return output

    def get(self, name: str) -> Output | None:
        """The picture of this name."""
        return self._by_name.get(name)


def draw(seed: str, *, png: bool) -> bytes:
    """A small picture full of colours, about a quarter of a millisecond's work."""
    noise = hashlib.shake_128(seed.encode()).digest(8 * 8 * 3)
    picture = Image.frombytes("RGB", (8, 8), noise).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    if png:
        picture.save(file, "PNG", compress_level=1)
    else:
        picture.save(file, "JPEG", quality=85)
    return file.getvalue()

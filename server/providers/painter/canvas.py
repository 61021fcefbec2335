"""The sheet the painter draws on: anti-aliased shapes, washes, glows and textures.

All coordinates are picture pixels from the upper left, as floats. Large areas are worked in bands, so that
beside the picture itself (4 bytes a pixel) only a few megabytes are in use, whatever its size.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from PIL import Image, ImageChops, ImageDraw, ImagePath

from server.providers.painter.colour import Colour, ramp, rgb

Point = tuple[float, float]
Path = Sequence[Point]
Box = tuple[int, int, int, int]
Area = tuple[float, float, float, float]
"""Left, upper, right and lower edge."""

_BAND_PIXELS = 1_500_000
_GRADIENT_STEPS = 96


class Canvas:
    """A picture being painted. `unit` is the length, in pixels, that shapes are measured in."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        # Long sides do not make things bigger: a wide sheet is a panorama, a tall one a hanging scroll.
        self.unit = min(height, 1.25 * width, 0.75 * height + 0.25 * width)
        self.image = Image.new("RGB", (width, height))

    def wash(self, stops: Sequence[Colour], *, top: float = 0.0, bottom: float | None = None) -> None:
        """Cover the rows from `top` to `bottom` (default: the last) with a vertical gradient."""
        first, last = round(top), self.height if bottom is None else round(bottom)
        box = self._clip(0, first, self.width, last)
        if box is not None:
            column = _column(stops, max(1, last - first))
            for band in _bands(box):
                self.image.paste(_rows(column, band, first), band)

    def fill(
        self,
        paths: Sequence[Path],
        colour: Colour,
        *,
        foot: Colour | None = None,
        alpha: float = 1.0,
        fade: float = 0.0,
    ) -> None:
        """Paint closed shapes as one: where they overlap they are not painted twice.

        The colour runs down to `foot` at their lowest point; `alpha` is their opacity, of which the share
        `fade` is lost on the way down.
        """
        # Pillow's own kind of path: a picture has thousands, and their points are worked in C.
        outlines = [ImagePath.Path(path) for path in paths if path]
        spans = [(*outline.getbbox(), outline) for outline in outlines]
        if not spans:
            return
        left, top = min(span[0] for span in spans), min(span[1] for span in spans)
        right, bottom = max(span[2] for span in spans), max(span[3] for span in spans)
        box = self._clip(int(left) - 1, int(top) - 1, int(right) + 2, int(bottom) + 2)
        if box is None:
            return
        first, height = int(top), max(1, int(bottom) - int(top) + 1)
        column = None if foot is None else _column((colour, foot), height)
        fading = _fading(alpha, alpha * (1.0 - fade), height) if fade else None
        ink = 255 if fade else round(255 * min(1.0, alpha))
        for band in _bands(box):
            shapes = [outline for _, low, _, high, outline in spans if low <= band[3] and high >= band[1]]
            mask = _mask(band, shapes, ink=ink)
            if fading is not None:
                mask = ImageChops.multiply(mask, _rows(fading, band, first))
            paint = _plain(colour, band) if column is None else _rows(column, band, first)
            self.image.paste(paint, band, mask)

    def ground(self, edge: Path, stops: Sequence[Colour], *, depth: float | None = None) -> None:
        """Paint everything under `edge`, points from the left side to the right one.

        The gradient starts at the highest point and takes `depth` pixels (default: down to the last row).
        """
        top, brink = min(y for _, y in edge), max(y for _, y in edge)
        first = int(top)
        reach = self.height - first if depth is None else round(depth)
        column = _column(stops, max(1, reach))
        box = self._clip(0, first - 1, self.width, int(brink) + 2)
        if box is not None:
            shape = ImagePath.Path([(-2.0, brink + 4), *edge, (self.width + 2.0, brink + 4)])
            for band in _bands(box):
                self.image.paste(_rows(column, band, first), band, _mask(band, [shape]))
        box = self._clip(0, int(brink) + 2, self.width, self.height)
        if box is not None:
            for band in _bands(box):
                self.image.paste(_rows(column, band, first), band)

    def glow(
        self, *centres: Point, radius: float, colour: Colour, alpha: float = 1.0, falloff: float = 2.0
    ) -> None:
        """Lights that fade from `alpha` at each centre to nothing at `radius`; `falloff` 1 is even."""
        # Pillow's gradient reaches 255 in the corners of its square, 181 at the middle of the sides.
        table = [round(255 * alpha * max(0.0, 1 - level / 180) ** falloff) for level in range(256)]
        light = Image.radial_gradient("L").point(table)
        if radius < 40:
            light = light.resize((64, 64), Image.Resampling.BOX)
        for x, y in centres:
            self.stain(light, (x - radius, y - radius, x + radius, y + radius), colour)

    def stain(self, texture: Image.Image, area: Area, colour: Colour) -> None:
        """Paint the colour through a small grey texture that is stretched over the area."""
        for band in self._bands_of(area):
            self.image.paste(_plain(colour, band), band, _stretched(texture, area, band))

    def lay(self, picture: Image.Image, texture: Image.Image, area: Area) -> None:
        """Lay a small picture over the area, as dense as the small grey texture says; both are stretched."""
        for band in self._bands_of(area):
            self.image.paste(_stretched(picture, area, band), band, _stretched(texture, area, band))

    def tint(self, stops: Sequence[Colour], *, top: float, alpha_top: float, alpha_bottom: float) -> None:
        """Tint everything from the row `top` down with a gradient whose opacity changes on the way."""
        first = round(top)
        box = self._clip(0, first, self.width, self.height)
        if box is not None:
            column = _column(stops, self.height - first)
            fading = _fading(alpha_top, alpha_bottom, self.height - first)
            for band in _bands(box):
                self.image.paste(_rows(column, band, first), band, _rows(fading, band, first))

    def _bands_of(self, area: Area) -> Iterator[Box]:
        left, top, right, bottom = area
        box = self._clip(int(left), int(top), int(right) + 1, int(bottom) + 1)
        if box is not None and right - left >= 1 and bottom - top >= 1:
            yield from _bands(box)

    def _clip(self, left: int, top: int, right: int, bottom: int) -> Box | None:
        box = max(0, left), max(0, top), min(self.width, right), min(self.height, bottom)
        return box if box[0] < box[2] and box[1] < box[3] else None


def noise(chance: random.Random, *, width: int, height: int, octaves: int = 4) -> Image.Image:
    """Soft grey clouds, `width` x `height` pixels: coarse grids under ever finer and fainter ones."""
    clouds: Image.Image | None = None
    for octave in range(octaves):
        across, down = 3 * 2**octave, max(2, 2 * 2**octave)
        grid = Image.frombytes("L", (across, down), chance.randbytes(across * down))
        grid = grid.resize((width, height), Image.Resampling.BICUBIC)
        # Each grid counts half as much as the one before it.
        share = 0.5**octave / (2 - 0.5**octave)
        clouds = grid if clouds is None else Image.blend(clouds, grid, share)
    return clouds if clouds is not None else Image.new("L", (width, height))


def soft_step(low: int, high: int, peak: int) -> list[int]:
    """A table for `Image.point`: grey up to `low` becomes 0, from `high` on `peak`, smoothly in between."""
    table = []
    for level in range(256):
        share = min(1.0, max(0.0, (level - low) / (high - low)))
        table.append(round(peak * share * share * (3 - 2 * share)))
    return table


def _mask(box: Box, outlines: Sequence[ImagePath.Path], *, ink: int = 255) -> Image.Image:
    """Coverage of the shapes in the box, 0 to `ink`, drawn several times too large and averaged."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    pixels = width * height
    fine = 4 if pixels <= 400_000 else 3 if pixels <= 900_000 else 2
    sheet = Image.new("L", (width * fine, height * fine))
    pencil = ImageDraw.Draw(sheet)
    for outline in outlines:
        if len(outline) > 2:
            enlarged = ImagePath.Path(outline)
            enlarged.transform((fine, 0, -left * fine, 0, fine, -top * fine))
            pencil.polygon(enlarged, fill=ink)
    return sheet.reduce(fine)


def _stretched(texture: Image.Image, area: Area, band: Box) -> Image.Image:
    """The part of the texture, stretched over the area, that falls on the band."""
    left, top, right, bottom = area
    across, down = texture.width / (right - left), texture.height / (bottom - top)
    source = (
        max(0.0, (band[0] - left) * across),
        max(0.0, (band[1] - top) * down),
        min(float(texture.width), (band[2] - left) * across),
        min(float(texture.height), (band[3] - top) * down),
    )
    return texture.resize((band[2] - band[0], band[3] - band[1]), Image.Resampling.BICUBIC, box=source)


def _plain(colour: Colour, band: Box) -> Image.Image:
    # Pillow pastes a picture through a mask three times as fast as a colour.
    return Image.new("RGB", (band[2] - band[0], band[3] - band[1]), rgb(colour))


def _bands(box: Box) -> Iterator[Box]:
    left, top, right, bottom = box
    rows = max(1, _BAND_PIXELS // (right - left))
    for start in range(top, bottom, rows):
        yield left, start, right, min(bottom, start + rows)


def _column(stops: Sequence[Colour], height: int) -> Image.Image:
    """A gradient one pixel wide and `height` high."""
    steps = 1 if len(stops) == 1 else min(height, _GRADIENT_STEPS)
    column = Image.frombytes("RGB", (1, steps), bytes(byte for c in ramp(stops, steps) for byte in rgb(c)))
    return column.resize((1, height), Image.Resampling.BILINEAR)


def _fading(alpha_top: float, alpha_bottom: float, height: int) -> Image.Image:
    ends = bytes((round(255 * alpha_top), round(255 * alpha_bottom)))
    return Image.frombytes("L", (1, 2), ends).resize((1, height), Image.Resampling.BILINEAR)


def _rows(column: Image.Image, band: Box, first: int) -> Image.Image:
    """The part of a column that starts at row `first`, as wide as the band; its ends go on for ever."""
    left, top, right, bottom = band
    start, end = top - first, bottom - first
    size = (right - left, bottom - top)
    last = column.height
    if start < 0 or end > last:
        longer = Image.new(column.mode, (1, end - start))
        above, below = min(max(0, -start), end - start), max(0, min(end - last, end - start))
        if above:
            longer.paste(column.crop((0, 0, 1, 1)).resize((1, above)), (0, 0))
        if below:
            longer.paste(column.crop((0, last - 1, 1, last)).resize((1, below)), (0, end - start - below))
        if above + below < end - start:
            longer.paste(column.crop((0, max(0, start), 1, min(last, end))), (0, above))
        return longer.resize(size, Image.Resampling.NEAREST)
    return column.crop((0, start, 1, end)).resize(size, Image.Resampling.NEAREST)

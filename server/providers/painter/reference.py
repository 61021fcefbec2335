"""Reference pictures: decoding what a caller sent, and painting from it."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import ExifTags, Image, ImageChops, ImageFilter, ImageOps, UnidentifiedImageError

from server.providers.painter.canvas import Canvas, noise
from server.providers.painter.colour import mix, ramp, rgb, shade
from server.providers.painter.geometry import rectangle
from server.providers.painter.scene import Scene

# Pillow has readers that start other programs; these formats are decoded in memory.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_MAX_PIXELS = 36_000_000
_MIN_SIDE_PX = 15
# The side a decoded reference is shrunk towards, and the longer side of the small painting made from it,
# which the canvas stretches.
_SKETCH_SIDE_PX = 1024
_STUDY_SIDE_PX = 512
# How to turn a picture upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableReference(ValueError):
    """The reference at `index` (0-based) is no picture the painter can use; `reason` says why."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"reference image {index}: {reason}")
        self.index = index
        self.reason = reason


def decode(data: bytes, index: int) -> Image.Image:
    """The picture in the bytes, upright, in RGB and no larger than painting needs.

    Raises UnreadableReference if they are no PNG, JPEG, WebP, GIF, BMP or TIFF, are damaged, are more than
    36 million pixels or have a side of less than 15 pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > _MAX_PIXELS:
                raise UnreadableReference(index, f"{width}x{height} is more than 36 million pixels")
            if min(width, height) < _MIN_SIDE_PX:
                raise UnreadableReference(index, f"{width}x{height} is too small, sides need 15 pixels")
            # A JPEG can be decoded at a fraction of its size at once, others are shrunk before anything else.
            image.draft("RGB", (_SKETCH_SIDE_PX, _SKETCH_SIDE_PX))
            image.load()
            turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
            sketch = _plain(image).reduce(max(1, max(image.size) // _SKETCH_SIDE_PX))
        if sketch.mode in ("LA", "RGBA"):
            paper = Image.new("RGBA", sketch.size, "white")
            paper.alpha_composite(sketch.convert("RGBA"))
            sketch = paper
        sketch = sketch.convert("RGB")
        return sketch if turn is None else sketch.transpose(turn)
    except UnreadableReference:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableReference(index, "more than 36 million pixels") from error
    except UnidentifiedImageError as error:
        raise UnreadableReference(index, "not a PNG, JPEG, WebP, GIF, BMP or TIFF image") from error
    except Exception as error:  # A decoder raises whatever the damaged byte led it to.
        raise UnreadableReference(index, "the image data is damaged") from error


def paint_subject_from(canvas: Canvas, scene: Scene, picture: Image.Image, *, strength: float) -> None:
    """Paint the picture into the middle of the scene, in the scene's colours, its edges brushed out.

    `strength` (0-1) is how far the scene's colours replace its own.
    """
    study = _study(canvas, scene, picture, strength)
    canvas.lay(study, _brushed_edge(scene), (0, 0, canvas.width, canvas.height))


def paint_insets(canvas: Canvas, scene: Scene, pictures: Sequence[Image.Image]) -> None:
    """Pin the pictures as small framed prints along the lower edge, from the left."""
    if not pictures:
        return
    unit, margin = min(canvas.width, canvas.height), 0.035
    room = (canvas.width / unit - 2 * margin) / len(pictures)
    side = unit * min(0.2, room * 0.9)
    step = unit * min(0.225, room)
    paper = mix(scene.palette.light, (0.97, 0.0, 0.0), 0.6)
    for number, picture in enumerate(pictures):
        left = unit * margin + step * number
        top = canvas.height - unit * 2.1 * margin - side
        rim = side * 0.06
        drop = side * 0.03
        shadow = rectangle(left + drop, top + drop, left + side + drop, top + side + drop)
        canvas.fill([shadow], scene.palette.near, alpha=0.35)
        canvas.fill([rectangle(left, top, left + side, top + side)], paper, foot=shade(paper, lighter=-0.04))
        inner = max(1, round(side - 2 * rim))
        small = ImageOps.fit(picture, (inner, inner), Image.Resampling.BICUBIC)
        canvas.image.paste(small, (round(left + rim), round(top + rim)))


def _plain(image: Image.Image) -> Image.Image:
    """The picture in a mode that can be shrunk: grey or RGB, with or without transparency."""
    if image.mode.startswith(("I", "F")):
        # 16 bits of grey; a plain conversion would clip all but the darkest.
        return image.convert("I").point(lambda level: level * (1 / 256)).convert("L")
    if image.mode in ("L", "LA", "RGB", "RGBA") and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _study(canvas: Canvas, scene: Scene, picture: Image.Image, strength: float) -> Image.Image:
    """A small painting of the picture, cropped to the shape of the canvas."""
    scale = _STUDY_SIDE_PX / max(canvas.width, canvas.height)
    size = max(16, round(canvas.width * scale)), max(16, round(canvas.height * scale))
    # The view moves on a little in every picture of a sequence.
    pan = 0.5 + 0.5 * (scene.progress - 0.5)
    study = ImageOps.fit(picture, size, Image.Resampling.BICUBIC, centering=(pan, 0.5))
    study = study.filter(ImageFilter.MedianFilter(5))
    grey = ImageOps.autocontrast(study.convert("L"), cutoff=1)
    palette = scene.palette
    tones = ramp(
        (palette.near, mix(palette.near, palette.sky[0], 0.5), palette.land, palette.haze, palette.light), 256
    )
    table = [rgb(tone) for tone in tones]
    toned = Image.merge("RGB", [grey.point([tone[channel] for tone in table]) for channel in range(3)])
    study = Image.blend(study, toned, strength)
    # Contours, as if drawn before the colour went on.
    ink = ImageOps.invert(grey.filter(ImageFilter.GaussianBlur(0.8)).filter(ImageFilter.FIND_EDGES))
    ink = ink.point([min(255, 120 + level * 140 // 255) for level in range(256)])
    return ImageChops.multiply(study, Image.merge("RGB", (ink, ink, ink)))


def _brushed_edge(scene: Scene) -> Image.Image:
    """Opaque in the middle, nothing at the rim, and ragged like brush strokes in between."""
    side = 240
    grain = noise(scene.chance("brush"), width=side, height=side, octaves=7)
    places = [(step + 0.5) / side for step in range(side)]
    across = [abs(2 * place - 1) ** 4 for place in places]
    # The foreground of the scene stays free.
    down = [abs(2 * place - 0.93) ** 4 * 0.95 for place in places]
    shape = bytes(round(255 * max(0.0, 1 - x - y)) for y in down for x in across)
    mask = Image.blend(Image.frombytes("L", (side, side), shape), ImageOps.autocontrast(grain), 0.36)
    return mask.point([round(255 * min(1.0, max(0.0, (level - 96) / 34))) for level in range(256)])

"""The way in: a prompt becomes an encoded picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace
from PIL import Image, ImageDraw, ImageFont

from server.providers.painter.canvas import Canvas
from server.providers.painter.composition import compose
from server.providers.painter.reference import decode, paint_insets, paint_subject_from
from server.providers.painter.scene import imagine

_MIN_SIDE_PX = 16
_MARK = "AI generated"
# Encoder and its settings by image_format. PNG: levels above 4 take twice the time and save some 5 %.
_FORMATS: dict[str, dict[str, int]] = {
    "png": {"compress_level": 4},
    "jpeg": {"quality": 90},
    "webp": {"quality": 88, "method": 2},
}


class Picture(Struct, frozen=True, kw_only=True):
    """A finished picture: its measures, its MIME type and the encoded file."""

    width_px: int
    height_px: int
    mime_type: str
    data: bytes


def paint(
    *,
    prompt: str,
    seed: int,
    width_px: int,
    height_px: int,
    index: int = 0,
    count: int = 1,
    references: Sequence[bytes] = (),
    guidance_scale: float | None = None,
    negative_prompt: str = "",
    watermark: bool = False,
    image_format: str = "png",
) -> Picture:
    """Paint a landscape for the prompt.

    The same arguments make the same bytes (with one version of Pillow), at any time and in any process.
    Picture `index` (0-based) of a sequence of `count` shows the same place at another hour. The first
    reference becomes the subject, further ones are pinned to it as small prints. `guidance_scale` (usual
    range 1-10) makes the colours bolder and, with a reference, weigh more; `negative_prompt` leaves out what
    it names. `image_format`: png, jpeg or webp.

    Pure computation, 0.1-0.3 s for the first million pixels and 0.1 s for each further one: run it beside an
    event loop, not on it. Needs some 6 bytes of memory a pixel; decoding a reference takes up to 8 a pixel
    of the reference, one at a time and before the painting starts.

    Raises UnreadableReference for a reference that is no usable picture, ValueError for a side under 16
    pixels, an index outside its sequence or an unknown format.
    """
    if min(width_px, height_px) < _MIN_SIDE_PX:
        raise ValueError(f"{width_px}x{height_px}: sides need at least {_MIN_SIDE_PX} pixels")
    if not 0 <= index < count:
        raise ValueError(f"index {index} is outside a sequence of {count}")
    if image_format not in _FORMATS:
        raise ValueError(f"unknown image format {image_format!r}: use png, jpeg or webp")
    pictures = [decode(data, number) for number, data in enumerate(references)]
    scene = imagine(
        prompt=prompt,
        seed=seed,
        index=index,
        count=count,
        guidance_scale=guidance_scale,
        negative_prompt=negative_prompt,
    )
    if pictures:
        # The first reference is the subject; nobody else stands in its way.
        scene = replace(scene, absent=scene.absent | {"subject"})
    canvas = Canvas(width_px, height_px)
    compose(canvas, scene)
    if pictures:
        strength = 0.42 if guidance_scale is None else min(0.6, max(0.2, 0.3 + guidance_scale / 50))
        paint_subject_from(canvas, scene, pictures[0], strength=strength)
        paint_insets(canvas, scene, pictures[1:])
    if watermark:
        _paint_mark(canvas)
    buffer = io.BytesIO()
    canvas.image.save(buffer, format=image_format.upper(), **_FORMATS[image_format])
    return Picture(
        width_px=width_px, height_px=height_px, mime_type=f"image/{image_format}", data=buffer.getvalue()
    )


def _paint_mark(canvas: Canvas) -> None:
    """Say in the lower right corner where the picture comes from, legible on light and dark."""
    size = max(10.0, 0.022 * (canvas.width * canvas.height) ** 0.5)
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(_MARK)
    # On very narrow pictures it shrinks to fit.
    if (right - left) * 1.2 > canvas.width:
        font = ImageFont.load_default(max(4.0, size * canvas.width / ((right - left) * 1.2)))
        left, top, right, bottom = font.getbbox(_MARK)
    pad = max(2, round((bottom - top) * 0.55))
    width, height = round(right - left) + 2 * pad, round(bottom - top) + 2 * pad
    corner = max(0, canvas.width - width - pad), max(0, canvas.height - height - pad)
    plate = Image.new("L", (width * 4, height * 4))
    ImageDraw.Draw(plate).rounded_rectangle(
        (0, 0, width * 4 - 1, height * 4 - 1), radius=height * 1.3, fill=120
    )
    canvas.image.paste((16, 18, 26), corner, plate.reduce(4))
    text = Image.new("L", (width, height))
    ImageDraw.Draw(text).text((pad - left, pad - top), _MARK, fill=240, font=font)
    canvas.image.paste((255, 255, 255), corner, text)

"""Image to image: what the painter makes of reference pictures, and which ones it refuses."""

from __future__ import annotations

import io
import random
import statistics
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image, ImageChops, ImageDraw, ImageOps, ImageStat

from server.providers.painter import Picture, UnreadableReference, paint
from server.providers.painter.reference import decode


def encoded(image: Image.Image, image_format: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **settings)
    return buffer.getvalue()


def reference(width: int = 300, height: int = 200) -> Image.Image:
    """Two discs and a bar: nothing a landscape would show by chance."""
    image = Image.new("RGB", (width, height), (235, 225, 200))
    pencil = ImageDraw.Draw(image)
    pencil.ellipse((width * 0.12, height * 0.15, width * 0.42, height * 0.6), fill=(180, 30, 40))
    pencil.ellipse((width * 0.6, height * 0.4, width * 0.9, height * 0.9), fill=(20, 40, 120))
    pencil.rectangle((width * 0.45, 0, width * 0.52, height), fill=(10, 60, 30))
    return image


def repainted(
    *references: bytes, prompt: str = "a lake at dawn", width_px: int = 240, height_px: int = 240
) -> Image.Image:
    return opened(paint(prompt=prompt, seed=3, width_px=width_px, height_px=height_px, references=references))


def opened(picture: Picture) -> Image.Image:
    with Image.open(io.BytesIO(picture.data)) as image:
        return image.convert("RGB")


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Correlation (-1 to 1) of the brightness of two pictures, seen from afar."""
    levels = [image.convert("L").resize((24, 24), Image.Resampling.BOX).tobytes() for image in (one, other)]
    return statistics.correlation(list(levels[0]), list(levels[1]))


@pytest.mark.parametrize(
    ("prompt", "width_px", "height_px"),
    [
        ("a lake at dawn", 240, 240),
        ("a lake at dawn", 320, 180),
        ("a lake at dawn", 180, 320),
        ("the sea by night", 320, 180),
        ("misty forest", 180, 320),
        ("花园里的猫", 240, 240),
    ],
)
def test_the_first_reference_is_recognised(prompt: str, width_px: int, height_px: int) -> None:
    expected = ImageOps.fit(reference(), (width_px, height_px))
    free = repainted(prompt=prompt, width_px=width_px, height_px=height_px)
    guided = repainted(encoded(reference()), prompt=prompt, width_px=width_px, height_px=height_px)
    assert likeness(guided, expected) > 0.5
    assert likeness(guided, expected) > likeness(free, expected) + 0.3
    middle = (width_px // 5, height_px // 5, width_px * 4 // 5, height_px * 4 // 5)
    assert likeness(guided.crop(middle), expected.crop(middle)) > 0.9
    # It is repainted, not pasted.
    assert statistics.mean(ImageStat.Stat(ImageChops.difference(guided, expected)).mean) > 8


def test_the_scene_still_shows_around_the_reference() -> None:
    free, guided = repainted(), repainted(encoded(reference()))
    for corner in ((0, 0, 16, 16), (224, 0, 240, 16), (0, 224, 16, 240), (224, 224, 240, 240)):
        assert likeness_of_colour(free.crop(corner), guided.crop(corner)) < 12


def likeness_of_colour(one: Image.Image, other: Image.Image) -> float:
    pairs = zip(ImageStat.Stat(one).mean, ImageStat.Stat(other).mean, strict=True)
    return statistics.mean(abs(a - b) for a, b in pairs)


def test_further_references_are_pinned_to_the_picture() -> None:
    first, second = encoded(reference()), encoded(Image.new("RGB", (90, 120), (0, 250, 60)))
    alone, both = repainted(first), repainted(first, second)
    box = ImageChops.difference(alone, both).getbbox()
    assert box is not None
    left, top, right, bottom = box
    assert right < 120
    assert top > 120
    middle = both.getpixel(((left + right) // 2, (top + bottom) // 2))
    assert middle == (0, 250, 60)


def test_fourteen_references_fit() -> None:
    references = [encoded(Image.new("RGB", (40, 40), (18 * number, 90, 200))) for number in range(14)]
    assert repainted(*references, width_px=320, height_px=180).size == (320, 180)


def test_pictures_of_a_sequence_use_the_reference_differently() -> None:
    made = {
        paint(
            prompt="lake",
            seed=1,
            width_px=96,
            height_px=96,
            index=index,
            count=3,
            references=[encoded(reference())],
        ).data
        for index in range(3)
    }
    assert len(made) == 3


@pytest.mark.parametrize(
    "draw",
    [
        lambda: encoded(reference(), "JPEG", quality=92),
        lambda: encoded(reference(), "WEBP", quality=92),
        lambda: encoded(reference(), "GIF"),
        lambda: encoded(reference(), "BMP"),
        lambda: encoded(reference(), "TIFF"),
        lambda: encoded(reference().convert("P")),
        lambda: encoded(reference().convert("RGBA")),
        lambda: encoded(reference().convert("CMYK"), "JPEG", quality=92),
        lambda: encoded(reference(2400, 1600)),
        lambda: encoded(
            reference().convert("L").convert("I").point(lambda level: level * 256).convert("I;16")
        ),
    ],
    ids=["jpeg", "webp", "gif", "bmp", "tiff", "palette", "rgba", "cmyk", "large", "grey of 16 bits"],
)
def test_common_kinds_of_pictures_are_read(draw: Callable[[], bytes]) -> None:
    middle = (40, 40, 200, 200)
    assert likeness(repainted(draw()).crop(middle), ImageOps.fit(reference(), (240, 240)).crop(middle)) > 0.9


def test_transparency_is_seen_as_paper() -> None:
    image = Image.new("RGBA", (120, 120), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((40, 40, 80, 80), fill=(20, 20, 20, 255))
    expected = Image.new("RGB", (120, 120), "white")
    ImageDraw.Draw(expected).ellipse((40, 40, 80, 80), fill=(20, 20, 20))
    assert repainted(encoded(image)).tobytes() == repainted(encoded(expected)).tobytes()


def test_photographs_are_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = reference().transpose(Image.Transpose.ROTATE_90)
    data = encoded(lying, "PNG", exif=exif.tobytes())
    assert repainted(data).tobytes() == repainted(encoded(reference())).tobytes()


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header promises far more pixels than its data holds."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a PNG"),
        (b"\x00" * 200, "not a PNG"),
        (random.Random(1).randbytes(5000), "not a PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n", "not a PNG"),
        (encoded(reference())[:900], "damaged"),
        (encoded(reference(), "JPEG")[:1500], "damaged"),
        (encoded(reference(), "WEBP")[:700], "damaged"),
        (encoded(Image.new("RGB", (14, 400))), "too small"),
        (encoded(Image.new("RGB", (400, 14))), "too small"),
        (png_that_claims(6001, 6000), "36 million"),
        (png_that_claims(12_000, 12_000), "36 million"),
        (png_that_claims(60_000, 60_000), "36 million"),
        (png_that_claims(5000, 5000), "damaged"),
    ],
)
def test_unusable_references_are_named(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableReference, match=f"reference image 1: .*{reason}") as refusal:
        paint(prompt="lake", seed=1, width_px=64, height_px=64, references=[encoded(reference()), data])
    assert refusal.value.index == 1
    assert reason in refusal.value.reason


def test_damaged_bytes_never_escape_as_anything_else() -> None:
    chance = random.Random(20)
    originals = [
        encoded(reference(60, 40)),
        encoded(reference(60, 40), "JPEG"),
        encoded(reference(60, 40), "WEBP"),
        encoded(reference(60, 40), "GIF"),
        encoded(reference(60, 40), "BMP"),
        encoded(reference(60, 40), "TIFF"),
    ]
    refused = 0
    for round_number in range(600):
        data = bytearray(originals[round_number % len(originals)])
        for _ in range(chance.randint(1, 12)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            assert decode(bytes(data), 0).mode == "RGB"
        except UnreadableReference:
            refused += 1
    assert 0 < refused < 600

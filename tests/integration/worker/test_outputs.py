"""From a provider's bytes to an image of ours: only whole pictures get in, measured by us."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import zlib

import pytest
from PIL import Image

from server.domain.errors import Reason
from server.domain.task import StoredImage
from server.providers.contract import MadeImage, ProviderError, Sent
from tests.integration.worker.bench import Bench
from tests.integration.worker.scripted import picture


async def stored(bench: Bench, data: bytes) -> StoredImage:
    made = MadeImage(index=3, data=data, seed=7)
    return await bench.keep(made, task_id="01TASK", attempt=2)


@pytest.mark.parametrize(
    ("image_format", "mime_type", "extension"),
    [("PNG", "image/png", "png"), ("JPEG", "image/jpeg", "jpg"), ("WEBP", "image/webp", "webp")],
)
async def test_a_picture_is_measured_and_kept(
    bench: Bench, image_format: str, mime_type: str, extension: str
) -> None:
    data = picture(image_format, 50, 30)
    image = await stored(bench, data)
    assert image == StoredImage(
        index=3,
        key=image.key,
        width_px=50,
        height_px=30,
        mime_type=mime_type,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        seed=7,
    )
    assert image.key.startswith("01TASK/2/3-")
    assert image.key.endswith(f".{extension}")
    found = await bench.outputs.get(image.key)
    assert found is not None
    assert (found.data, found.mime_type) == (data, mime_type)


async def test_a_jpeg_with_further_pictures_behind_it_is_a_jpeg(bench: Bench) -> None:
    file = io.BytesIO()
    first, second = (Image.new("RGB", size, "teal") for size in ((50, 30), (20, 10)))
    first.save(file, "MPO", save_all=True, append_images=[second])
    image = await stored(bench, file.getvalue())
    assert (image.width_px, image.height_px, image.mime_type) == (50, 30, "image/jpeg")
    assert image.key.endswith(".jpg")


def png_header(width_px: int, height_px: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(b"")
    chunks = b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (ihdr, idat, b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


UNUSABLE = {
    "nothing": b"",
    "text": b"<html>Sorry, we are busy.</html>",
    "json": b'{"error": "busy"}',
    "gif": picture("GIF"),
    "bmp": picture("BMP"),
    "half a png": picture("PNG")[:150],
    "half a jpeg": picture("JPEG")[: len(picture("JPEG")) // 2],
    "half a webp": picture("WEBP")[: len(picture("WEBP")) // 2],
    "only a header": png_header(64, 64),
    "more pixels than we take": png_header(8_001, 8_000),
    "a warning's worth of pixels": png_header(10_000, 10_000),
    "a bomb": png_header(60_000, 60_000),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("data", UNUSABLE.values(), ids=UNUSABLE)
async def test_what_is_no_whole_picture_is_refused(bench: Bench, data: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        await stored(bench, data)
    error = caught.value
    assert (error.sent, error.reason, error.retryable) == (
        Sent.IN_DOUBT,
        Reason.OUTPUT_FETCH_FAILED,
        True,
    )
    assert error.unlikely
    assert bench.output_faults.calls["put"] == 0


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
async def test_broken_bytes_are_refused_or_a_picture_and_nothing_else(
    bench: Bench, image_format: str
) -> None:
    """Whatever a wire or a vendor does to the bytes: no other exception gets out of the decoders."""
    rng = random.Random(image_format)
    whole = picture(image_format)
    refused = 0
    for _ in range(120):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            match rng.randrange(3):
                case 0:
                    data[rng.randrange(len(data))] = rng.randrange(256)
                case 1:
                    del data[rng.randrange(8, len(data)) :]
                    data += rng.randbytes(rng.randrange(64))
                case _:
                    at = rng.randrange(len(data))
                    data[at:at] = rng.randbytes(rng.randrange(1, 8))
        try:
            image = await stored(bench, bytes(data))
        except ProviderError:
            refused += 1
        else:
            assert image.sha256 == hashlib.sha256(data).hexdigest()
    assert refused > 30

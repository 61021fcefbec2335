"""From a provider's bytes to an image of ours: decoded, measured, hashed, named."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable

from PIL import Image

from server.domain.errors import Reason
from server.domain.references import SAME_FORMAT
from server.domain.task import StoredImage
from server.providers.contract import MadeImage, ProviderError, Sent

MAX_PIXELS = 64_000_000
_TYPES = {"PNG": ("image/png", "png"), "JPEG": ("image/jpeg", "jpg"), "WEBP": ("image/webp", "webp")}


async def verify_image(
    made: MadeImage, *, task_id: str, attempt: int, new_key: Callable[[str, int, int, str], str]
) -> StoredImage:
    """Decode, measure, hash and name the image. ProviderError for bytes that are no complete picture."""
    mime_type, extension, width, height, digest = await asyncio.to_thread(_inspect, made.data)
    return StoredImage(
        index=made.index,
        key=new_key(task_id, attempt, made.index, extension),
        width_px=width,
        height_px=height,
        mime_type=mime_type,
        size_bytes=len(made.data),
        sha256=digest,
        seed=made.seed,
    )


def _inspect(data: bytes) -> tuple[str, str, int, int, str]:
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_TYPES)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise _unusable(f"has {picture.width}x{picture.height} pixels")
            picture.load()  # the whole picture, not only its header
            kind = picture.format or ""
            mime_type, extension = _TYPES[SAME_FORMAT.get(kind, kind)]
            width, height = picture.size
    except (ProviderError, MemoryError):  # the latter is not the picture's fault
        raise
    except Exception as error:  # whatever a decoder trips over: one picture must not cost its siblings
        raise _unusable("cannot be decoded") from error
    return mime_type, extension, width, height, hashlib.sha256(data).hexdigest()


def _unusable(what: str) -> ProviderError:
    return ProviderError(
        f"The provider's image {what}.",
        sent=Sent.IN_DOUBT,
        reason=Reason.OUTPUT_FETCH_FAILED,
        retryable=True,
        unlikely=True,
    )

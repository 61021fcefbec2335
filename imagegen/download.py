"""Fetches the bytes of a picture and makes sure that they are the ones the service stored."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from http.client import HTTPException
from urllib.parse import urlsplit

import grpc
from task.v1.image_pb2 import Image

from imagegen.channel import is_loopback
from imagegen.errors import DownloadFailed

CHUNK_BYTES = 64 * 1024
SILENCE_S = 10.0
"""How long a server may send nothing before the download is given up, in seconds."""


async def download(image: Image, *, timeout_s: float) -> bytes:
    """The picture's bytes, from the answer itself where it carries them, else over HTTP within `timeout_s`.

    Raises DownloadFailed: UNAVAILABLE when the link cannot be fetched, DATA_LOSS when size or SHA-256 differ.
    """
    if image.data:
        return _verified(image, image.data)
    try:
        known = urlsplit(image.url).scheme in ("http", "https")
    except ValueError as error:
        raise _unavailable(image, "the link is malformed") from error
    if not known:
        raise _unavailable(image, "the link is neither http nor https")
    abandoned = threading.Event()
    try:
        return await _aside(partial(_fetch, image, time.monotonic() + timeout_s, abandoned))
    finally:
        abandoned.set()


async def _aside(work: Callable[[], bytes]) -> bytes:
    """What the work gives, done in a thread that nobody waits for: a silent server may hold it up, and shall
    not hold up the end of the process."""
    done: Future[bytes] = Future()

    def run() -> None:
        if not done.set_running_or_notify_cancel():
            return
        try:
            done.set_result(work())
        except Exception as error:  # of any kind: it is the caller's
            done.set_exception(error)

    threading.Thread(target=run, name="download", daemon=True).start()
    return await asyncio.wrap_future(done)


def _fetch(image: Image, deadline: float, abandoned: threading.Event) -> bytes:
    proxies: dict[str, str] | None = {} if is_loopback(urlsplit(image.url).hostname) else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    received = bytearray()
    try:
        with opener.open(
            image.url, timeout=min(SILENCE_S, max(deadline - time.monotonic(), 0.001))
        ) as answer:
            while chunk := answer.read1(CHUNK_BYTES):
                received += chunk
                if len(received) > image.size_bytes or abandoned.is_set():
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError("timed out")
            else:
                if answer.length:  # http.client says nothing of it
                    raise ConnectionError(f"the connection broke off after {len(received):,} bytes")
    except urllib.error.HTTPError as error:
        error.close()
        raise _unavailable(image, f"HTTP {error.code}") from error
    except urllib.error.URLError as error:
        raise _unavailable(image, str(error.reason)) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _unavailable(image, str(error) or type(error).__name__) from error
    return _verified(image, bytes(received))


def _verified(image: Image, data: bytes) -> bytes:
    if len(data) != image.size_bytes or hashlib.sha256(data).hexdigest() != image.sha256:
        raise DownloadFailed(
            f"image {image.index} is not the one that was stored: its size or SHA-256 differs",
            code=grpc.StatusCode.DATA_LOSS,
        )
    return data


def _unavailable(image: Image, why: str) -> DownloadFailed:
    link = image.url.partition("?")[0]  # without what makes it work
    return DownloadFailed(f"cannot fetch {link}: {why}", code=grpc.StatusCode.UNAVAILABLE)

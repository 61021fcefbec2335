"""Output bytes: the names they are kept under, and the store in a directory.

A key is a relative path of plain segments. Outputs (`output_key`) are served to whoever holds a link to
them. Never served are reference images (`reference_key`), which are callers' own, a worker's notes beside
the outputs of an attempt, and the secret that links are signed with.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from server.domain.errors import StoreUnavailable
from server.ports import StoredObject

Result = TypeVar("Result")

MEDIA_TYPES = {
    ".png": "image/png",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".tiff": "image/tiff",
    ".json": "application/json",
    ".bin": "application/octet-stream",
}
"""The media type of each extension a key may end in: what is put under the key is of this type."""

REFERENCES = "references"
MAX_KEY_CHARS = 200
TIMEOUT_S = 10.0
"""An image is a few megabytes: a disk that takes longer is away."""
STALE_TEMPORARY_S = 3600.0
THREADS = 16
"""So many reads and writes at once: flushes that come together are one write of the file system's journal."""

_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_OUTPUT_KEY = re.compile(r"[A-Za-z0-9_-]+/[0-9]+/[0-9]+-[A-Za-z0-9_-]{22}(?:[A-Za-z0-9_-]{2})?\.[a-z0-9]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_EXTENSIONS = {media_type: extension for extension, media_type in reversed(MEDIA_TYPES.items())}
_INCOMING = ".incoming"


def output_key(task_id: str, attempt: int, index: int, extension: str) -> str:
    """A new name for image `index` (0-based) of an attempt, with 144 bits nobody can guess.

    `extension` is one of MEDIA_TYPES, with or without its dot. Raises ValueError.
    """
    key = f"{task_id}/{attempt}/{index}-{secrets.token_urlsafe(18)}.{extension.removeprefix('.')}"
    check_key(key)
    if not is_public(key):
        raise ValueError(f"no output can be named {task_id!r}/{attempt}/{index}, {extension!r}")
    return key


def result_key(task_id: str, attempt: int, index: int) -> str:
    """The name of a worker's note on image `index` of an attempt: beside the image, and never served."""
    return f"{task_id}/{attempt}/{index}.json"


def reference_key(sha256: str) -> str:
    """The name of a reference image: equal bytes are kept once. `sha256` in lower-case hex; ValueError."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError("a reference is named by its SHA-256 in lower-case hex")
    return f"{REFERENCES}/{sha256}"


def is_public(key: str) -> bool:
    """Whether HTTP may serve this key at all: made by `output_key`, now or earlier, and nothing else."""
    return (
        len(key) <= MAX_KEY_CHARS
        and _OUTPUT_KEY.fullmatch(key) is not None
        and os.path.splitext(key)[1] in MEDIA_TYPES
        and not key.startswith(f"{REFERENCES}/")
    )


def check_key(key: str) -> None:
    """Raise ValueError unless the key is a relative path of plain segments: no way out of the store."""
    if len(key) > MAX_KEY_CHARS or not _KEY.fullmatch(key):
        raise ValueError(f"not a key of the output store: {key[:MAX_KEY_CHARS]!r}")


def check_media_type(key: str, mime_type: str) -> None:
    """Raise ValueError unless bytes of this type may stand under the key.

    The type is one of MEDIA_TYPES, and that of the key's own extension if it has one: so the key alone
    tells what a link leads to.
    """
    extension = os.path.splitext(key)[1]
    if mime_type not in _EXTENSIONS or (extension and MEDIA_TYPES.get(extension) != mime_type):
        raise ValueError(f"{key} cannot hold {mime_type}")


class FilesystemOutputStore:
    """`server.ports.OutputStore` in a directory; processes may share it.

    A key's file is complete or absent at every moment, also after a crash: bytes are written beside,
    flushed to the disk, and given their name, which only the first of several writers gets. A key without
    an extension gets `@` and the one of its media type on disk, which is how the type is known again; no
    key holds an `@`.

    Paths are strings from here on: up to Python 3.13 pathlib interns each part. Names that never come again
    have Python's table of interned strings made anew every so often, 2 MB large, by whichever thread comes to
    it, and the C library keeps them for each thread.
    """

    def __init__(self, root: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._root = os.fspath(root)
        self._incoming = os.path.join(self._root, _INCOMING)
        self._timeout_s = timeout_s
        # Threads of its own: a disk that hangs must not stop everything else that runs off the loop.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="outputs")
        self._closed = False

    @classmethod
    async def open(cls, root: Path, *, timeout_s: float = TIMEOUT_S) -> Self:
        """Make the directory if need be and clear what a crash left behind. Raises StoreUnavailable."""
        store = cls(root, timeout_s=timeout_s)
        await store._run(store._prepare)
        return store

    async def put(self, key: str, data: bytes, *, mime_type: str) -> None:
        """See OutputStore. Raises ValueError as `check_key` and `check_media_type` do."""
        check_key(key)
        check_media_type(key, mime_type)
        await self._run(lambda: self._write(key, data, mime_type))

    async def get(self, key: str) -> StoredObject | None:
        """See OutputStore. Raises ValueError as `check_key` does."""
        check_key(key)
        return await self._run(lambda: self._read(key))

    async def aclose(self) -> None:
        """See OutputStore."""
        self._closed = True
        self._threads.shutdown(wait=False)

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._closed:
            raise StoreUnavailable("The output store was closed.", retry_after_s=1.0)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:  # TimeoutError is one
            raise StoreUnavailable(
                "The output store cannot be read or written. Send the same request again in a moment.",
                retry_after_s=1.0,
            ) from error

    def _prepare(self) -> None:
        incoming = Path(self._incoming)
        made = [directory for directory in (incoming, *incoming.parents) if not directory.is_dir()]
        incoming.mkdir(parents=True, exist_ok=True)
        for directory in made:
            _flush_directory(str(directory.parent))
        for left in incoming.iterdir():
            # Another process may be writing right now: only what is surely nobody's goes.
            if time.time() - left.stat().st_mtime > STALE_TEMPORARY_S:
                left.unlink(missing_ok=True)

    def _write(self, key: str, data: bytes, mime_type: str) -> None:
        name = key if os.path.splitext(key)[1] else f"{key}@{_EXTENSIONS[mime_type]}"
        path = os.path.join(self._root, name)
        if self._find(key) is None:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._write_whole(path, data)
        # A flushed file in a lost directory is lost; also when another put was first, which may not have come
        # this far yet. With the first of these the file system's journal takes along all that was made above:
        # the others cost next to nothing now, and would cost a write each if they were flushed when made. The
        # root goes first: everybody makes directories in it, and flushed last it would wait for one more
        # write of the journal, with what others made meanwhile.
        _flush_directory(self._root)
        directory = os.path.dirname(path)
        while directory != self._root:
            _flush_directory(directory)
            directory = os.path.dirname(directory)

    def _write_whole(self, path: str, data: bytes) -> None:
        temporary = os.path.join(self._incoming, secrets.token_hex(16))
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # Not renamed: that would overwrite what another process wrote since it was looked for.
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def _read(self, key: str) -> StoredObject | None:
        path = self._find(key)
        if path is None:
            return None
        try:
            with open(path, "rb") as file:
                return StoredObject(data=file.read(), mime_type=MEDIA_TYPES[os.path.splitext(path)[1]])
        except FileNotFoundError:  # removed just now
            return None

    def _find(self, key: str) -> str | None:
        """The file of a key that is there."""
        extension = os.path.splitext(key)[1]
        names = [key] if extension in MEDIA_TYPES else [f"{key}@{added}" for added in MEDIA_TYPES]
        paths = (os.path.join(self._root, name) for name in names)
        return next((path for path in paths if _is_file(path)), None)


def _is_file(path: str) -> bool:
    """`os.path.isfile` takes what a failing disk says for a no: that is raised here."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _flush_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

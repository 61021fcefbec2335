"""Where pictures are saved, and under which names."""

from __future__ import annotations

import errno
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from task.v1.image_pb2 import Image

SUFFIXES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
UNSAVABLE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".heic", ".heif", ".ico", ".jfif", ".jpe", ".jxl", ".svg", ".tif", ".tiff")
)
"""Of pictures that the service does not make: who writes one does not want a directory of that name."""
MAX_NAME_BYTES = 255 - len("-14")
"""What file systems take, less the longest number of a picture."""


class CannotSave(Exception):
    """A picture cannot be written where it was asked for; the text says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A directory, and a file name where one was asked for."""

    directory: Path
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Destination:
        """A path that ends like a picture, and not in /, and is no directory is a file; every other is a
        directory. Raises CannotSave for a file of a format that is not made, and for a path that no file
        system takes or that cannot be looked at."""
        try:
            path = expanded(text)
            suffix = "" if text.endswith("/") else path.suffix.lower()
            if suffix in UNSAVABLE_SUFFIXES and not path.is_dir():
                raise CannotSave(f"{text} ends in {suffix}; allowed for a file: {', '.join(SUFFIXES)}")
            if suffix in SUFFIXES:
                if (length := len(os.fsencode(path.name))) > MAX_NAME_BYTES:
                    raise CannotSave(f"the file name has {length} bytes; allowed: {MAX_NAME_BYTES}")
                if not path.is_dir():
                    return cls(directory=path.parent, name=path.name)
        except OSError as error:
            raise CannotSave(f"cannot save to {text}: {error.strerror}") from error
        return cls(directory=path)

    @property
    def path(self) -> Path:
        """The file, or the directory where no file was asked for."""
        return self.directory / self.name

    @property
    def format(self) -> str | None:
        """The file format that the file's name tells."""
        return SUFFIXES.get(Path(self.name).suffix.lower())

    def prepare(self) -> None:
        """Makes the directory, so that nothing is generated that could not be saved. Raises CannotSave."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotSave(f"cannot make the directory {self.directory}: {error.strerror}") from error
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise CannotSave(f"cannot write to {self.directory}: Permission denied")

    def path_of(self, image: Image, *, task_id: str, alone: bool) -> Path:
        """The file for a picture, numbered by its index unless it is the only one of its task."""
        suffix = "." + image.mime_type.removeprefix("image/").replace("jpeg", "jpg")
        stem, suffix = os.path.splitext(self.name) if self.name else (Path(task_id).name, suffix)
        return self.directory / (f"{stem}{suffix}" if alone else f"{stem}-{image.index}{suffix}")


def expanded(text: str) -> Path:
    """The path with its `~` or `~user` resolved. Raises FileNotFoundError if that has no home directory."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, f"there is no home directory {Path(text).parts[0]}") from error


def save(data: bytes, path: Path) -> None:
    """Writes the whole file or leaves what was there. Raises CannotSave."""
    partial = path.with_name(f".{uuid.uuid4().hex}.part")  # no longer than any name that fits
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise CannotSave(f"cannot write {path}: {error.strerror}") from error

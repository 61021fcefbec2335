"""Where pictures are saved, and under which names."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from task.v1.image_pb2 import Image

from imagegen.arguments import SUFFIXES


class CannotSave(Exception):
    """A picture cannot be written where it was asked for; the text says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A directory, and a file name where one was asked for."""

    directory: Path
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Destination:
        """A path that ends like a picture and is no directory is a file; every other is a directory."""
        path = Path(text).expanduser()
        if path.suffix.lower() in SUFFIXES and not path.is_dir():
            return cls(directory=path.parent, name=path.name)
        return cls(directory=path)

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


def save(data: bytes, path: Path) -> None:
    """Writes the whole file or leaves what was there. Raises CannotSave."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise CannotSave(f"cannot write {path}: {error.strerror}") from error

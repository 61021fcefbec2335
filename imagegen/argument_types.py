"""What each argument of the command line may be; whatever else it is raises argparse.ArgumentTypeError."""

from __future__ import annotations

import argparse
import errno
import re
from collections.abc import Callable

from task.v1.image_pb2 import OutputRef

from imagegen.fields import Reference
from imagegen.saving import SUFFIXES, CannotSave, Destination, expanded

DEFAULT_TARGET = "localhost:8080"
GRPC_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "xds:")
YEAR_S = 366 * 86400
MAX_REFERENCE_BYTES = 10 * 1024 * 1024


def duration_s(text: str) -> float:
    """Seconds from "90", "1.5s", "10m", "2h" or "1d"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 90, 90s, 10m, 2h or 1d")
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    if seconds > YEAR_S:
        raise argparse.ArgumentTypeError(f"{text} is longer than a year")
    return seconds


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""

    def number(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,10}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return number


def utf8(text: str) -> str:
    """Text that the contract can carry. Other bytes than UTF-8 come from the shell as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8") from error
    return text


def target(text: str) -> str:
    """Where a service is: a host with or, for 443, without a port, or an address by a scheme of gRPC's."""
    host = re.fullmatch(r"(?:[^\s:/@\[\]]+|\[[^\s/@\[\]]+\])(?::([0-9]{1,5}))?", utf8(text))
    if (host is None or not 0 < int(host[1] or 443) < 65536) and not text.startswith(GRPC_SCHEMES):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no HOST:PORT; write --target or IMAGEGEN_TARGET like {DEFAULT_TARGET}"
        )
    return text


def reference(text: str) -> Reference:
    """An image to work from: a file's bytes, a link, or an earlier picture as TASK_ID:INDEX."""
    if text.startswith(("http://", "https://")):
        return utf8(text)
    try:
        path = expanded(text)
        if path.is_file():
            if path.stat().st_size > MAX_REFERENCE_BYTES:
                raise argparse.ArgumentTypeError(f"{text} is larger than 10 MiB")
            return path.read_bytes()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise argparse.ArgumentTypeError(f"cannot read {text}: {error.strerror}") from error
    earlier = re.fullmatch(r"([0-9A-Za-z_-]{1,128}):(\d{1,3})", text)
    if earlier is None:
        shown = text if len(text) <= 60 else text[:60] + "…"  # it may be a whole picture
        raise argparse.ArgumentTypeError(f"{shown!r} is no file, no http(s) link and no TASK_ID:INDEX")
    return OutputRef(task_id=earlier[1], index=int(earlier[2]))


def named_reference(text: str) -> tuple[str, Reference]:
    """A reference behind the words that name it."""
    return text, reference(text)


def output(text: str) -> Destination:
    """Where to save pictures: a directory, or a file."""
    try:
        return Destination.parse(text)
    except CannotSave as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def label(text: str) -> tuple[str, str]:
    """A mark of the caller's own, as KEY=VALUE."""
    key, separator, value = utf8(text).partition("=")
    if not key or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key, value


def output_format(text: str) -> str:
    """A file format by its name or usual suffix."""
    known = SUFFIXES.get(f".{text.lower()}")
    if known is None:
        raise argparse.ArgumentTypeError(f"{text!r} is none of png, jpeg, webp")
    return known

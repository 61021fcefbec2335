"""How late an event loop is: moments that were due, and by how much each was missed.

A moment is due every TICK_S on a fixed grid. A loop that is held up for a second misses a hundred of them,
and each is counted with its own lateness: a single sample per hold-up would hide what it did to whoever
came meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TICK_S = 0.01
_SAMPLE = struct.Struct("<QQ")
_NS = 1_000_000_000


async def tick(path: Path) -> None:
    """Append every due moment and its lateness to the file, until cancelled."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        due = time.monotonic_ns()
        while True:
            due, missed = _missed(due, time.monotonic_ns())
            os.write(fd, missed)
            await asyncio.sleep((due - time.monotonic_ns()) / _NS)
    finally:
        os.close(fd)


def between(path: Path, begin_ns: int, end_ns: int) -> list[int]:
    """The latenesses, in nanoseconds, of the moments that were due in this span of CLOCK_MONOTONIC."""
    return [late for due, late in _samples(path) if begin_ns <= due < end_ns]


def _missed(due: int, now: int) -> tuple[int, bytes]:
    """The next due moment, and the samples of all that are over by now."""
    missed = b""
    while due <= now:
        missed += _SAMPLE.pack(due, now - due)
        due += int(TICK_S * _NS)
    return due, missed


def _samples(path: Path) -> Iterator[tuple[Any, ...]]:
    data = path.read_bytes()
    return _SAMPLE.iter_unpack(data[: len(data) // _SAMPLE.size * _SAMPLE.size])

"""What time it is."""

from __future__ import annotations

import time


def now_ms() -> int:
    """The wall clock in whole milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000

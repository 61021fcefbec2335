"""Which state of the code a report speaks of."""

from __future__ import annotations

import subprocess
from pathlib import Path

_DESCRIBE = ("git", "describe", "--always", "--dirty", "--exclude=*")


def commit() -> str:
    """The commit that is checked out, with `-dirty` when it was changed since; 'unknown' without git."""
    try:
        done = subprocess.run(
            _DESCRIBE, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:  # a machine without git
        return "unknown"
    return done.stdout.strip() or "unknown"

"""Processes whose starter is killed: whether they outlive it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


def running(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def killed_at_the_end(script: str, *arguments: str) -> Iterator[str]:
    """An interpreter runs the script, which says a line and goes on; given is the line. By the end of the
    block the interpreter was killed by SIGKILL."""
    with subprocess.Popen(
        [sys.executable, "-c", f"{script}; import sys; sys.stdin.read()", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline()
        finally:
            process.kill()

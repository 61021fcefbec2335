"""CPU time of a process and of all that it has started, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
_PARENT, _USER, _CHILDREN_SYSTEM = 1, 11, 14
"""Places in /proc/PID/stat, counted after the name."""


def cpu_seconds(pid: int) -> float:
    """User and system time of the process, its living descendants and those they have waited for.

    ProcessLookupError when the process is gone.
    """
    stats = _stats()
    if pid not in stats:
        raise ProcessLookupError(pid)
    children: dict[int, list[int]] = {}
    for process, fields in stats.items():
        children.setdefault(fields[_PARENT], []).append(process)
    family = [pid]
    for process in family:
        family += children.get(process, [])
    ticks = sum(sum(stats[process][_USER : _CHILDREN_SYSTEM + 1]) for process in family)
    return ticks / os.sysconf("SC_CLK_TCK")


def _stats() -> dict[int, list[int]]:
    """The numbers of every process; the state, which is a letter, as 0."""
    found = {}
    for directory in PROC.iterdir():
        if directory.name.isdecimal():
            try:
                text = (directory / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            fields = text.rpartition(")")[2].split()  # the name, in parentheses, may hold anything
            found[int(directory.name)] = [0, *(int(field) for field in fields[1:])]
    return found

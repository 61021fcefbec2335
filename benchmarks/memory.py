"""Memory of a process, from /proc."""

from __future__ import annotations

import re

from benchmarks.process_cpu import PROC


def resident_mib(pid: int) -> float:
    """What the process holds in memory now (VmRSS). ProcessLookupError when it is gone."""
    return _mib(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """The most that the process ever held in memory (VmHWM). ProcessLookupError when it is gone."""
    return _mib(pid, "VmHWM")


def _mib(pid: int, name: str) -> float:
    try:
        text = (PROC / str(pid) / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(pid) from None
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:  # ended, and not yet waited for
        raise ProcessLookupError(pid)
    return int(found[1]) / 1024

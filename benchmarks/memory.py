"""Memory of a process, from /proc."""

from __future__ import annotations

import re

from benchmarks.process_cpu import PROC


def resident_mib(pid: int) -> float:
    """What the process holds in memory now (VmRSS). ProcessLookupError when it is gone."""
    try:
        text = (PROC / str(pid) / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(pid) from None
    found = re.search(r"^VmRSS:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:  # ended, and not yet waited for
        raise ProcessLookupError(pid)
    return int(found[1]) / 1024

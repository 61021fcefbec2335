"""Several api processes under one supervisor, as tests start and see them."""

from __future__ import annotations

from pathlib import Path

from tests.stack import ServiceProcess, Stack

PROCESSES = 2
PROC = Path("/proc")


def start_several(stack: Stack, *, fresh: bool = False, **settings: str) -> ServiceProcess:
    """The supervisor, once all its processes listen; they are fresh, whatever it is."""
    program = ("server", "api", "--processes", str(PROCESSES))
    return stack.start("api", fresh=fresh, program=program, **settings)


def state_of(pid: int) -> tuple[str, int]:
    """A process' state and its parent; none and 0 when it is gone."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return fields[0], int(fields[1])


def is_gone(pid: int) -> bool:
    """Whether nothing of the process is left."""
    return state_of(pid) == ("", 0)


def works_on(pid: int) -> bool:
    """Whether a thread of the process lives: until none does, it has its ports, though it counts as dead."""
    try:
        threads = len(list((PROC / str(pid) / "task").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return False
    return threads > 1 or state_of(pid)[0] not in ("", "Z")


def children_of(pid: int) -> set[int]:
    """The living processes that it has started."""
    everybody = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]
    states = {one: state_of(one) for one in everybody}
    return {one for one, (state, parent) in states.items() if parent == pid and state != "Z"}

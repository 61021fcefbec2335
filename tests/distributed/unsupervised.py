"""`python -m server`, where a bug ends the supervision of the embedded Redis: once a file `bug` is there."""

from __future__ import annotations

import sys
from pathlib import Path

from server import processes
from server.__main__ import main
from tests.waiting import until


async def supervise(self: processes.OwnRedis) -> None:
    """In the place of `OwnRedis.supervise`."""
    await until(Path("bug").exists, within_s=60)
    raise KeyError("a bug")


if __name__ == "__main__":
    processes.OwnRedis.supervise = supervise  # type: ignore[method-assign]
    sys.exit(main())

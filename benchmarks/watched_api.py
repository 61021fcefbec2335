"""The service's api process with a clock beside it on its event loop, which tells how late the loop is.

`python -m benchmarks.watched_api LAGS --ready-fd FD` takes its settings from the environment, as
`python -m server api` does, and runs the same.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from benchmarks.loop_lag import tick
from server.__main__ import begin_logs, run_until_stopped
from server.app import OnReady, run_api
from server.settings import Settings, load


def main() -> int:
    """Run until SIGTERM; the exit code is the service's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lags", type=Path)
    parser.add_argument("--ready-fd", type=int, required=True)
    arguments = parser.parse_args()

    async def run(settings: Settings, stop: asyncio.Event, on_ready: OnReady) -> None:
        ticking = asyncio.create_task(tick(arguments.lags), name="tick")
        try:
            await run_api(settings, stop, on_ready)
        finally:
            ticking.cancel()

    settings = load()
    begin_logs(settings, "api")
    return run_until_stopped(run, settings, arguments.ready_fd, role="api")


if __name__ == "__main__":
    sys.exit(main())

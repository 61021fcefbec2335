"""The event loop of each role, and what is left when it is over."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, sys, threading
from server.__main__ import run_until_stopped
from server.settings import load

async def run(settings, stop, on_ready):
    threading.Thread(target=threading.Event().wait).start()  # as a name server that never answers holds one
    print(type(asyncio.get_running_loop()).__module__, file=sys.stderr, flush=True)
    await stop.wait()

code = run_until_stopped(run, load(), None, role=sys.argv[1])
print("over", code, file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize(
    ("role", "loop"), [("worker", "uvloop"), ("api", "asyncio.unix_events")], ids=["worker", "api"]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_second_signal_ends_a_process_that_waits_for_a_stuck_thread(
    role: str, loop: str, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, role],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == f"{loop}\n"
            process.send_signal(number)
            assert process.stderr.readline() == "over 0\n"
            process.send_signal(number)
            assert process.wait(timeout=20) == -number
        finally:
            process.kill()

"""The benchmark ends when it is told to, whatever it is doing."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

STOPPED_IN_A_DESTRUCTOR = """
import os, signal, sys, time
from benchmarks.stopping import stop_on_signals

class Fragile:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0)

stop_on_signals()
Fragile()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_not_lost_where_nothing_can_be_raised(number: signal.Signals) -> None:
    command = [sys.executable, "-c", STOPPED_IN_A_DESTRUCTOR, str(int(number))]
    done = subprocess.run(command, check=False, timeout=30, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + number, "")

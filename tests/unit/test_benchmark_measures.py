"""What the benchmark reads off other processes: moments of tasks, CPU time of families."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.process_cpu import cpu_seconds
from benchmarks.stamps import StampFile, count, read

STAMP = "import sys; from benchmarks.stamps import StampFile; StampFile(sys.argv[1]).stamp()"
SPIN = """
import subprocess, sys, time
if sys.argv[1] == "parent":
    command = [sys.executable, "-c", sys.argv[2], "child", sys.argv[2]]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    child.stdout.readline()
else:
    while time.process_time() < 0.3:
        pass
print("spun", flush=True)
sys.stdin.read()
"""


def test_moments_of_several_processes_come_in_one_order(tmp_path: Path) -> None:
    path = tmp_path / "stamps"
    assert count(path) == 0
    before = time.monotonic_ns()
    own = StampFile(path)
    own.stamp()
    subprocess.run([sys.executable, "-c", STAMP, str(path)], check=True)
    own.stamp()
    own.close()
    moments = read(path)
    assert count(path) == len(moments) == 3
    assert moments == sorted(moments)
    assert before <= moments[0]
    assert moments[-1] <= time.monotonic_ns()


def test_the_cpu_of_a_child_counts_for_its_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SPIN, "parent", SPIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"spun\n"
        alone = sum(os.times()[:2])
        assert cpu_seconds(parent.pid) >= 0.25
        assert cpu_seconds(os.getpid()) >= alone + 0.25 - 0.02, "and for whoever started both"
    finally:
        parent.communicate()


def test_a_process_that_is_gone_has_no_cpu_time() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    with pytest.raises(ProcessLookupError):
        cpu_seconds(done.pid)

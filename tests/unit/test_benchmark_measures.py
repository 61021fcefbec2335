"""What the benchmark reads off other processes: moments of tasks, CPU time of families, memory, lag."""

from __future__ import annotations

import asyncio
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.loop_lag import TICK_S, between, tick
from benchmarks.memory import peak_mib, resident_mib
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


def test_memory_is_what_is_resident() -> None:
    before = resident_mib(os.getpid())
    # Mapped anew: the allocator may have as much in hand from what other tests gave back.
    with mmap.mmap(-1, 64 << 20) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        assert 50 < resident_mib(os.getpid()) - before < 80
    assert peak_mib(os.getpid()) > before + 50, "what was given back was held once"


def test_a_process_that_is_gone_holds_nothing() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    with pytest.raises(ProcessLookupError):
        resident_mib(done.pid)


async def test_a_loop_that_is_held_up_is_late_for_every_moment_in_it(tmp_path: Path) -> None:
    path = tmp_path / "lags"
    ticking = asyncio.create_task(tick(path))
    await asyncio.sleep(0)
    begin = time.monotonic_ns()
    time.sleep(0.3)  # noqa: ASYNC251 - the hold-up that is measured
    await asyncio.sleep(2 * TICK_S)
    ticking.cancel()
    lags = between(path, begin, begin + 300_000_000)
    assert len(lags) == pytest.approx(30, abs=1)
    assert sorted(lags, reverse=True) == lags, "the first of them waited longest"
    assert lags[0] >= 0.28e9
    assert between(path, 0, begin - 1_000_000_000) == []

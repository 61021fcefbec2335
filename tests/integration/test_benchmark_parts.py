"""Each part of the benchmark that stands alone, as small as it goes, does and sees what it is to measure."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import growth, open_waits, soak, start_up, sync_calls
from benchmarks.effort import Effort
from benchmarks.environments import ROOT
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("forked")]

SMALL = Effort(
    rounds=1,
    sync_callers=10,
    sync_calls=1,
    idle_s=0.0,
    waits=30,
    window_s=1.0,
    growth=(20, 2_000),
    growth_requests=50,
    growth_worker_s=0.05,  # as soon as the worker works: of so many, some are left on any machine
    soak_s=2.0,
    soak_warm_up_s=0.3,
    soak_probe_s=0.5,
)


def test_synchronous_calls_take_as_long_as_their_provider_and_more() -> None:
    kept: list[sync_calls.SyncCalls] = []
    with RedisServer() as redis:
        sync_calls.measure(redis, SMALL, kept.append)
    (found,) = kept
    for rounds in (found.spread, found.at_once):
        assert [len(one.values_ms) for one in rounds] == [10]
        assert min(rounds[0].values_ms) >= 1000 * sync_calls.TAKES_S


def test_a_start_ends_with_an_answer() -> None:
    kept: list[start_up.StartUp] = []
    with RedisServer() as redis:
        start_up.measure(redis, SMALL, kept.append)
    (start,) = kept
    assert start.first_answer_s > 0
    assert len(start.others_mib) == 4
    assert all(5 < mib < 300 for mib in (start.idle_mib, *start.others_mib.values()))


def test_open_calls_wait_while_others_are_answered() -> None:
    kept: list[open_waits.OpenWaits] = []
    with RedisServer() as redis:
        open_waits.measure(redis, SMALL, kept.append)
    (window,) = kept[-1].windows
    assert window.failed == 0
    assert len(window.read.values_ms) == 20
    assert len(window.lag.values_ms) >= 90
    assert 30 < window.resident_mib <= window.peak_mib


def test_the_many_are_stored_and_queued_beside_the_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "USERS", 2)  # each costs a run of the load generator
    kept: list[growth.Growth] = []
    growth.measure(SMALL, kept.append)
    (found,) = kept
    assert found.bytes_per_task > 50
    ((small,), (large,)) = (found.small, found.large)
    for rates in (small, large):
        assert min(rates.gets_per_s, rates.cpu_ms_per_get, rates.submits_per_s, rates.tasks_per_s) > 0
    assert large.left > 0


def test_a_soak_counts_calls_errors_and_memory() -> None:
    kept: list[soak.Soak] = []
    with RedisServer() as redis:
        soak.measure(redis, SMALL, kept.append)
    found = kept[-1]
    assert found.errors == 0
    assert found.calls == pytest.approx(found.calls_per_s * SMALL.soak_s, rel=0.2)
    assert set(found.trends()) == {"the api", "the worker", "Redis"}


def test_a_run_that_is_told_to_stop_keeps_what_it_has(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "start", "--rounds", "100"]
    arguments = [*command, "--out", str(tmp_path)]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            assert run.stdout.readline().startswith("api, start: ")
            run.terminate()
            said, _ = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 128 + signal.SIGTERM
    (page,) = tmp_path.glob("*-start.md")
    text = page.read_text()
    assert text in said
    assert "| api, SQLite store, start to first answer | s |" in text
    assert "- the rest of start, and all after it: not measured: the run was told to stop" in text

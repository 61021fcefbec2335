"""The S3 server that tests run on: it must not outlive them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.s3_server import S3Server
from tests.waiting import until

ROOT = Path(__file__).parents[2]


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.s3_server import S3Server;"
        "server = S3Server(Path(sys.argv[1])); server.start();"
        "print(server.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "moto.log")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert running(pid)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        asyncio.run(until(lambda: not running(pid), within_s=10))


def test_a_start_that_fails_half_way_leaves_nothing_running(tmp_path: Path) -> None:
    pids = []

    class Refused(S3Server):
        """One that does not give its user."""

        def client(self, service: str) -> object:
            pids.append(self.pid)
            raise ConnectionError(service)

    with pytest.raises(ConnectionError):
        Refused(tmp_path / "moto.log").start()
    [pid] = pids
    assert not running(pid)

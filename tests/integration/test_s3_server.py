"""The S3 server that tests run on: it must not outlive them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.orphans import killed_at_the_end, running
from tests.s3_server import S3Server
from tests.waiting import until


def test_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.s3_server import S3Server;"
        "server = S3Server(Path(sys.argv[1])); server.start(); print(server.pid, flush=True)"
    )
    with killed_at_the_end(script, str(tmp_path / "moto.log")) as said:
        pid = int(said)
        assert running(pid)
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

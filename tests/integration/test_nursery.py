"""Processes from the nursery, forked or fresh, begin and end as any do."""

from __future__ import annotations

import json
import os
import select
import signal
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.stack import running_stack

PROC = Path("/proc")


@pytest.mark.parametrize("fresh", [False, True])
def test_the_exit_code_says_how_a_process_ended(fresh: bool) -> None:
    with running_stack() as stack:
        stopped, killed = stack.start("api", fresh=fresh), stack.start("api", fresh=fresh)
        assert stopped.running()
        killed.signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        assert stopped.stop() == 0
        assert not stopped.running()
        stopped.signal(signal.SIGTERM)  # reaches nobody
        assert stopped.wait() == 0


def test_a_process_that_cannot_start_says_why() -> None:
    with running_stack() as stack, pytest.raises(RuntimeError, match="WORKER_CONCURRENCY"):
        stack.start("worker", WORKER_CONCURRENCY="0")


@pytest.mark.skipif(not PROC.is_dir(), reason="no /proc to read command lines from")
def test_a_fresh_process_is_an_interpreter_of_its_own() -> None:
    with running_stack() as stack:
        programs = [
            (PROC / str(stack.start("api", fresh=fresh).pid) / "cmdline").read_text().split("\0")[1:4]
            for fresh in (False, True)
        ]
    assert programs == [["-m", "tests.nursery", "server"], ["-m", "server", "api"]]


@pytest.mark.parametrize("module", ["", "server"], ids=["forked", "fresh"])
def test_all_end_with_the_nursery(tmp_path: Path, redis_url: str, module: str) -> None:
    nursery = Nursery()
    settings = {
        "GRPC_PORT": "0",
        "HTTP_PORT": "0",
        "STORE_URL": f"sqlite://{tmp_path}/tasks.db",
        "REDIS_URL": redis_url,
    }
    child = nursery.start(
        "api", directory=tmp_path, environment=settings, out=tmp_path / "api.log", module=module
    )
    assert json.loads(child.ready(30))["grpc_port"]
    handle = os.pidfd_open(child.pid)
    assert not select.select([handle], [], [], 0)[0], "it runs"
    nursery.close()
    assert select.select([handle], [], [], 10)[0]
    os.close(handle)


def test_a_start_that_is_interrupted_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time limit strikes before the nursery has answered: the answer is not taken for the next start's."""
    with Nursery("imagegen") as nursery:  # which has less to import

        def struck() -> str:
            raise TimeoutError

        with monkeypatch.context() as patch:
            patch.setattr(nursery, "_answer", struck)
            with pytest.raises(TimeoutError):
                nursery.start("paint", directory=tmp_path, environment={}, out=tmp_path / "lost.log")
        child = nursery.start("paint", directory=tmp_path, environment={}, out=tmp_path / "paint.log")
        assert child.wait(30) == 2, "there is no such command"
        assert "invalid choice: 'paint'" in (tmp_path / "paint.log").read_text()
        lost = tmp_path / "lost.log"
        assert not lost.exists() or not lost.read_text(), "it never went on"

"""Processes from the nursery begin and end as fresh ones do."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest

from tests.nursery import Nursery
from tests.stack import running_stack


def test_the_exit_code_says_how_a_process_ended() -> None:
    with running_stack() as stack:
        stopped, killed = stack.start("api"), stack.start("api")
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


def test_all_end_with_the_nursery(tmp_path: Path) -> None:
    nursery = Nursery()
    # It has not been told to go on, so nothing but the end of the nursery can end it.
    child = nursery.start("api", directory=tmp_path, environment={}, out=tmp_path / "api.log")
    child.send_signal(signal.SIGSTOP)
    handle = os.pidfd_open(child.pid)
    nursery.close()
    assert select.select([handle], [], [], 10)[0]
    os.close(handle)

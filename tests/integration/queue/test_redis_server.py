"""The server that tests run on: it must not outlive them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.redis_server import RedisServer
from tests.waiting import until

EVERY_REDIS = True

ROOT = Path(__file__).parents[3]


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_dies_with_the_process_that_started_it(redis_server: RedisServer) -> None:
    script = (
        "import sys; from tests.redis_server import RedisServer; server = RedisServer(sys.argv[1]);"
        "server.start(); print(server.pid, server.url, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, redis_server.executable],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        pid_text, url = owner.stdout.readline().split()
        pid, directory = int(pid_text), Path(url.removeprefix("unix://")).parent
        assert running(pid)
        assert directory.is_dir()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        asyncio.run(until(lambda: not running(pid) and not directory.exists(), within_s=10))


def test_is_the_same_address_after_a_restart(redis_server: RedisServer) -> None:
    with RedisServer(redis_server.executable) as server:
        url, pid = server.url, server.pid
        server.kill()
        assert not running(pid)
        server.start()
        assert server.url == url
        assert server.pid != pid


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="did not start"), RedisServer("/bin/false"):
        pass

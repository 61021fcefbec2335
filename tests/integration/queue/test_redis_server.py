"""The server that tests run on: it must not outlive them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.orphans import killed_at_the_end, running
from tests.redis_server import RedisServer
from tests.waiting import until

EVERY_REDIS = True


def test_dies_with_the_process_that_started_it(redis_server: RedisServer) -> None:
    script = (
        "import sys; from tests.redis_server import RedisServer; server = RedisServer(sys.argv[1]);"
        "server.start(); print(server.pid, server.url, flush=True)"
    )
    with killed_at_the_end(script, redis_server.executable) as said:
        pid_text, url = said.split()
        pid, directory = int(pid_text), Path(url.removeprefix("unix://")).parent
        assert running(pid)
        assert directory.is_dir()
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

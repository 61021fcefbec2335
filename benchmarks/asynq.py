"""asynq, a queue in Go, as a contender for scale: what one process does where the language is another.

It is told beside the others and held against no target. The program is built once, where Go is installed,
from `benchmarks/peers/asynq/`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from benchmarks.environments import PLACE, NotInstalled
from benchmarks.peer import PeerDeployment
from tests.redis_server import RedisServer

ASYNQ = "asynq (Go)"
SOURCES = Path(__file__).parent / "peers" / "asynq"
BUILD_TIMEOUT_S = 300.0


class Asynq:
    """Its client and server with their defaults."""

    name = ASYNQ

    @property
    def description(self) -> str:
        """Versions and settings."""
        versions = dict(re.findall(r"^\s+(\S+) (v\S+)", (SOURCES / "go.mod").read_text(), re.MULTILINE))
        return (
            f"asynq {versions['github.com/hibiken/asynq']} (go-redis "
            f"{versions['github.com/redis/go-redis/v9']}): its server in one process, a goroutine per slot, "
            "with its defaults; for scale, no target"
        )

    def prepare(self) -> None:
        """Build the program. Raises NotInstalled."""
        _built()

    @contextmanager
    def deployed(self, redis_server: RedisServer) -> Iterator[PeerDeployment]:
        """The emptied Redis is all that it needs."""
        with redis.Redis.from_url(redis_server.url) as client:
            client.flushall()
        yield PeerDeployment([str(_built())], redis_server)


def _built() -> Path:
    """The program, which is made if need be, and made again when its sources change."""
    program, mark = PLACE / "asynq" / "asynq", PLACE / "asynq" / ".made-of"
    sources = b"\0".join((SOURCES / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))
    made_of = hashlib.sha256(sources).hexdigest()
    if mark.is_file() and mark.read_text() == made_of:
        return program
    go = shutil.which("go")
    if go is None:
        raise NotInstalled("go is not on PATH")
    print(f"building {program}", flush=True)
    program.parent.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            [go, "build", "-trimpath", "-buildvcs=false", "-o", str(program), "."],
            cwd=SOURCES,
            env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"},
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"the build took longer than {BUILD_TIMEOUT_S:g} s") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotInstalled(f"go build: {said[-1]}")
    mark.write_text(made_of)
    return program

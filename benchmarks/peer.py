"""A queue library as a contender: its client and its own worker command, in an environment of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from benchmarks.contender import MeasureFailed
from benchmarks.environments import ROOT, python_of, versions_of
from benchmarks.pick_up import PickUp
from tests.redis_server import RedisServer

STEP_TIMEOUT_S = 120.0
TOLD = ("redis", "hiredis", "uvloop")
"""Packages that a peer's speed depends on, beside its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One library with one way to use it."""

    name: str
    module: str
    """Under `benchmarks.peers`."""
    environment: str
    packages: tuple[str, ...]
    settings: str

    @property
    def description(self) -> str:
        """Versions and settings."""
        versions = versions_of(self.environment)
        told = ", ".join(f"{package} {versions[package]}" for package in self.packages)
        beside = ", ".join(f"{package} {versions[package]}" for package in TOLD if package in versions)
        return f"{told} ({beside}): {self.settings}"

    def prepare(self) -> None:
        """Install its environment. Raises NotInstalled."""
        python_of(self.environment)

    @contextmanager
    def deployed(self, redis_server: RedisServer) -> Iterator[PeerDeployment]:
        """The emptied Redis is all that it needs."""
        with redis.Redis.from_url(redis_server.url) as client:
            client.flushall()
        python = str(python_of(self.environment))
        yield PeerDeployment([python, "-m", "benchmarks.peers.run", self.module], redis_server)


PEERS = (
    Peer(
        name="arq",
        module="arq",
        environment="arq",
        packages=("arq",),
        settings="`arq` command, polls every 10 ms (by default 500), results not kept",
    ),
    Peer(
        name="SAQ",
        module="saq",
        environment="saq",
        packages=("saq",),
        settings="`saq` command, jobs dropped when done, else its defaults",
    ),
    Peer(
        name="taskiq list",
        module="taskiq_list",
        environment="taskiq",
        packages=("taskiq", "taskiq-redis"),
        settings="`taskiq worker` command, one process, ListQueueBroker (no acknowledgement), no results",
    ),
    Peer(
        name="taskiq stream",
        module="taskiq_stream",
        environment="taskiq",
        packages=("taskiq", "taskiq-redis"),
        settings="`taskiq worker` command, one process, RedisStreamBroker, no results",
    ),
    Peer(
        name="dramatiq",
        module="dramatiq",
        environment="dramatiq",
        packages=("dramatiq",),
        settings="`dramatiq` command, one process, a thread per slot, no results",
    ),
    Peer(
        name="Celery prefork",
        module="celery_prefork",
        environment="celery",
        packages=("celery", "kombu"),
        settings="`celery worker` command, a process per slot, prefetch 64, no results, no gossip",
    ),
    Peer(
        name="Celery threads",
        module="celery_threads",
        environment="celery",
        packages=("celery", "kombu"),
        settings="the same with a thread per slot",
    ),
)


class PeerDeployment:
    """A peer on an emptied Redis."""

    def __init__(self, program: Sequence[str], redis_server: RedisServer) -> None:
        """`program` takes a step of `benchmarks.peers.run` and its options as arguments."""
        self._program = program
        self._redis = redis_server

    def enqueue(self, tasks: int) -> None:
        """By the peer's own client, one after the other. Raises MeasureFailed."""
        self._step("enqueue", "--tasks", str(tasks))

    @contextmanager
    def worker(self, concurrency: int, stamps: Path) -> Iterator[int]:
        """The peer's own worker command."""
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                self._command("work", "--stamps", str(stamps), "--concurrency", str(concurrency)),
                cwd=ROOT,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield process.pid
            except MeasureFailed as error:
                log.seek(0)
                last = log.read().decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
                raise MeasureFailed(f"{error}; its worker's last words: {last[0]}") from error
            finally:
                # The whole group at once: its queue is emptied anyhow, and a hundred processes stop slowly.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def pick_ups(self, stamps: Path, *, samples: int, seconds: float) -> list[PickUp]:
        """By the peer's own client. Raises MeasureFailed."""
        answer = self._step(
            "pick-up", "--stamps", str(stamps), "--samples", str(samples), "--seconds", str(seconds)
        )
        return [PickUp(*pair) for pair in answer["pick_ups_ns"]]

    def check(self, tasks: int) -> None:
        """A peer's task does nothing that could be looked at: whoever measures has counted them."""

    def _step(self, *arguments: str) -> dict[str, Any]:
        try:
            done = subprocess.run(
                self._command(*arguments),
                cwd=ROOT,
                env=_environment(),
                capture_output=True,
                text=True,
                timeout=STEP_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise MeasureFailed(f"{arguments[0]}: took longer than {STEP_TIMEOUT_S:g} s") from error
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise MeasureFailed(f"{arguments[0]}: {said[-1]}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def _command(self, step: str, *arguments: str) -> list[str]:
        return [*self._program, step, "--redis", self._redis.url, *arguments]


def _environment() -> dict[str, str]:
    """Nothing of ours may change how a peer works."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}

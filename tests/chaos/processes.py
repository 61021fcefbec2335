"""Service processes to be killed: started by a nursery, known by their logs."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Self

from tests.nursery import Child
from tests.waiting import until

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Process:
    """One running process of the service."""

    def __init__(self, role: str, child: Child, log_path: Path) -> None:
        self.role = role
        self.pid = child.pid
        self.log_path = log_path
        self.killed = False
        self._child = child
        self._read = 0
        self._rest = b""
        self._lines: list[dict[str, Any]] = []

    async def ready(self) -> Self:
        """Wait until it listens. RuntimeError when it ended instead."""

        def listening() -> bool:
            if not self.running:
                raise RuntimeError(f"{self.role} did not start:\n{self.log_path.read_text()}")
            return any(line["event"] == "listening" for line in self.log())

        await until(listening, within_s=START_TIMEOUT_S, what=f"the start of {self.role}")
        return self

    @property
    def target(self) -> str:
        """Where its gRPC server is."""
        return f"127.0.0.1:{self._ports['grpc_port']}"

    @property
    def grpc_port(self) -> int:
        """The port of its gRPC server."""
        port: int = self._ports["grpc_port"]
        return port

    @property
    def http(self) -> str:
        """Where its side port is."""
        return f"http://127.0.0.1:{self._ports['http_port']}"

    @property
    def _ports(self) -> dict[str, Any]:
        return next(line for line in self.log() if line["event"] == "listening")

    @property
    def worker_ids(self) -> list[str]:
        """The ids it has worked under: more than one where it was declared lost and went on."""
        return [line["worker"] for line in self.log() if line["event"] == "worker registered"]

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._child.poll() is None

    def log(self) -> list[dict[str, Any]]:
        """Its log so far; a line that is not one of JSON becomes an event of level `raw`."""
        with self.log_path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        self._lines += [_parsed(line) for line in lines if line]
        return self._lines

    def cpu_s(self) -> float:
        """Processor time it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing when it is gone."""
        self._child.send_signal(number)

    def kill(self) -> None:
        """SIGKILL."""
        self.killed = True
        self.signal(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        self.killed = True
        self.signal(signal.SIGTERM)
        await until(lambda: not self.running, within_s=STOP_TIMEOUT_S, what=f"the end of {self.role}")

    def close(self) -> None:
        """Kill it and wait until it is gone."""
        self.kill()
        self._child.wait(STOP_TIMEOUT_S)


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"event": line.decode(errors="replace"), "level": "raw", "at": time.time()}
    return event

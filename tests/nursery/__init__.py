"""Processes forked from one which has imported everything: a start costs a tenth of a fresh one.

Fresh ones are forked from it, too, and not from the test's process: that has threads of gRPC, which do
something of their own in a child, and now and then it does not live to become its program.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias


class Child:
    """One process from a nursery. Its signals never reach another one that got its id afterwards."""

    def __init__(self, pid: int, number: int, nursery: Nursery, gate: Path) -> None:
        self.pid = pid
        self._number = number
        self._nursery = nursery
        self._handle = os.pidfd_open(pid)
        # It waits until somebody reads from its gate: it must not end while there is no handle of it.
        self._gate = os.open(gate, os.O_RDONLY | os.O_NONBLOCK)

    def ready(self, timeout_s: float) -> str:
        """What it says when it is ready; nothing when it ended instead, or takes longer than this."""
        readable = select.select([self._gate, self._handle], [], [], timeout_s)[0]
        return os.read(self._gate, 4096).decode() if self._gate in readable else ""

    def poll(self) -> int | None:
        """The exit code; None while it runs. A signal that ended it counts below zero."""
        if self._handle < 0 or select.select([self._handle], [], [], 0)[0]:
            return self._ended()
        return None

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing when it is gone."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # gone since
                signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        """Wait for its end; the exit code. subprocess.TimeoutExpired when it goes on."""
        if self._handle >= 0 and not select.select([self._handle], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(f"child {self.pid}", timeout)
        return self._ended()

    def _ended(self) -> int:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)
            os.close(self._gate)
        return self._nursery.exit_code(self._number)


Package: TypeAlias = Literal["server", "imagegen"]

MODULES: dict[Package, str] = {"server": "server", "imagegen": "imagegen.cli"}
"""What runs where no module is named."""


class Nursery:
    """Starts processes of the service, or of the command line.

    A context manager; all of them end with it, and with this program.
    """

    def __init__(self, package: Package = "server") -> None:
        self._package: Package = package
        self._started = 0
        self._exit_codes: dict[int, int] = {}
        """By the number of the start: ids of processes come again."""
        self._turn = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery", package],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            process_group=0,  # Ctrl-C is for this program, which still has to clean up
        )
        if self._answer() != "ready":
            raise RuntimeError("the nursery did not start")

    def start(
        self,
        *arguments: str,
        directory: Path,
        environment: Mapping[str, str],
        out: Path,
        err: Path | None = None,
        module: str = "",
        fresh: bool = False,
    ) -> Child:
        """Start a module there, the service or the command line; a service is not ready yet.

        It reads nothing, and writes both to `out` where there is no `err`. One that shall be `fresh` has an
        interpreter of its own. A module of the service's kind takes `--ready-fd` as that does.
        """
        with self._turn:
            self._started += 1
            gate = out.with_name(f"gate-{os.getpid()}-{self._started}")
            os.mkfifo(gate)
            order = {
                "number": self._started,
                "module": module or MODULES[self._package],
                "arguments": arguments,
                "fresh": fresh,
                "says_when_ready": self._package == "server",
                "directory": str(directory),
                "environment": {"PATH": os.environ["PATH"], "HOME": str(directory), **environment},
                "out": str(out),
                "err": str(err or out),
                "gate": str(gate),
            }
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            while (pid := self._note(self._answer(), awaited=self._started)) is None:
                pass
            return Child(pid, self._started, self, gate)

    def exit_code(self, number: int) -> int:
        """Of the start of this number, whose process has ended."""
        with self._turn:
            while number not in self._exit_codes:
                self._note(self._answer())
            return self._exit_codes[number]

    def _note(self, answer: str, *, awaited: int = 0) -> int | None:
        """Take in an answer; the id of the awaited start's process when it tells that."""
        word, number, value = answer.split()
        if word == "ended":
            self._exit_codes[int(number)] = int(value)
        elif int(number) == awaited:
            return int(value)
        else:  # of a start that was interrupted: nobody knows of its process, which waits at its gate
            os.kill(int(value), signal.SIGKILL)
        return None

    def _answer(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError("the nursery has ended")
        return line.strip()

    def close(self) -> None:
        """End every child and itself."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@functools.cache
def shared_nursery(package: Package = "server") -> Nursery:
    """The one of this program's run, started at the first call."""
    nursery = Nursery(package)
    atexit.register(nursery.close)
    return nursery

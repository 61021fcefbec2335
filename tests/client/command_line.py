"""Runs `imagegen` as its users do: as a process of its own, fresh or forked."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.nursery import shared_nursery

PATIENCE_S = 30.0
"""How long a command may take before its test fails, in seconds."""

COMMAND = (sys.executable, "-m", "imagegen.cli")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def document(self) -> dict[str, Any]:
        """The one JSON document of stdout; anything else there fails."""
        document: dict[str, Any] = json.loads(self.out)
        return document


def environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would change the command's behaviour, with `changes`."""
    unwanted = ("IMAGEGEN_TARGET", "COLUMNS", "NO_COLOR", "FORCE_COLOR")
    return {name: value for name, value in os.environ.items() if name not in unwanted} | dict(changes)


@asynccontextmanager
async def imagegen_process(
    *arguments: str, cwd: Path, stdout: int = asyncio.subprocess.PIPE, **env: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running command with piped output, killed at the end of the block if it still runs; `stdout` is
    another file descriptor for its output."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        cwd=cwd,
        env=environment({"PYTHONPATH": os.pathsep.join(sys.path), **env}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def finished(process: asyncio.subprocess.Process) -> Outcome:
    """The outcome of a command, once it has ended; `out` is empty where it went elsewhere."""
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Outcome(code=process.returncode, out=(out or b"").decode(), err=err.decode())


async def imagegen(*arguments: str, cwd: Path, **env: str) -> Outcome:
    """Runs the command to its end, in a process from the nursery."""
    with TemporaryDirectory(prefix="imagegen-") as name:
        out, err = Path(name) / "out", Path(name) / "err"
        child = shared_nursery("imagegen").start(
            *arguments, directory=cwd, environment=environment(env), out=out, err=err
        )
        try:
            code = await asyncio.to_thread(child.wait, PATIENCE_S)
        finally:
            child.kill()
        return Outcome(code=code, out=out.read_bytes().decode(), err=err.read_bytes().decode())

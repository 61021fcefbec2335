"""One step of a benchmark in a peer's own environment; answers with one line of JSON.

`python -m benchmarks.peers.run PEER enqueue --redis URL --tasks N`
`python -m benchmarks.peers.run PEER pick-up --redis URL --stamps FILE --samples N --seconds S`
`python -m benchmarks.peers.run PEER work --redis URL --stamps FILE --concurrency N` becomes the library's own
worker command, and answers nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Protocol, cast

from benchmarks.peers import place
from benchmarks.pick_up import PickUp, pick_ups


class Submitter(Protocol):
    """A client of the peer's queue; submits tasks that do nothing."""

    async def open(self) -> None:
        """Connect."""
        ...

    async def submit(self) -> None:
        """Put one task in line; returns when the peer's own call does."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


class PeerModule(Protocol):
    """What each peer's module has."""

    def submitter(self) -> Submitter:
        """A client, not yet connected."""
        ...

    def worker_command(self) -> list[str]:
        """The arguments of Python that run the library's own worker."""
        ...


def main() -> None:
    """Do the step that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer")
    parser.add_argument("step", choices=["enqueue", "pick-up", "work"])
    parser.add_argument("--redis", required=True)
    parser.add_argument("--stamps", type=Path)
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--tasks", type=int, default=1)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    os.environ[place.REDIS] = arguments.redis
    if arguments.step == "work":
        os.environ[place.STAMPS] = str(arguments.stamps)
        os.environ[place.CONCURRENCY] = str(arguments.concurrency)
    # Only now: brokers are objects of their modules, and are made with what the environment says.
    module = cast(PeerModule, importlib.import_module(f"benchmarks.peers.{arguments.peer}"))
    if arguments.step == "work":
        os.execv(sys.executable, [sys.executable, *module.worker_command()])  # noqa: S606 - becomes it
    elif arguments.step == "enqueue":
        asyncio.run(_enqueue(module.submitter(), arguments.tasks))
        print(json.dumps({"enqueued": arguments.tasks}))
    else:
        found = asyncio.run(
            _pick_ups(module.submitter(), arguments.stamps, arguments.samples, arguments.seconds)
        )
        print(json.dumps({"pick_ups_ns": found}))


async def _enqueue(submitter: Submitter, tasks: int) -> None:
    await submitter.open()
    for _ in range(tasks):
        await submitter.submit()
    await submitter.close()


async def _pick_ups(submitter: Submitter, stamps: Path, samples: int, seconds: float) -> list[PickUp]:
    await submitter.open()
    found = await pick_ups(submitter.submit, stamps, samples=samples, seconds=seconds)
    await submitter.close()
    return found


if __name__ == "__main__":
    main()

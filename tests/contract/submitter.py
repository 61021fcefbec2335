"""A process that inserts tasks until it is killed: `python -m tests.contract.submitter URL CALLERS`.

It prints the id of a task once the store has acknowledged it.
"""

from __future__ import annotations

import asyncio
import os
import sys

from server.store import connect
from tests.contract.race import PATIENCE_S
from tests.contract.samples import new_task


async def _submit(url: str, callers: int) -> None:
    store = await connect.open_store(url, timeout_s=PATIENCE_S)

    async def submit() -> None:
        while True:
            task = new_task()
            assert await store.insert(task)
            # One system call, nothing buffered: what was printed survives the kill.
            os.write(sys.stdout.fileno(), f"{task.id}\n".encode())

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(submit())


if __name__ == "__main__":
    asyncio.run(_submit(sys.argv[1], int(sys.argv[2])))

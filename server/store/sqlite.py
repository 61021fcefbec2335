"""The task store in one SQLite file, shared by the processes of one machine."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from server.domain.task import LiveTask, Task
from server.domain.writes import Write
from server.ports import RequestIdRow, WorkerRow
from server.store.batching import TIMEOUT_S, Batcher
from server.store.documents import (
    LIVE_FIELDS,
    Change,
    decode_live,
    decode_task,
    encode_task,
    encode_write,
    new_token,
)
from server.store.sqlite_access import FileAccess
from server.store.sqlite_file import APPLICATION_ID, Synchronous, prepare
from server.store.sqlite_readings import Readings, Rewritten
from server.store.sqlite_statements import (
    ADD_WORKER,
    BEAT,
    DECLARE_LOST,
    LIVE_PATHS,
    REMOVE_WORKER,
    SELECT_CANCELS,
    SELECT_LIVE,
    SELECT_LIVE_FIELDS,
    SELECT_PAGE,
    SELECT_REQUEST_ID,
    SELECT_REVISIONS,
    SELECT_TASK,
    SELECT_TASKS,
    SELECT_WORKERS,
    SWAP_TASK,
    Row,
    claim_request_ids,
    from_json,
    insert_tasks,
    to_json,
    update,
)

Result = TypeVar("Result")
Step = Callable[[sqlite3.Connection], object]
"""One caller's part of a write transaction."""

GATHER_S = 0.01
"""Under load accepted tasks are written together so often: a commit costs as much for one as for ten."""

MOST_AT_ONCE = 64
"""So many tasks are read and made of their texts in one go: under a millisecond of the event loop's time."""


class SqliteTaskStore:
    """`server.ports.TaskStore` in a WAL-mode SQLite file.

    With `synchronous="NORMAL"` what was answered survives the end of any process, by any signal; a
    power cut may take the last moments. "FULL" survives that too, at one disk flush per batch.
    """

    def __init__(
        self, path: Path, *, synchronous: Synchronous = "NORMAL", timeout_s: float = TIMEOUT_S
    ) -> None:
        self._file = FileAccess(path, synchronous=synchronous, timeout_s=timeout_s)
        self._inserts = Batcher(self._flush_inserts, name="inserts", timeout_s=timeout_s, gather_s=GATHER_S)
        self._claims = Batcher(
            self._flush_claims, name="claims of request ids", timeout_s=timeout_s, gather_s=GATHER_S
        )
        self._readings = Readings()
        self._writes = Batcher(self._flush_writes, name="writes", timeout_s=timeout_s)
        self._steps = Batcher(self._flush_steps, name="rows of workers", timeout_s=timeout_s)

    @classmethod
    async def open(
        cls, path: Path, *, synchronous: Synchronous = "NORMAL", timeout_s: float = TIMEOUT_S
    ) -> Self:
        """Open the file, which is made if need be. Raises IncompatibleStore and StoreUnavailable."""
        # Another process may be making the same schema: more patience than for one write.
        await asyncio.to_thread(prepare, path, timeout_s=5 * timeout_s)
        return cls(path, synchronous=synchronous, timeout_s=timeout_s)

    # --- tasks ---

    async def insert(self, task: Task) -> bool:
        """See TaskStore."""
        token = new_token()
        document = to_json(encode_task(task, token=token))
        return await self._inserts.submit(Row(task.id, task.state.value, task.attempt, document, token))

    async def get(self, task_id: str) -> Task | None:
        """See TaskStore."""
        rows = await self._file.read_at_once(SELECT_TASK, task_id)
        return self._readings.read(task_id, rows[0][1]) if rows else None

    async def get_many(self, task_ids: Sequence[str]) -> Mapping[str, Task]:
        """See TaskStore."""
        found: dict[str, Task] = {}
        for first in range(0, len(task_ids), MOST_AT_ONCE):
            if first:  # the event loop is others' too
                await asyncio.sleep(0)
            some = to_json(list(task_ids[first : first + MOST_AT_ONCE]))
            for task_id, text in await self._file.read_at_once(SELECT_TASKS, some):
                found[task_id] = self._readings.read(task_id, text)
        return found

    async def live_fields(self, task_ids: Sequence[str]) -> Mapping[str, LiveTask]:
        """See TaskStore."""
        found = await self._read_live(SELECT_LIVE_FIELDS, (to_json(list(task_ids)),))
        return {task.id: task for task in found}

    async def write(self, write: Write) -> bool:
        """See TaskStore."""
        if write.state.terminal:
            return False
        change = encode_write(write, token=new_token())
        return await self._writes.submit((change, self._readings.rewrite(change)))

    async def revisions(self, task_ids: Sequence[str]) -> Mapping[str, int]:
        """See TaskStore."""
        revisions: dict[str, int] = await self._read_json(SELECT_REVISIONS, (to_json(list(task_ids)),))
        return revisions

    async def cancel_requested(self, task_ids: Sequence[str]) -> Collection[str]:
        """See TaskStore."""
        return frozenset(await self._read_json(SELECT_CANCELS, (to_json(list(task_ids)),)))

    async def live_page(self, *, after: str, limit: int) -> Sequence[LiveTask]:
        """See TaskStore."""
        page = await self._read_live(SELECT_LIVE, (after, limit))
        page.sort(key=lambda task: task.id)
        return page

    async def page(self, *, after: str, before: str, limit: int) -> Sequence[Task]:
        """See TaskStore."""

        def read(db: sqlite3.Connection) -> list[Task]:
            rows = db.execute(SELECT_PAGE, (after, before, limit))
            return [decode_task(from_json(document)) for (document,) in rows]

        return await self._file.read(read)

    # --- request ids ---

    async def claim_request_id(self, key: str, row: RequestIdRow) -> RequestIdRow:
        """See TaskStore."""
        return await self._claims.submit((key, row))

    async def find_request_id(self, key: str) -> RequestIdRow | None:
        """See TaskStore."""
        rows = await self._file.read_at_once(SELECT_REQUEST_ID, key)
        return RequestIdRow(task_id=rows[0][0], fingerprint=rows[0][1]) if rows else None

    # --- workers ---

    async def register_worker(
        self, worker_id: str, *, host: str, pid: int, slots: int = 0, lease_ms: int = 0
    ) -> None:
        """See TaskStore."""
        await self._step(lambda db: db.execute(ADD_WORKER, (worker_id, host, pid, slots, lease_ms)))

    async def beat(self, worker_id: str) -> bool:
        """See TaskStore."""
        return await self._step(lambda db: db.execute(BEAT, (worker_id,)).rowcount == 1)

    async def workers(self) -> Sequence[WorkerRow]:
        """See TaskStore."""
        rows = await self._file.read(lambda db: db.execute(SELECT_WORKERS).fetchall())
        return [
            WorkerRow(id=worker_id, beat=beat, lost=bool(lost), slots=slots, lease_ms=lease_ms)
            for worker_id, beat, lost, slots, lease_ms in rows
        ]

    async def declare_lost(self, worker_id: str, *, beat: int) -> bool:
        """See TaskStore."""
        return await self._step(lambda db: db.execute(DECLARE_LOST, (worker_id, beat)).rowcount == 1)

    async def remove_worker(self, worker_id: str) -> None:
        """See TaskStore."""
        await self._step(lambda db: db.execute(REMOVE_WORKER, (worker_id,)))

    # --- life ---

    async def ping(self) -> None:
        """See TaskStore. Writes the file's mark again: a lock, a full disk or lost rights show up."""
        await self._step(lambda db: db.execute(f"PRAGMA application_id = {APPLICATION_ID}"))

    async def aclose(self) -> None:
        """See TaskStore."""
        await self._inserts.aclose()
        await self._claims.aclose()
        await self._writes.aclose()
        await self._steps.aclose()
        await self._file.aclose()

    # --- batches ---

    async def _step(self, step: Callable[[sqlite3.Connection], Result]) -> Result:
        return cast(Result, await self._steps.submit(step))

    async def _flush_steps(self, steps: Sequence[Step], timeout_s: float) -> Sequence[object]:
        return await self._file.transact(lambda db: [step(db) for step in steps], timeout_s)

    async def _flush_inserts(self, rows: Sequence[Row], timeout_s: float) -> Sequence[bool]:
        return await self._file.transact(lambda db: insert_tasks(db, rows), timeout_s)

    async def _flush_claims(
        self, claims: Sequence[tuple[str, RequestIdRow]], timeout_s: float
    ) -> Sequence[RequestIdRow]:
        return await self._file.transact(lambda db: claim_request_ids(db, claims), timeout_s)

    async def _flush_writes(
        self, writes: Sequence[tuple[Change, Rewritten | None]], timeout_s: float
    ) -> Sequence[bool]:
        made = await self._file.transact(lambda db: [_write(db, *write) for write in writes], timeout_s)
        for task in made:
            if isinstance(task, Rewritten):
                self._readings.written(task)
        return [bool(won) for won in made]

    async def _read_live(self, sql: str, parameters: tuple[object, ...]) -> list[LiveTask]:
        return [
            decode_live({"_id": task_id, **dict(zip(LIVE_FIELDS, rest, strict=True))})
            for task_id, rest in await self._read_json(sql.format(fields=LIVE_PATHS), parameters)
        ]

    async def _read_json(self, sql: str, parameters: tuple[object, ...]) -> Any:
        return from_json(await self._file.read(lambda db: db.execute(sql, parameters).fetchone()[0]))


def _write(db: sqlite3.Connection, change: Change, task: Rewritten | None) -> Rewritten | bool:
    """Make the change. `task` has it made already, if it was read lately; it is the answer if it was used."""
    if task is not None and db.execute(SWAP_TASK, task.row).rowcount == 1:
        return task
    # Not read lately, or written by somebody since: the store says whether the condition holds.
    sql, parameters = update(change)
    return db.execute(sql, parameters).rowcount == 1

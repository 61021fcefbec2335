"""The task store in one SQLite file, shared by the processes of one machine."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from server.domain.errors import StoreUnavailable
from server.domain.task import LiveTask, Task
from server.domain.writes import Write
from server.ports import RequestIdRow, WorkerRow
from server.store.batching import TIMEOUT_S, Batcher, unavailable
from server.store.documents import (
    INSERT_SLOT,
    LIVE_FIELDS,
    Change,
    decode_live,
    decode_task,
    encode_task,
    encode_write,
)
from server.store.sqlite_file import APPLICATION_ID, Connection, ConnectionThread, Synchronous, prepare

Result = TypeVar("Result")
Step = Callable[[sqlite3.Connection], object]
"""One caller's part of a write transaction."""

MAX_PLACES = 40
"""So many places one call of json_set sets: SQLite takes no more than 100 arguments."""

_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

# Batches of rows travel as one JSON array, and answers come back as one: each step of a statement lets
# go of Python's interpreter lock, and a thread beside a busy event loop may wait long to get it back.
_INSERT_TASKS = """
INSERT INTO tasks (id, state, attempt, doc)
SELECT json_extract(value, '$._id'), json_extract(value, '$.state'), json_extract(value, '$.attempt'), value
FROM json_each(?) WHERE true
ON CONFLICT (id) DO NOTHING"""
_INSERT_TOKENS = """
SELECT json_group_object(id, json_extract(doc, ?))
FROM tasks WHERE id IN (SELECT value FROM json_each(?))"""
_UPDATE_TASK = """
UPDATE tasks SET doc = {document}, state = ?, attempt = ? WHERE id = ? AND state = ? AND attempt = ?{also}"""
_SAME_REVISION = " AND json_extract(doc, '$.revision') = ?"
_SELECT_TASK = "SELECT doc FROM tasks WHERE id = ?"
_SELECT_TASKS = """
SELECT '[' || group_concat(doc) || ']' FROM tasks WHERE id IN (SELECT value FROM json_each(?))"""
_SELECT_REVISIONS = """
SELECT json_group_object(id, json_extract(doc, '$.revision'))
FROM tasks WHERE id IN (SELECT value FROM json_each(?))"""
_SELECT_CANCELS = """
SELECT json_group_array(id) FROM tasks
WHERE id IN (SELECT value FROM json_each(?)) AND json_extract(doc, '$.cancel_requested')"""
_SELECT_LIVE = """
SELECT json_group_array(json_array(id, json_extract(doc, {fields}))) FROM (
    SELECT id, doc FROM tasks WHERE state IN ('PENDING', 'PROCESSING') AND id > ? ORDER BY id LIMIT ?
)"""
_SELECT_PAGE = "SELECT doc FROM tasks WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
_LIVE_PATHS = ", ".join(f"'$.{name}'" for name in LIVE_FIELDS)
_CLAIM_REQUEST_ID = "INSERT INTO request_ids VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"
_SELECT_REQUEST_ID = "SELECT task_id, fingerprint FROM request_ids WHERE key = ?"
_ADD_WORKER = """
INSERT INTO workers (id, host, pid, slots, lease_ms, beat, lost) VALUES (?, ?, ?, ?, ?, 0, 0)
ON CONFLICT (id) DO NOTHING"""
_BEAT = "UPDATE workers SET beat = beat + 1 WHERE id = ? AND lost = 0"
_DECLARE_LOST = "UPDATE workers SET lost = 1 WHERE id = ? AND beat = ? AND lost = 0"
_REMOVE_WORKER = "DELETE FROM workers WHERE id = ?"
_SELECT_WORKERS = "SELECT id, beat, lost, slots, lease_ms FROM workers ORDER BY id"


class SqliteTaskStore:
    """`server.ports.TaskStore` in a WAL-mode SQLite file.

    One thread writes, another reads whatever is more than one row. A single row is read on the event
    loop itself: in WAL mode that waits for no writer and takes about 20 µs, while the way through a
    thread and back costs several hundred, more than the rest of a GetTask.

    With `synchronous="NORMAL"` what was answered survives the end of any process, by any signal; a
    power cut may take the last moments. "FULL" survives that too, at one disk flush per batch.
    """

    def __init__(
        self, path: Path, *, synchronous: Synchronous = "NORMAL", timeout_s: float = TIMEOUT_S
    ) -> None:
        self._timeout_s = timeout_s
        self._writer = ConnectionThread(path, name="sqlite-writer", synchronous=synchronous)
        self._reader = ConnectionThread(path, name="sqlite-reader", synchronous=synchronous)
        self._closed = False
        self._rows = Connection(path, synchronous=synchronous)
        self._inserts = Batcher(self._flush_inserts, name="inserts", timeout_s=timeout_s)
        self._steps = Batcher(self._flush_steps, name="writes", timeout_s=timeout_s)

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
        token = secrets.token_hex(8)
        return await self._inserts.submit((task.id, token, _to_json(encode_task(task, token=token))))

    async def get(self, task_id: str) -> Task | None:
        """See TaskStore."""
        row = await self._row(_SELECT_TASK, task_id)
        return decode_task(json.loads(row[0])) if row else None

    async def get_many(self, task_ids: Sequence[str]) -> Mapping[str, Task]:
        """See TaskStore."""
        return await self._reader.run(lambda db: _read_tasks(db, task_ids), timeout_s=self._timeout_s)

    async def write(self, write: Write) -> bool:
        """See TaskStore."""
        if write.state.terminal:
            return False
        change = encode_write(write, token=secrets.token_hex(8))
        sql, parameters = _update(change)
        return await self._step(lambda db: db.execute(sql, parameters).rowcount == 1)

    async def revisions(self, task_ids: Sequence[str]) -> Mapping[str, int]:
        """See TaskStore."""
        revisions: dict[str, int] = await self._read_json(_SELECT_REVISIONS, (_to_json(list(task_ids)),))
        return revisions

    async def cancel_requested(self, task_ids: Sequence[str]) -> Collection[str]:
        """See TaskStore."""
        return frozenset(await self._read_json(_SELECT_CANCELS, (_to_json(list(task_ids)),)))

    async def live_page(self, *, after: str, limit: int) -> Sequence[LiveTask]:
        """See TaskStore."""
        rows = await self._read_json(_SELECT_LIVE.format(fields=_LIVE_PATHS), (after, limit))
        page = [
            decode_live({"_id": task_id, **dict(zip(LIVE_FIELDS, rest, strict=True))})
            for task_id, rest in rows
        ]
        page.sort(key=lambda task: task.id)
        return page

    async def page(self, *, after: str, before: str, limit: int) -> Sequence[Task]:
        """See TaskStore."""

        def read(db: sqlite3.Connection) -> list[Task]:
            rows = db.execute(_SELECT_PAGE, (after, before, limit))
            return [decode_task(json.loads(document)) for (document,) in rows]

        return await self._reader.run(read, timeout_s=self._timeout_s)

    # --- request ids ---

    async def claim_request_id(self, key: str, row: RequestIdRow) -> RequestIdRow:
        """See TaskStore."""

        def claim(db: sqlite3.Connection) -> RequestIdRow:
            if db.execute(_CLAIM_REQUEST_ID, (key, row.task_id, row.fingerprint)).rowcount == 1:
                return row
            task_id, fingerprint = db.execute(_SELECT_REQUEST_ID, (key,)).fetchone()
            return RequestIdRow(task_id=task_id, fingerprint=fingerprint)

        return await self._step(claim)

    async def find_request_id(self, key: str) -> RequestIdRow | None:
        """See TaskStore."""
        row = await self._row(_SELECT_REQUEST_ID, key)
        return RequestIdRow(task_id=row[0], fingerprint=row[1]) if row else None

    # --- workers ---

    async def register_worker(
        self, worker_id: str, *, host: str, pid: int, slots: int = 0, lease_ms: int = 0
    ) -> None:
        """See TaskStore."""
        await self._step(lambda db: db.execute(_ADD_WORKER, (worker_id, host, pid, slots, lease_ms)))

    async def beat(self, worker_id: str) -> bool:
        """See TaskStore."""
        return await self._step(lambda db: db.execute(_BEAT, (worker_id,)).rowcount == 1)

    async def workers(self) -> Sequence[WorkerRow]:
        """See TaskStore."""
        rows = await self._reader.run(
            lambda db: db.execute(_SELECT_WORKERS).fetchall(), timeout_s=self._timeout_s
        )
        return [
            WorkerRow(id=worker_id, beat=beat, lost=bool(lost), slots=slots, lease_ms=lease_ms)
            for worker_id, beat, lost, slots, lease_ms in rows
        ]

    async def declare_lost(self, worker_id: str, *, beat: int) -> bool:
        """See TaskStore."""
        return await self._step(lambda db: db.execute(_DECLARE_LOST, (worker_id, beat)).rowcount == 1)

    async def remove_worker(self, worker_id: str) -> None:
        """See TaskStore."""
        await self._step(lambda db: db.execute(_REMOVE_WORKER, (worker_id,)))

    # --- life ---

    async def ping(self) -> None:
        """See TaskStore. Writes the file's mark again: a lock, a full disk or lost rights show up."""
        await self._step(lambda db: db.execute(f"PRAGMA application_id = {APPLICATION_ID}"))

    async def aclose(self) -> None:
        """See TaskStore."""
        self._closed = True
        await self._inserts.aclose()
        await self._steps.aclose()
        self._rows.close()
        await self._reader.aclose()
        await self._writer.aclose()

    # --- batches ---

    async def _step(self, step: Callable[[sqlite3.Connection], Result]) -> Result:
        return cast(Result, await self._steps.submit(step))

    async def _flush_steps(self, steps: Sequence[Step], timeout_s: float) -> Sequence[object]:
        return await self._transact(lambda db: [step(db) for step in steps], timeout_s)

    async def _flush_inserts(self, rows: Sequence[tuple[str, str, str]], timeout_s: float) -> Sequence[bool]:
        return await self._transact(lambda db: _insert_tasks(db, rows), timeout_s)

    async def _transact(self, body: Callable[[sqlite3.Connection], Result], timeout_s: float) -> Result:
        deadline = time.monotonic() + timeout_s

        def transaction(db: sqlite3.Connection) -> Result:
            # IMMEDIATE waits for its turn; a deferred transaction that comes to write may be refused at once.
            db.execute("BEGIN IMMEDIATE")
            result = body(db)
            if time.monotonic() > deadline:
                raise unavailable()  # as the callers have been told by now: it must not happen after all
            db.execute("COMMIT")
            return result

        return await self._writer.run(transaction, timeout_s=timeout_s)

    async def _row(self, sql: str, key: str) -> tuple[str, ...] | None:
        def read(db: sqlite3.Connection) -> tuple[str, ...] | None:
            row: tuple[str, ...] | None = db.execute(sql, (key,)).fetchone()
            return row

        if not self._closed:
            try:
                return self._rows.do(read, busy_timeout_ms=0)
            except StoreUnavailable:
                pass  # seldom: another process recovers or closes the file, which the thread can wait for
        return await self._reader.run(read, timeout_s=self._timeout_s)

    async def _read_json(self, sql: str, parameters: tuple[object, ...]) -> Any:
        text = await self._reader.run(
            lambda db: db.execute(sql, parameters).fetchone()[0], timeout_s=self._timeout_s
        )
        return json.loads(text)


def _insert_tasks(db: sqlite3.Connection, rows: Sequence[tuple[str, str, str]]) -> list[bool]:
    documents = f"[{','.join(document for _, _, document in rows)}]"
    if db.execute(_INSERT_TASKS, (documents,)).rowcount == len(rows):
        return [True] * len(rows)
    ids = _to_json([task_id for task_id, _, _ in rows])
    tokens = json.loads(db.execute(_INSERT_TOKENS, (f"$.tokens.{INSERT_SLOT}", ids)).fetchone()[0])
    return [tokens[task_id] == token for task_id, token, _ in rows]


def _read_tasks(db: sqlite3.Connection, task_ids: Sequence[str]) -> dict[str, Task]:
    (text,) = db.execute(_SELECT_TASKS, (_to_json(list(task_ids)),)).fetchone()
    return {document["_id"]: decode_task(document) for document in json.loads(text or "[]")}


def _update(change: Change) -> tuple[str, list[object]]:
    """The statement of a conditional write: its text depends only on how many places it sets and unsets."""
    document = "json_set(doc, '$.revision', json_extract(doc, '$.revision') + 1)"
    for begin in range(0, len(change.set), MAX_PLACES):
        document = f"json_set({document}{', ?, json(?)' * min(len(change.set) - begin, MAX_PLACES)})"
    parameters: list[object] = []
    for path, value in change.set.items():
        parameters += (f"$.{path}", _to_json(value))
    if change.unset:
        document = f"json_remove({document}{', ?' * len(change.unset)})"
        parameters += (f"$.{path}" for path in change.unset)
    parameters += (change.set.get("state", change.state), change.set.get("attempt", change.attempt))
    parameters += (change.task_id, change.state, change.attempt)
    if change.revision is None:
        return _UPDATE_TASK.format(document=document, also=""), parameters
    parameters.append(change.revision)
    return _UPDATE_TASK.format(document=document, also=_SAME_REVISION), parameters

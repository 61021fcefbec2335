"""The statements of the SQLite task store, and those steps that act for many callers at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import msgspec

from server.ports import RequestIdRow
from server.store.documents import INSERT_SLOT, LIVE_FIELDS, Change

MAX_PLACES = 40
"""So many places one call of json_set sets: SQLite takes no more than 100 arguments."""

_encode = msgspec.json.Encoder().encode
from_json = msgspec.json.Decoder().decode

# What a thread does for many rows is one statement, and its answer one row: each step of a statement lets go
# of Python's interpreter lock, and a thread beside a busy event loop may wait long to get it back.
_INSERT_TASKS = "INSERT INTO tasks (id, state, attempt, doc) VALUES {rows} ON CONFLICT (id) DO NOTHING"
_INSERT_TOKENS = """
SELECT json_group_object(id, json_extract(doc, ?))
FROM tasks WHERE id IN (SELECT value FROM json_each(?))"""
_UPDATE_TASK = """
UPDATE tasks SET doc = {document}, state = ?, attempt = ? WHERE id = ? AND state = ? AND attempt = ?{also}"""
SWAP_TASK = "UPDATE tasks SET doc = ?, state = ?, attempt = ? WHERE id = ? AND doc = ?"
_SAME_REVISION = " AND json_extract(doc, '$.revision') = ?"
SELECT_TASK = "SELECT id, doc FROM tasks WHERE id = ?"
SELECT_TASKS = "SELECT id, doc FROM tasks WHERE id IN (SELECT value FROM json_each(?))"
SELECT_REVISIONS = """
SELECT json_group_object(id, json_extract(doc, '$.revision'))
FROM tasks WHERE id IN (SELECT value FROM json_each(?))"""
SELECT_CANCELS = """
SELECT json_group_array(id) FROM tasks
WHERE id IN (SELECT value FROM json_each(?)) AND json_extract(doc, '$.cancel_requested')"""
SELECT_LIVE = """
SELECT json_group_array(json_array(id, json_extract(doc, {fields}))) FROM (
    SELECT id, doc FROM tasks WHERE state IN ('PENDING', 'PROCESSING') AND id > ? ORDER BY id LIMIT ?
)"""
SELECT_LIVE_FIELDS = """
SELECT json_group_array(json_array(id, json_extract(doc, {fields})))
FROM tasks WHERE id IN (SELECT value FROM json_each(?))"""
SELECT_PAGE = "SELECT doc FROM tasks WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
LIVE_PATHS = ", ".join(f"'$.{name}'" for name in LIVE_FIELDS)
_CLAIM_REQUEST_IDS = "INSERT INTO request_ids VALUES {rows} ON CONFLICT (key) DO NOTHING"
_SELECT_REQUEST_IDS = """
SELECT json_group_object(key, json_array(task_id, fingerprint))
FROM request_ids WHERE key IN (SELECT value FROM json_each(?))"""
SELECT_REQUEST_ID = "SELECT task_id, fingerprint FROM request_ids WHERE key = ?"
ADD_WORKER = """
INSERT INTO workers (id, host, pid, slots, lease_ms, beat, lost) VALUES (?, ?, ?, ?, ?, 0, 0)
ON CONFLICT (id) DO NOTHING"""
BEAT = "UPDATE workers SET beat = beat + 1 WHERE id = ? AND lost = 0"
DECLARE_LOST = "UPDATE workers SET lost = 1 WHERE id = ? AND beat = ? AND lost = 0"
REMOVE_WORKER = "DELETE FROM workers WHERE id = ?"
SELECT_WORKERS = "SELECT id, beat, lost, slots, lease_ms FROM workers ORDER BY id"


def to_json(value: object) -> str:
    """The value as SQLite's functions take it. Numbers are finite: an infinite one would become null."""
    return _encode(value).decode()


class Row(NamedTuple):
    """A task to be inserted: its columns, and the token of this insert."""

    id: str
    state: str
    attempt: int
    document: str
    token: str


def insert_tasks(db: sqlite3.Connection, rows: Sequence[Row]) -> list[bool]:
    """Insert the tasks; for each whether it was this very insert that made its row."""
    statement = _INSERT_TASKS.format(rows=", ".join(["(?, ?, ?, ?)"] * len(rows)))
    if db.execute(statement, [value for row in rows for value in row[:4]]).rowcount == len(rows):
        return [True] * len(rows)
    ids = to_json([row.id for row in rows])
    tokens = from_json(db.execute(_INSERT_TOKENS, (f"$.tokens.{INSERT_SLOT}", ids)).fetchone()[0])
    return [tokens[row.id] == row.token for row in rows]


def claim_request_ids(
    db: sqlite3.Connection, claims: Sequence[tuple[str, RequestIdRow]]
) -> list[RequestIdRow]:
    """Bind the keys that are not bound; for each the row that holds."""
    statement = _CLAIM_REQUEST_IDS.format(rows=", ".join(["(?, ?, ?)"] * len(claims)))
    values = [value for key, row in claims for value in (key, row.task_id, row.fingerprint)]
    if db.execute(statement, values).rowcount == len(claims):
        return [row for _, row in claims]
    keys = to_json([key for key, _ in claims])
    bound = from_json(db.execute(_SELECT_REQUEST_IDS, (keys,)).fetchone()[0])
    return [RequestIdRow(task_id=bound[key][0], fingerprint=bound[key][1]) for key, _ in claims]


def update(change: Change) -> tuple[str, list[object]]:
    """The statement that makes a conditional write in place, and what it is given."""
    parameters: list[object] = []
    for path, value in change.set.items():
        parameters += (f"$.{path}", to_json(value))
    parameters += (f"$.{path}" for path in change.unset)
    parameters += (change.set.get("state", change.state), change.set.get("attempt", change.attempt))
    parameters += (change.task_id, change.state, change.attempt)
    if change.revision is not None:
        parameters.append(change.revision)
    return _update_of(len(change.set), len(change.unset), change.revision is not None), parameters


@cache
def _update_of(sets: int, unsets: int, same_revision: bool) -> str:
    document = "json_set(doc, '$.revision', json_extract(doc, '$.revision') + 1)"
    for begin in range(0, sets, MAX_PLACES):
        document = f"json_set({document}{', ?, json(?)' * min(sets - begin, MAX_PLACES)})"
    if unsets:
        document = f"json_remove({document}{', ?' * unsets})"
    return _UPDATE_TASK.format(document=document, also=_SAME_REVISION if same_revision else "")

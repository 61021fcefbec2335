"""The stored form of a task, one layout for every adapter.

A document is a plain JSON-able dict. Its top-level fields are named as `Task`'s, with `_id` for the
id; fields that hold their default are left out. What grows is keyed by number (`attempts.2`,
`images.3`), so that a write can name its place by a dotted path and no update is positional. Names
that callers chose (labels, error metadata) are values, in lists of {name, value}: they may hold dots
or dollar signs, which no field name may. `tokens.<slot>` holds the token of the last writer in that slot.

Reading ignores fields it does not know, so that an older process can read what a newer one wrote.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from server.domain.task import Counts, LiveTask, Priority, Task, TaskState, TaskType
from server.domain.writes import Write
from server.store.fields import (
    Document,
    decode_attempt,
    decode_counts,
    decode_error,
    decode_image,
    decode_pairs,
    decode_request,
    encode_attempt,
    encode_counts,
    encode_error,
    encode_image,
    encode_pairs,
    encode_request,
    encode_value,
    numbers,
)

INSERT_SLOT = "new"
"""The slot of `tokens` that holds the token of the insert."""

LIVE_FIELDS = ("caller", "user_id", "state", "priority", "pool", "owner", "not_before_ms", "ttl_time_ms")
"""What `decode_live` needs beside `_id`: the projection of what the sweep reads."""

# Calling an enum class costs several times a dict look-up, and GetTask does a dozen of them.
_STATES = {member.value: member for member in TaskState}
_TYPES = {member.value: member for member in TaskType}
_PRIORITIES = {member.value: member for member in Priority}


def new_token() -> str:
    """A token that no other write has."""
    return os.urandom(8).hex()


class Change(Struct, frozen=True, kw_only=True, gc=False):
    """A `Write` in stored form: do all of it, and `revision` + 1, or nothing. `set` holds the token."""

    task_id: str
    state: str
    attempt: int
    revision: int | None
    token_path: str
    token: str
    set: Document
    """Values by dotted path."""
    unset: tuple[str, ...]


def make_change(document: Document, change: Change) -> bool:
    """Make the change in the document, if that is as the change expects it; whether it was."""
    if (document["state"], document["attempt"]) != (change.state, change.attempt):
        return False
    if change.revision not in (None, document["revision"]):
        return False
    for path, value in change.set.items():
        if "." not in path:  # most
            document[path] = value
            continue
        *parents, name = path.split(".")
        place = document
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    for path in change.unset:
        *parents, name = path.split(".")
        holder: Document | None = document
        for parent in parents:
            holder = holder and holder.get(parent)
        if holder:
            holder.pop(name, None)
    document["revision"] += 1
    return True


# --- to the document ----------------------------------------------------------------------------------


def encode_task(task: Task, *, token: str) -> Document:
    """The document of a task that is about to be inserted by the writer with this token."""
    document: Document = {
        "_id": task.id,
        "caller": task.caller,
        "type": task.type.value,
        "state": task.state.value,
        "priority": task.priority.value,
        "pool": task.pool,
        "provider": task.provider,
        "model": task.model,
        "request": encode_request(task.request),
        "max_paid_attempts": task.max_paid_attempts,
        "revision": task.revision,
        "create_time_ms": task.create_time_ms,
        "update_time_ms": task.update_time_ms,
        "ttl_time_ms": task.ttl_time_ms,
        "attempt": task.attempt,
        "tokens": {INSERT_SLOT: token},
    }
    if task.user_id:
        document["user_id"] = task.user_id
    if task.request_id:
        document["request_id"] = task.request_id
    if task.labels:
        document["labels"] = encode_pairs(task.labels)
    if task.start_time_ms:
        document["start_time_ms"] = task.start_time_ms
    if task.end_time_ms:
        document["end_time_ms"] = task.end_time_ms
    if task.owner:
        document["owner"] = task.owner
    if task.not_before_ms:
        document["not_before_ms"] = task.not_before_ms
    if task.cancel_requested:
        document["cancel_requested"] = True
    if counts := encode_counts(task.counts):
        document["counts"] = counts
    if task.attempts:
        document["attempts"] = {str(n): encode_attempt(a) for n, a in task.attempts.items()}
    if task.images:
        document["images"] = {str(n): encode_image(i) for n, i in task.images.items()}
    if task.failures:
        document["failures"] = {str(n): encode_error(e) for n, e in task.failures.items()}
    if task.error is not None:
        document["error"] = encode_error(task.error)
    return document


def encode_write(write: Write, *, token: str) -> Change:
    """The stored form of a conditional write by the writer with this token."""
    token_path, forgotten = f"tokens.{write.token_slot}", write.forgotten_slot
    # Most values are of the two, and asking `encode_value` takes its time.
    changes: Document = {
        path: value if type(value) in (str, int) else encode_value(value) for path, value in write.set.items()
    }
    changes[token_path] = token
    return Change(
        task_id=write.task_id,
        state=write.state.value,
        attempt=write.attempt,
        revision=write.revision,
        token_path=token_path,
        token=token,
        set=changes,
        unset=write.unset if forgotten is None else (*write.unset, f"tokens.{forgotten}"),
    )


# --- from the document --------------------------------------------------------------------------------


def decode_task(document: Mapping[str, Any]) -> Task:
    """The task of a document; its maps are in ascending order of number."""
    get = document.get
    counts = get("counts")
    attempts = get("attempts")
    images = get("images")
    failures = get("failures")
    error = get("error")
    return Task(
        id=document["_id"],
        caller=document["caller"],
        type=_TYPES[document["type"]],
        state=_STATES[document["state"]],
        priority=_PRIORITIES[document["priority"]],
        pool=document["pool"],
        provider=document["provider"],
        model=document["model"],
        user_id=get("user_id", ""),
        request_id=get("request_id", ""),
        labels=decode_pairs(get("labels", ())),
        request=decode_request(document["request"]),
        max_paid_attempts=document["max_paid_attempts"],
        revision=document["revision"],
        create_time_ms=document["create_time_ms"],
        update_time_ms=document["update_time_ms"],
        ttl_time_ms=document["ttl_time_ms"],
        start_time_ms=get("start_time_ms", 0),
        end_time_ms=get("end_time_ms", 0),
        attempt=document["attempt"],
        owner=get("owner", ""),
        not_before_ms=get("not_before_ms", 0),
        cancel_requested=get("cancel_requested", False),
        counts=decode_counts(counts) if counts else Counts(),
        attempts={n: decode_attempt(n, attempts[str(n)]) for n in numbers(attempts)} if attempts else {},
        images={n: decode_image(n, images[str(n)]) for n in numbers(images)} if images else {},
        failures={n: decode_error(failures[str(n)]) for n in numbers(failures)} if failures else {},
        error=decode_error(error) if error else None,
    )


def decode_live(document: Mapping[str, Any]) -> LiveTask:
    """The live task of a document that holds `_id` and LIVE_FIELDS; missing or null means the default.

    A state or a priority that a newer version has written does not keep the sweep from its work: the task
    counts as one that is not over, and goes to whoever can read it.
    """
    return LiveTask(
        id=document["_id"],
        caller=document["caller"],
        user_id=document.get("user_id") or "",
        state=_STATES.get(document["state"], TaskState.PROCESSING),
        priority=_PRIORITIES.get(document["priority"], Priority.DEFAULT),
        pool=document["pool"],
        owner=document.get("owner") or "",
        not_before_ms=document.get("not_before_ms") or 0,
        ttl_time_ms=document["ttl_time_ms"],
    )

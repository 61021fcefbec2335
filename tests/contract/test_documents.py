"""The stored form: whatever a task holds comes back, whatever a later version adds is borne."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import bson
import pytest
from hypothesis import given
from msgspec import NODEFAULT, Struct
from msgspec.structs import fields, replace

from server.domain.errors import Reason
from server.domain.task import Task, TaskState
from server.domain.writes import Write
from server.store.documents import (
    LIVE_FIELDS,
    decode_live,
    decode_task,
    encode_task,
    encode_write,
)
from tests.contract.any_task import tasks
from tests.contract.every_write import every_kind_of_write
from tests.contract.samples import full_task, new_error, new_task

WRITER = "0123456789abcdef"


@given(task=tasks)
def test_any_task_comes_back_from_json_and_from_bson(task: Task) -> None:
    document = encode_task(task, token=WRITER)
    assert decode_task(json.loads(json.dumps(document))) == task
    assert decode_task(bson.decode(bson.encode(document))) == task


def test_references_as_earlier_builds_stored_them_are_read() -> None:
    keys = ("references/00", "task/1/0-abcdefghijklmnopqrstuv.png")
    task = replace(new_task(), request=replace(new_task().request, references=keys))
    document = encode_task(task, token=WRITER)
    assert document["request"]["references"] == list(keys)
    document["request"]["references"] = [{"kind": "stored", "value": key} for key in keys]
    assert decode_task(document).request.references == keys


def test_the_full_sample_leaves_no_field_at_its_default() -> None:
    assert list(_defaults(full_task(), "task")) == []


def _defaults(value: Any, path: str) -> Any:
    """Paths of fields that hold their default: such a field could be lost and nobody would notice."""
    if isinstance(value, Mapping):
        # The first one shows every field; others are there for their number.
        value = next(iter(value.values()))
    elif isinstance(value, tuple):
        value = value[0]
    if not isinstance(value, Struct):
        return
    for field in fields(value):
        here, default = getattr(value, field.name), field.default
        if field.default_factory is not NODEFAULT:
            default = field.default_factory()
        if here == default:
            yield f"{path}.{field.name}"
        yield from _defaults(here, f"{path}.{field.name}")


def test_what_holds_its_default_is_not_kept() -> None:
    document = encode_task(new_task(), token=WRITER)
    assert set(document) == {
        "_id",
        "caller",
        "type",
        "state",
        "priority",
        "pool",
        "provider",
        "model",
        "request",
        "max_paid_attempts",
        "revision",
        "create_time_ms",
        "update_time_ms",
        "ttl_time_ms",
        "attempt",
        "tokens",
    }


def test_numbered_maps_come_back_in_ascending_order() -> None:
    document = encode_task(full_task(), token=WRITER)
    document["images"] = dict(reversed(document["images"].items()))
    document["attempts"] = dict(reversed(document["attempts"].items()))
    task = decode_task(document)
    assert list(task.images) == [2, 10]
    assert list(task.attempts) == [1, 11]


def test_fields_of_a_later_version_are_borne() -> None:
    task = full_task()
    assert decode_task(_with_additions(encode_task(task, token=WRITER))) == task


def _with_additions(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_additions(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {name: _with_additions(item) for name, item in value.items()}
    numbered = all(name.isdigit() for name in value)
    return inner if numbered else {**inner, "later": {"added": [1, None]}}


def test_a_reason_of_a_later_version_keeps_its_message() -> None:
    document = encode_task(new_task(error=new_error("Too new.")), token=WRITER)
    document["error"]["reason"] = "OF_A_LATER_VERSION"
    error = decode_task(document).error
    assert error is not None
    assert (error.reason, error.message) == (Reason.INTERNAL_ERROR, "Too new.")


def test_a_live_task_is_read_from_its_projection() -> None:
    task = full_task()
    document = encode_task(task, token=WRITER)
    live = decode_live({"_id": task.id, **{name: document[name] for name in LIVE_FIELDS}})
    for field in fields(live):
        assert getattr(live, field.name) == getattr(task, field.name)


@pytest.mark.parametrize("missing", [{}, dict.fromkeys(LIVE_FIELDS)])
def test_a_live_task_is_read_without_what_holds_its_default(missing: dict[str, None]) -> None:
    document = encode_task(new_task(), token=WRITER)
    kept = {name: document[name] for name in ("_id", *LIVE_FIELDS) if name in document}
    live = decode_live({**missing, **kept})
    assert (live.owner, live.not_before_ms) == ("", 0)


@pytest.mark.parametrize("state", TaskState)
def test_states_are_kept_by_name(state: TaskState) -> None:
    document = encode_task(new_task(state=state), token=WRITER)
    assert document["state"] == state.name
    assert decode_task(document).state is state


@pytest.mark.parametrize("write", [write for _, write in every_kind_of_write()])
def test_no_write_touches_one_place_twice(write: Write) -> None:
    """MongoDB refuses an update whose paths are equal or lie within each other."""
    change = encode_write(write, token=WRITER)
    paths = sorted(f"{path}." for path in (*change.set, *change.unset, "revision"))
    for path, following in pairwise(paths):
        assert not following.startswith(path)


@pytest.mark.parametrize("write", [write for _, write in every_kind_of_write()])
def test_every_write_is_plain_data(write: Write) -> None:
    change = encode_write(write, token=WRITER)
    assert bson.decode(bson.encode(change.set)) == json.loads(json.dumps(change.set)) == change.set

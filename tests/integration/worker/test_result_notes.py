"""A worker's notes on kept images, as a successor finds them: perhaps of another version, perhaps broken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import asdict

from server.domain.errors import Reason
from server.domain.task import StoredImage, Task, TaskState
from server.store.outputs import result_key
from tests.integration.worker.bench import OTHER, Bench
from tests.integration.worker.scripted import made
from tests.integration.worker.shop import Shop
from tests.integration.worker.test_takeovers import die_in_mid_call, expire


async def lost_with_an_image(bench: Bench) -> tuple[Task, StoredImage]:
    """OTHER is lost after it has kept the image that its only paid call has made; there is no note yet."""
    accepted = await bench.accept(max_paid_attempts=1)
    await die_in_mid_call(bench, accepted, paid=True)
    image = await bench.keep(made(0), task_id=accepted.id, attempt=1)
    await bench.store.remove_worker(OTHER)
    await expire(bench)
    return accepted, image


async def put_note(bench: Bench, task: Task, note: bytes) -> None:
    await bench.outputs.put(result_key(task.id, 1, 0), note, mime_type="application/json")


async def test_a_note_of_a_newer_version_is_read(bench: Bench) -> None:
    """While workers are replaced one by one, an old one may take over from a new one."""
    accepted, image = await lost_with_an_image(bench)
    await put_note(bench, accepted, json.dumps({**asdict(image), "thumbnail": "x"}).encode())
    shop = Shop()
    task = await bench.run(bench.execution(shop))
    assert (task.state, task.images, shop.sold) == (TaskState.COMPLETED, {0: image}, {})


def _of(image: StoredImage, **changes: Any) -> bytes:
    return json.dumps({k: v for k, v in {**asdict(image), **changes}.items() if v is not None}).encode()


@pytest.mark.parametrize(
    "changes",
    [{"sha256": None}, {"size_bytes": "12"}, {"index": 1}],
    ids=["without a field", "with a wrong type", "of another image"],
)
async def test_a_note_that_does_not_fit_counts_as_none(bench: Bench, changes: dict[str, Any]) -> None:
    accepted, image = await lost_with_an_image(bench)
    await put_note(bench, accepted, _of(image, **changes))
    await ends_without_the_note(bench)


@pytest.mark.parametrize(
    "note", [b"", b'{"index": 0, ', b"\xff\xfe", b'{"index": 0, "key": "\xff"}', b"[]", b"7"]
)
async def test_a_note_that_cannot_be_read_counts_as_none(bench: Bench, note: bytes) -> None:
    accepted, _ = await lost_with_an_image(bench)
    await put_note(bench, accepted, note)
    await ends_without_the_note(bench)


async def ends_without_the_note(bench: Bench) -> None:
    """The task ends all the same, as one whose only paid call nobody has heard of again."""
    shop = Shop()
    task = await bench.run(bench.execution(shop))
    assert (task.state, shop.sold) == (TaskState.FAILED, {})
    assert task.error is not None
    assert task.error.reason is Reason.OUTCOME_UNKNOWN

"""What every output store promises: whole bytes or none, under names that lead nowhere else."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable

import pytest

from server.domain.errors import StoreUnavailable
from server.ports import OutputStore, StoredObject
from server.store import connect
from server.store.output_links import link_secret
from server.store.outputs import MEDIA_TYPES, output_key, reference_key
from tests.contract.race import PATIENCE_S
from tests.contract.samples import new_id

BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "../secret.png",
    "a/../../secret.png",
    "a/..",
    "a//b.png",
    "a/",
    "./a.png",
    "a/.hidden.png",
    ".incoming/a.png",
    "a\\b.png",
    "a b.png",
    "a\0.png",
    "a\n.png",
    "a.png\n",
    "C:a.png",
    "ä.png",
    "a%2e%2e/b.png",
    "x" * 201,
]
BAD_TYPES = [
    ("a/b.png", "image/jpeg"),
    ("a/b.png", "text/html"),
    ("a/b.html", "text/html"),
    ("a/b.svg", "image/png"),
    ("a/b", "text/html"),
    ("a/b", ""),
]


def picture(size: int, seed: int = 1) -> bytes:
    """Bytes that no compression or text mode leaves alone."""
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, 255 * 1024, 255 * 1024 + 1, 10 * 1024 * 1024])
async def test_bytes_come_back_as_they_were_put(outputs: OutputStore, size: int) -> None:
    key, data = output_key(new_id(), 1, 0, "png"), picture(size)
    await outputs.put(key, data, mime_type="image/png")
    assert await outputs.get(key) == StoredObject(data=data, mime_type="image/png")


async def test_media_types_come_back(outputs: OutputStore) -> None:
    for extension, mime_type in MEDIA_TYPES.items():
        key = f"task/1/note{extension}"
        await outputs.put(key, b"x", mime_type=mime_type)
        assert await outputs.get(key) == StoredObject(data=b"x", mime_type=mime_type)


async def test_media_types_of_names_without_extension_come_back(outputs: OutputStore) -> None:
    for mime_type in sorted(set(MEDIA_TYPES.values())):
        key = reference_key(hashlib.sha256(mime_type.encode()).hexdigest())
        await outputs.put(key, b"x", mime_type=mime_type)
        assert await outputs.get(key) == StoredObject(data=b"x", mime_type=mime_type)


async def test_what_is_not_there_is_not_found(outputs: OutputStore) -> None:
    await outputs.put("task/1/0-a.png", b"x", mime_type="image/png")
    await outputs.put("task/1/note", b"x", mime_type="image/png")
    near = ("task", "task/1", "task/1/0-a", "task/1/0-a.png/b", "task/1/0-A.png", "task/1/note.png")
    for key in (output_key(new_id(), 1, 0, "png"), "a.xyz", *near):
        assert await outputs.get(key) is None


async def refused(answer: Awaitable[object], why: str) -> bool:
    """Whether it ends with a ValueError that says why."""
    try:
        await answer
    except ValueError as error:
        return why in str(error)
    return False


async def test_names_that_lead_elsewhere_are_refused(outputs: OutputStore) -> None:
    for key in BAD_KEYS:
        assert await refused(outputs.put(key, b"x", mime_type="image/png"), "key"), repr(key)
        assert await refused(outputs.get(key), "key"), repr(key)


async def test_types_that_the_name_does_not_tell_are_refused(outputs: OutputStore) -> None:
    for key, mime_type in BAD_TYPES:
        assert await refused(outputs.put(key, b"x", mime_type=mime_type), "cannot hold"), (key, mime_type)
        assert await outputs.get(key) is None


@pytest.mark.parametrize("key", ["task/1/result.json", reference_key("0" * 64)])
async def test_a_name_is_written_once(outputs: OutputStore, key: str) -> None:
    await outputs.put(key, b"first", mime_type="application/json")
    await outputs.put(key, b"second", mime_type="application/json")
    if "." not in key:
        await outputs.put(key, b"third", mime_type="image/png")
    assert await outputs.get(key) == StoredObject(data=b"first", mime_type="application/json")


async def test_concurrent_puts_of_one_name_leave_one_whole(outputs_url: str) -> None:
    stores = [await connect.open_outputs(outputs_url, timeout_s=PATIENCE_S) for _ in range(3)]
    key = reference_key("a" * 64)
    contents = [picture(300_000, seed) for seed in range(9)]
    await asyncio.gather(
        *(stores[n % 3].put(key, data, mime_type="image/png") for n, data in enumerate(contents))
    )
    for store in stores:
        found = await store.get(key)
        assert found is not None
        assert found.data in contents
    for store in stores:
        await store.aclose()


async def test_all_processes_sign_links_with_one_secret(outputs_url: str) -> None:
    stores = [await connect.open_outputs(outputs_url, timeout_s=PATIENCE_S) for _ in range(3)]
    found = await asyncio.gather(*(link_secret(store) for store in stores))
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    assert await link_secret(stores[0]) == found[0], "for ever"
    for store in stores:
        await store.aclose()


async def test_concurrent_puts_of_many_names_are_all_kept(outputs: OutputStore) -> None:
    task_id = new_id()
    objects = {output_key(task_id, 1, n, "png"): picture(50_000, n) for n in range(12)}
    await asyncio.gather(*(outputs.put(key, data, mime_type="image/png") for key, data in objects.items()))
    for key, data in objects.items():
        assert await outputs.get(key) == StoredObject(data=data, mime_type="image/png")


async def test_what_was_put_is_there_for_others_and_after_opening_again(outputs_url: str) -> None:
    key, data = output_key(new_id(), 1, 0, "jpeg"), picture(1000)
    first, second = (
        await connect.open_outputs(outputs_url, timeout_s=PATIENCE_S),
        await connect.open_outputs(outputs_url, timeout_s=PATIENCE_S),
    )
    await first.put(key, data, mime_type="image/jpeg")
    await first.aclose()
    assert await second.get(key) == StoredObject(data=data, mime_type="image/jpeg")
    await second.aclose()
    with pytest.raises(StoreUnavailable):
        await first.get(key)

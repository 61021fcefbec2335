"""The output directory: whole files only, whatever dies, and a disk that fails."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import random
import sys
import threading
import time
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from server.domain.errors import StoreUnavailable
from server.store.output_links import link_secret
from server.store.outputs import STALE_TEMPORARY_S, FilesystemOutputStore, output_key, reference_key
from tests.contract.race import ROOT
from tests.contract.samples import new_id
from tests.waiting import until_async

PUT_UNTIL_KILLED = """
import asyncio, hashlib, os, pathlib, secrets, sys
from server.store.outputs import FilesystemOutputStore, reference_key

async def main():
    store = await FilesystemOutputStore.open(pathlib.Path(sys.argv[1]))
    async def put():
        while True:
            data = secrets.token_bytes(400_000)
            key = reference_key(hashlib.sha256(data).hexdigest())
            await store.put(key, data, mime_type="image/png")
            os.write(1, f"{key}\\n".encode())
    await asyncio.gather(put(), put(), put())

asyncio.run(main())
"""


async def test_the_kill_of_a_writer_leaves_whole_files_only(tmp_path: Path) -> None:
    arguments = ("-c", PUT_UNTIL_KILLED, str(tmp_path))
    writer = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE, cwd=ROOT)
    assert writer.stdout is not None
    keys = [(await writer.stdout.readline()).decode().strip() for _ in range(12)]
    writer.kill()
    keys += (await writer.stdout.read()).decode().split()
    await writer.wait()

    store = await FilesystemOutputStore.open(tmp_path)
    on_disk = [f"references/{file.name.partition('@')[0]}" for file in (tmp_path / "references").iterdir()]
    assert set(keys) <= set(on_disk)
    for key in on_disk:
        found = await store.get(key)
        assert found is not None
        assert key == reference_key(hashlib.sha256(found.data).hexdigest()), "complete or not there at all"
    await store.aclose()


@pytest.mark.parametrize("there_before", ["nothing", "its directory", "its file"])
async def test_what_is_put_is_on_the_disk_with_every_directory_it_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_before: str
) -> None:
    """A power cut is not to be had in a test; what the system is asked to flush, and in which order, is."""
    store = await FilesystemOutputStore.open(tmp_path)
    key, beside = (output_key("01TASK", 1, index, "png") for index in (0, 1))
    if there_before != "nothing":
        await store.put(beside if there_before == "its directory" else key, b"image", mime_type="image/png")
    seen: list[tuple[str, str]] = []
    fsync, link = os.fsync, os.link

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        seen.append(("flushed", os.readlink(f"/proc/self/fd/{descriptor}")))

    def noted_link(source: str, target: str) -> None:
        seen.append(("named", source))
        link(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "link", noted_link)
    await store.put(key, b"image", mime_type="image/png")
    await store.aclose()

    parents = (tmp_path, tmp_path / "01TASK" / "1", tmp_path / "01TASK")
    all_of_them = [("flushed", str(directory)) for directory in parents]
    assert seen[-3:] == all_of_them, "after the name is there, and first what others write to, too"
    if there_before == "its file":
        assert len(seen) == 3
    else:
        (_, flushed), (_, named) = seen[:-3]
        assert flushed == named, "whole before it has its name"


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="pathlib interns nothing any more")
async def test_names_that_never_come_again_are_not_interned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process has one table of such strings, which threads that add to it make anew, 2 MB for each."""
    interned: set[str] = set()
    intern = sys.intern

    def noted_intern(text: str) -> str:
        interned.add(text)
        return intern(text)

    store = await FilesystemOutputStore.open(tmp_path)
    monkeypatch.setattr(sys, "intern", noted_intern)
    assert "seen" in Path("seen").parts
    assert "seen" in interned, "it is seen how pathlib does it"
    interned.clear()
    for number in range(10):
        key = output_key(new_id(), 1, number, "png")
        await store.put(key, b"image", mime_type="image/png")
        assert await store.get(key) is not None
    await store.aclose()
    assert not interned


async def test_of_processes_that_write_one_key_at_once_the_first_stays(tmp_path: Path) -> None:
    """Whichever that is: what was read once is never anything else, so all sign links with one secret."""
    for n in range(60):
        stores = [await FilesystemOutputStore.open(tmp_path / str(n)) for _ in range(3)]
        found = await asyncio.gather(*(link_secret(store) for store in stores))
        assert {await link_secret(store) for store in stores} == set(found)
        assert len(set(found)) == 1
        assert not list((tmp_path / str(n) / ".incoming").iterdir()), "nothing is left of those who lost"
        for store in stores:
            await store.aclose()


async def test_a_reader_finds_whole_bytes_or_none(tmp_path: Path) -> None:
    store = await FilesystemOutputStore.open(tmp_path)
    data = random.Random(1).randbytes(8 * 1024 * 1024)
    for n in range(5):
        putting = asyncio.create_task(store.put(f"task/1/{n}.png", data, mime_type="image/png"))
        while (found := await store.get(f"task/1/{n}.png")) is None:
            pass
        assert len(found.data) == len(data)
        await putting
    await store.aclose()


async def test_opening_clears_what_a_crash_left_and_nothing_that_may_be_in_use(tmp_path: Path) -> None:
    incoming = tmp_path / ".incoming"
    incoming.mkdir()
    for name, age_s in (("old", STALE_TEMPORARY_S + 60), ("new", 5.0)):
        (incoming / name).write_bytes(b"x")
        os.utime(incoming / name, (time.time() - age_s,) * 2)
    store = await FilesystemOutputStore.open(tmp_path)
    assert [left.name for left in incoming.iterdir()] == ["new"]
    await store.put("a/b.png", b"x", mime_type="image/png")
    assert [left.name for left in incoming.iterdir()] == ["new"]
    await store.aclose()


async def test_a_directory_that_cannot_be_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable) as unavailable:
        await FilesystemOutputStore.open(tmp_path / "file" / "outputs")
    assert str(tmp_path) not in unavailable.value.message


async def test_a_directory_that_went_away_is_unavailable_and_comes_back(tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    store = await FilesystemOutputStore.open(root)
    key = output_key(new_id(), 1, 0, "png")
    root.rename(tmp_path / "elsewhere")
    root.touch()
    with pytest.raises(StoreUnavailable):
        await store.put(key, b"x", mime_type="image/png")
    root.unlink()
    (tmp_path / "elsewhere").rename(root)
    await store.put(key, b"x", mime_type="image/png")
    found = await store.get(key)
    assert found is not None
    assert found.data == b"x"
    await store.aclose()


async def test_a_disk_that_fails_is_away_and_holds_no_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be looked for is not absent: a worker would buy it again."""
    store = await FilesystemOutputStore.open(tmp_path)
    key = output_key(new_id(), 1, 0, "png")
    await store.put(key, b"image", mime_type="image/png")
    look = os.stat

    def failing(path: str, **options: object) -> os.stat_result:
        if str(path).endswith(key):
            raise OSError(errno.EIO, "the disk fails")
        return look(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", failing)
        with pytest.raises(StoreUnavailable):
            await store.get(key)
        with pytest.raises(StoreUnavailable):
            await store.put(key, b"image", mime_type="image/png")
    found = await store.get(key)
    assert found is not None
    assert found.data == b"image"
    await store.aclose()


async def test_a_disk_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await FilesystemOutputStore.open(tmp_path, timeout_s=0.5)
    answers, flush = threading.Event(), os.fsync

    def flush_late(descriptor: int) -> None:
        answers.wait()
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", flush_late)
    try:
        with pytest.raises(StoreUnavailable):
            await store.put("a/b.png", b"x", mime_type="image/png")
        assert await store.get("c/d.png") is None, "one stuck call does not stop the others"
    finally:
        answers.set()

    async def kept() -> bool:  # a real disk under load also takes longer than that at times
        with contextlib.suppress(StoreUnavailable):
            await store.put("c/d.png", b"x", mime_type="image/png")
            return True
        return False

    await until_async(kept, within_s=10, what="a disk that answers again")
    await store.aclose()

"""From URLs to stores: which file a URL means, and what is said of one that means nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from server.store import connect
from server.store.outputs import FilesystemOutputStore
from server.store.sqlite import SqliteTaskStore
from tests.contract.race import ROOT


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite://{tmp}/a.db", "{tmp}/a.db"),
        ("sqlite:///{tmp}/a.db", "{tmp}/a.db"),
        ("sqlite://localhost{tmp}/a.db", "{tmp}/a.db"),
        ("sqlite://{tmp}/with%20space%25.db", "{tmp}/with space%.db"),
        ("sqlite:a.db", "a.db"),
        ("sqlite:./below/a.db", "below/a.db"),
        ("sqlite:///./below/a.db", "below/a.db"),
        ("sqlite://{tmp}/a.db?synchronous=full", "{tmp}/a.db"),
    ],
)
async def test_a_sqlite_url_names_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, file: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    store = await connect.open_store(url.format(tmp=tmp_path))
    assert isinstance(store, SqliteTaskStore)
    await store.ping()
    await store.aclose()
    opened = f"file:{quote(file.format(tmp=tmp_path))}?mode=ro"
    with closing(sqlite3.connect(opened, uri=True)) as database:
        assert database.execute("SELECT count(*) FROM tasks").fetchone() == (0,)


@pytest.mark.parametrize(
    ("url", "directory"), [("file://{tmp}/out", "{tmp}/out"), ("file:out/deep", "out/deep")]
)
async def test_a_file_url_names_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, directory: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = await connect.open_outputs(url.format(tmp=tmp_path))
    assert isinstance(outputs, FilesystemOutputStore)
    await outputs.put("a/b.png", b"x", mime_type="image/png")
    await outputs.aclose()
    assert (Path(directory.format(tmp=tmp_path)) / "a/b.png").read_bytes() == b"x"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tasks.db",
        "postgres://user:secret@host/db",
        "sqlite://",
        "sqlite:///",
        "sqlite://user:secret@host/tasks.db",
        "sqlite:///tmp/tasks.db?synchronous=secret",
        "file:///tmp",
    ],
)
async def test_another_url_is_no_task_store_and_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite") as refused:
        await connect.open_store(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["", "/tmp", "file://", "file://user:secret@host/dir", "ftp://user:secret@host/dir"]
)
async def test_another_url_is_no_output_store_and_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="file") as refused:
        await connect.open_outputs(url)
    assert "secret" not in str(refused.value)


async def test_how_far_an_answer_is_flushed_can_be_chosen(tmp_path: Path) -> None:
    for mode, level in (("NORMAL", 1), ("full", 2)):
        store = await connect.open_store(f"sqlite://{tmp_path}/{mode}.db?synchronous={mode}")
        assert isinstance(store, SqliteTaskStore)
        assert await store._step(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (level,)
        await store.aclose()


def test_an_adapter_is_imported_when_asked_for() -> None:
    program = (
        "import sys, server.store.connect; print({'aiobotocore', 'pymongo', 'sqlite3'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"

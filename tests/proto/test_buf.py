"""Buf's STANDARD rules, where Buf is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.proto.descriptors import ROOT

LOCAL_BUF = ROOT / ".tools" / "node_modules" / ".bin" / "buf"


@pytest.fixture(scope="module")
def buf() -> str:
    found = str(LOCAL_BUF) if LOCAL_BUF.exists() else shutil.which("buf")
    if found is None:
        pytest.skip("buf is not installed; where npm is, get it with: make install-tools")
    return found


def lint(buf: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([buf, "lint"], cwd=folder, capture_output=True, text=True)


def test_contract_passes(buf: str) -> None:
    done = lint(buf, ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_shared_messages_are_excused_in_one_file_alone(buf: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    service = tmp_path / "proto" / "task" / "v1" / "task_service.proto"
    text = service.read_text()
    assert "rpc WaitTask(WaitTaskRequest)" in text
    service.write_text(text.replace("rpc WaitTask(WaitTaskRequest)", "rpc WaitTask(GetTaskRequest)"))
    done = lint(buf, tmp_path)
    assert done.returncode != 0
    assert "task_service.proto" in done.stdout
    assert "image_service.proto" not in done.stdout

"""A report names the state of the code that it speaks of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import commit
from tests.chaos.report import markdown
from tests.tools import program


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    subprocess.run(
        [program("git", install="apt-get install git"), *who, *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def test_a_change_since_the_commit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "__file__", str(tmp_path / "commit.py"))
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "first")
    clean = commit.commit()
    assert clean.isalnum()
    assert clean != "unknown"
    (tmp_path / "code.py").write_text("2\n")
    assert commit.commit() == f"{clean}-dirty"


def test_outside_a_repository_it_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "__file__", str(tmp_path / "commit.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit.commit() == "unknown"


def test_the_kill_matrix_names_its_commit() -> None:
    page = markdown([], command="the command", commit="abc1234", store="sqlite", seed=7, short=False)
    assert "`the command` at abc1234: store sqlite, seed 7" in page

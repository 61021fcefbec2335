"""What cannot be installed is told in one line, and the others go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import asynq, environments
from benchmarks.asynq import Asynq
from benchmarks.environments import NotInstalled, python_of, versions_of
from benchmarks.peer import PEERS, Peer
from benchmarks.rounds import Results, prepared
from benchmarks.service import OURS, Service


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Environments are made below this directory, from the requirements in it."""
    monkeypatch.setattr(environments, "PLACE", tmp_path)
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    return tmp_path


def test_an_environment_is_made_once_and_again_when_its_requirements_change(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is required then cannot be installed: the library takes no part, whatever was there before."""
    library = PEERS[0]
    requirements = place / f"{library.environment}.txt"
    requirements.write_text("# nothing\n")
    python = python_of(library.environment)
    assert python.is_file()
    assert "installing into" in capsys.readouterr().out
    assert python_of(library.environment) == python
    assert capsys.readouterr().out == ""

    wheel = f"{library.environment}-1.0-py3-none-any.whl"
    requirements.write_text(f"{library.environment} @ file://{place}/{wheel}\n")
    results = Results()
    assert [contender.name for contender in prepared([Service(), library], results)] == [OURS]
    assert "installing into" in capsys.readouterr().out
    assert wheel in results.missing[library.name]
    with pytest.raises(NotInstalled):
        python_of(library.environment)


def test_without_go_asynq_takes_no_part(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asynq, "PLACE", place)
    monkeypatch.setenv("PATH", str(place))
    results = Results()
    assert prepared([Asynq()], results) == []
    assert results.missing == {Asynq.name: "go is not on PATH"}
    assert "asynq v" in Asynq().description


@pytest.mark.parametrize("library", PEERS, ids=lambda library: library.name)
def test_every_library_says_which_versions_it_is(library: Peer) -> None:
    assert all(f"{package} " in library.description for package in (*library.packages, "redis"))


@pytest.mark.parametrize("name", ["plot", *sorted({peer.environment for peer in PEERS})])
def test_every_version_is_pinned(name: str) -> None:
    lines = (environments.REQUIREMENTS / f"{name}.txt").read_text().split()
    assert len(versions_of(name)) == len(lines) > 0

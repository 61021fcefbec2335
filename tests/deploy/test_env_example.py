""".env.example: every setting once, with its default, its other names and one line that explains it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from server.settings import load
from tests.deploy.files import ROOT, SETTINGS, VARIABLES

TEXT = (ROOT / ".env.example").read_text()
LINE = re.compile(r"#([A-Z_]+)=(.*)")


def entries(text: str) -> dict[str, str]:
    """Setting → the comment above it. Raises AssertionError for a line that is neither, and for doubles."""
    found: dict[str, str] = {}
    comment = ""
    for line in filter(None, text.splitlines()):
        match = LINE.fullmatch(line)
        if match is None:
            assert line.startswith("# "), line
            comment = line[2:]
            continue
        assert match[1] not in found, f"{match[1]} is there twice"
        assert comment, f"{match[1]} has no comment"
        found[match[1]], comment = comment, ""
    return found


def test_every_setting_is_there_once() -> None:
    assert sorted(entries(TEXT)) == sorted(SETTINGS)


def test_other_names_are_told() -> None:
    for name, comment in entries(TEXT).items():
        told = [word for word in re.findall(r"[A-Z_]+", comment) if word in VARIABLES and "also" in comment]
        assert told == SETTINGS[name][1:], name


def test_every_line_shows_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    uncommented = tmp_path / "env"
    uncommented.write_text(re.sub(LINE, r"\1=\2", TEXT))
    shown, default = load(str(uncommented)).model_dump(), load(None).model_dump()
    assert {name: value for name, value in shown.items() if value != default[name]} == {}


@pytest.mark.parametrize(
    "text",
    ["#NAME=1\n", "# One.\n#NAME=1\n# Two.\n#NAME=2\n", "# One.\nNAME=1\n", "# One.\n#NAME=1\n#OTHER=1\n"],
)
def test_a_malformed_file_is_refused(text: str) -> None:
    with pytest.raises(AssertionError):
        entries(text)

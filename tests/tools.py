"""Programs that some tests want and not every machine has."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

_OWN = Path(__file__).parents[1] / ".tools" / "bin"


def program(name: str, *, install: str) -> str:
    """The program's path. Without it the test skips, visibly; with REQUIRE_TOOLS=1 it fails."""
    found = shutil.which(name) or shutil.which(name, path=str(_OWN))
    if found:
        return found
    text = f"{name} is not installed ({install})"
    if os.environ.get("REQUIRE_TOOLS") == "1":
        pytest.fail(text)
    pytest.skip(text)

"""Python environments of their own under `.tools/bench`, for what must not mix with the service's libraries.

Each is made from pinned versions in `benchmarks/requirements/`, and kept until these change.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENTS = Path(__file__).with_name("requirements")
PLACE = ROOT / ".tools" / "bench"
INSTALL_TIMEOUT_S = 600.0


class NotInstalled(Exception):
    """An environment cannot be made on this machine; the text says why."""


def python_of(name: str) -> Path:
    """The interpreter of an environment, which is made if need be. Raises NotInstalled."""
    directory = PLACE / name
    python = directory / "bin" / "python"
    requirements = REQUIREMENTS / f"{name}.txt"
    mark = directory / ".made-of"
    made_of = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if mark.is_file() and mark.read_text() == made_of:
        return python
    pinned = " ".join(f"{package} {version}" for package, version in versions_of(name).items())
    print(f"installing into {directory}: {pinned}", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(directory)])
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "--requirement", str(requirements)])
    mark.write_text(made_of)
    return python


def versions_of(name: str) -> dict[str, str]:
    """The pinned versions of an environment by package."""
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"the installation took longer than {INSTALL_TIMEOUT_S:g} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotInstalled(said[-1])

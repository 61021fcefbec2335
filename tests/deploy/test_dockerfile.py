"""The image: two stages, nothing in it but what it needs, pinned, non-root, a health check that works."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.deploy.files import DEFAULTS, ROOT, VARIABLES, is_pinned, manifest
from tests.deploy.health_checks import run_check, side_port

DOCKERFILE = (ROOT / "Dockerfile").read_text()
INTERPRETER = re.compile(r"PATH|PYTHON[A-Z]+|PIP_[A-Z_]+")

Instruction = tuple[str, str]


def stages(text: str) -> list[list[Instruction]]:
    """The instructions of each stage, its FROM first."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[Instruction]] = []
    for line in filter(str.strip, text.splitlines()):
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, " ".join(rest.split())))
    return found


def values(stage: list[Instruction], name: str) -> list[str]:
    return [rest for instruction, rest in stage if instruction == name]


def faults(text: str) -> list[str]:
    """What is wrong with a Dockerfile, in words."""
    found = []
    every = stages(text)
    final = every[-1]
    if len(every) < 2:
        found.append("one stage")
    bases = {values(stage, "FROM")[0].split()[0] for stage in every}
    if len(bases) != 1:  # the virtual environment points at the interpreter of the base
        found.append("different bases")
    if not all(map(is_pinned, bases)):
        found.append("base not pinned")
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", (values(final, "USER") or [""])[-1]):
        found.append("user not a number above 0")  # runAsNonRoot cannot judge a name
    if any(not copy.startswith("--from=builder ") for copy in values(final, "COPY") + values(final, "ADD")):
        found.append("final stage copies from the context")
    if not any("constraints.txt" in run and "[server" in run for run in values(every[0], "RUN")):
        found.append("versions not constrained")
    if values(final, "ENTRYPOINT") != ['["python", "-m", "server"]'] or values(final, "CMD") != ['["api"]']:
        found.append("not an exec form of python -m server api")  # a shell as PID 1 swallows SIGTERM
    if values(final, "EXPOSE") != [f"{DEFAULTS.grpc_port} {DEFAULTS.http_port}"]:
        found.append("ports are not the defaults")
    if not values(final, "HEALTHCHECK"):
        found.append("no health check")
    environment = {name for env in values(final, "ENV") for name in re.findall(r"(\w+)=", env)}
    if unknown := {name for name in environment - VARIABLES if not INTERPRETER.fullmatch(name)}:
        found.append(f"unknown settings {sorted(unknown)}")
    if "PYTHONUNBUFFERED" not in environment:
        found.append("output buffered")
    return found


def test_it_has_no_fault() -> None:
    assert faults(DOCKERFILE) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (":3.11-slim-bookworm", ":latest", "base not pinned"),
        (":3.11-slim-bookworm", "", "base not pinned"),
        (":3.11-slim-bookworm AS", ":3.12-slim-bookworm AS", "different bases"),
        ("USER 10001:10001\n", "", "user not a number above 0"),
        ("USER 10001:10001\n", "USER 10001:10001\nUSER root\n", "user not a number above 0"),
        (
            "COPY --from=builder",
            "COPY server ./server\nCOPY --from=builder",
            "final stage copies from the context",
        ),
        ("-c constraints.txt ", "", "versions not constrained"),
        ('["python", "-m", "server"]', "python -m server", "not an exec form of python -m server api"),
        ("EXPOSE 8080 9090", "EXPOSE 80", "ports are not the defaults"),
        ("HEALTHCHECK", "LABEL", "no health check"),
        ("DATA_DIR=", "DATA_DIRECTORY=", "unknown settings ['DATA_DIRECTORY']"),
        ("PYTHONUNBUFFERED", "PYTHONUTF8", "output buffered"),
    ],
)
def test_a_fault_is_found(old: str, new: str, fault: str) -> None:
    assert old in DOCKERFILE
    assert fault in faults(DOCKERFILE.replace(old, new))


def test_one_stage_is_found() -> None:
    assert "one stage" in faults(DOCKERFILE[DOCKERFILE.rindex("FROM ") :])


def test_the_user_is_the_one_of_the_pods() -> None:
    (user,) = values(stages(DOCKERFILE)[-1], "USER")
    for name in ("imagegen-api", "imagegen-worker"):
        context = manifest("Deployment", name)["spec"]["template"]["spec"]["securityContext"]
        assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


def _sources() -> set[str]:
    """What the builder copies from the context."""
    return {
        source for copy in values(stages(DOCKERFILE)[0], "COPY") for source in copy.split()[:-1]
    }  # the last word is the target


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == _sources()
    assert [name for name in sorted(_sources()) if not (ROOT / name).exists()] == []
    assert not any(fnmatch(".env", rule[1:]) for rule in rules if rule.startswith("!"))


def test_everything_the_wheel_is_made_of_is_copied() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = config["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {Path(package).parts[0] for package in packages}
    needed |= {"pyproject.toml", config["project"]["readme"], *config["project"]["license-files"]}
    assert needed <= _sources()


def _health_check() -> list[str]:
    (text,) = values(stages(DOCKERFILE)[-1], "HEALTHCHECK")
    return [str(word) for word in json.loads(text.partition("CMD ")[2])]


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_tells_health_from_illness(status: int, code: int) -> None:
    with side_port(status) as (port, paths):
        # A proxy in the environment must not get in between.
        environment = {"HTTP_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
        assert run_check(_health_check(), environment) == code
    assert paths == ["/health"]


def test_the_health_check_fails_where_nothing_listens() -> None:
    with side_port(200) as (port, _):
        pass
    assert run_check(_health_check(), {"HTTP_PORT": str(port)}) != 0


def test_the_health_check_follows_the_default_port() -> None:
    assert f"os.environ.get('HTTP_PORT') or {DEFAULTS.http_port}" in _health_check()[-1]


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed: Dockerfile not linted")
    done = subprocess.run(
        [hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")

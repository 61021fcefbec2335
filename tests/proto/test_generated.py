"""`generated/` is what the compiler makes of `proto/`, and the package's dependencies can load it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from tests.proto.descriptors import PROTO_DIR, ROOT

GENERATED_DIR = ROOT / "generated"


def files_under(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def generate(out: Path) -> dict[str, bytes]:
    subprocess.run([sys.executable, str(PROTO_DIR / "generate.py"), "--out", str(out)], check=True)
    return files_under(out)


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    fresh, committed = generate(tmp_path), files_under(GENERATED_DIR)
    assert sorted(fresh) == sorted(committed), "run `make proto`"
    assert [name for name in fresh if fresh[name] != committed[name]] == [], "run `make proto`"


def test_generating_again_repairs_edits_and_removes_leftovers(tmp_path: Path) -> None:
    wanted = generate(tmp_path)
    (tmp_path / "task/v1/task_pb2.py").write_text("edited")
    (tmp_path / "task/v1/gone_pb2.py").write_text("of a file that is no longer there")
    (tmp_path / "task/v1/image_pb2.py").unlink()
    assert generate(tmp_path) == wanted


def test_declared_dependencies_can_load_the_generated_code() -> None:
    """Generated code refuses a run time older than its compiler: the declared minimum must not be older."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    requirements = {requirement.name: requirement for requirement in map(Requirement, declared)}
    generated = (GENERATED_DIR / "task/v1/task_service_pb2_grpc.py").read_text()
    messages = (GENERATED_DIR / "task/v1/task_service_pb2.py").read_text()

    for name, text, pattern in (
        ("grpcio", generated, r"GRPC_GENERATED_VERSION = '([\d.]+)'"),
        ("protobuf", messages, r"Protobuf Python Version: ([\d.]+)"),
    ):
        made_by = re.search(pattern, text)
        assert made_by is not None
        floors = [
            Version(part.version)
            for part in requirements[name].specifier
            if part.operator in (">=", "==", "~=")
        ]
        assert floors, f"{name}: no minimum version"
        assert max(floors) >= Version(made_by[1]), f"declare {name}>={made_by[1]}"

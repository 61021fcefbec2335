"""Makes `generated/` from the .proto files beside this script: `python proto/generate.py [--out DIR]`.

Messages (`_pb2.py`, `_pb2.pyi`) come from every file, services (`_pb2_grpc.py`, and `_pb2_grpc.pyi` for
grpc.aio) from the `*_service.proto` files alone. Files that no .proto file accounts for are removed, so what
stands in `generated/` depends on `proto/` and the compiler's version only.
"""

from __future__ import annotations

import argparse
import sysconfig
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTO_DIR = Path(__file__).resolve().parent
GENERATED_DIR = PROTO_DIR.parent / "generated"


def generate(out: Path) -> None:
    """Writes the Python code of all .proto files into `out`, an empty directory."""
    names = sorted(path.relative_to(PROTO_DIR).as_posix() for path in PROTO_DIR.rglob("*.proto"))
    services = [name for name in names if name.endswith("_service.proto")]
    stub_plugin = Path(sysconfig.get_path("scripts"), "protoc-gen-mypy_grpc")
    _protoc(f"--python_out={out}", f"--pyi_out={out}", *names)
    _protoc(
        f"--grpc_python_out={out}",
        f"--plugin={stub_plugin}",
        f"--mypy_grpc_out=only_async,quiet:{out}",
        *services,
    )
    # Marks the packages as typed for those who install them; type checkers ignore the stubs without it.
    for package in {name.split("/")[0] for name in names}:
        (out / package / "py.typed").touch()


def _protoc(*arguments: str) -> None:
    """Runs the compiler on `proto/`. Raises SystemExit after it has said on stderr what is wrong."""
    well_known_types = files("grpc_tools") / "_proto"
    if protoc.main(["protoc", f"-I{PROTO_DIR}", f"-I{well_known_types}", *arguments]) != 0:
        raise SystemExit("protoc failed")


def replace_tree(target: Path, source: Path) -> None:
    """Makes the files under `target` those under `source`, touching only what differs."""
    wanted = {path.relative_to(source): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    for path in sorted(target.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.relative_to(target) not in wanted:
            path.unlink()
    for name, content in wanted.items():
        path = target / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the Python code of the contract.")
    parser.add_argument("--out", type=Path, default=GENERATED_DIR, help="default: generated/")
    target: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        replace_tree(target, Path(scratch))


if __name__ == "__main__":
    main()

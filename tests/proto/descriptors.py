"""Compiles .proto files to descriptors with their comments, and walks over what they declare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import NamedTemporaryFile

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from grpc_tools import _protoc_compiler

ROOT = Path(__file__).resolve().parents[2]
PROTO_DIR = ROOT / "proto"
WELL_KNOWN = files("grpc_tools") / "_proto"

Node = (
    DescriptorProto
    | EnumDescriptorProto
    | FieldDescriptorProto
    | MethodDescriptorProto
    | ServiceDescriptorProto
)


def compile_protos(proto_dir: Path) -> list[FileDescriptorProto]:
    """The files under `proto_dir`, without the well-known types they import. Raises on a compiler error.

    What `python -m grpc_tools.protoc` does, without a process for it. What the compiler finds
    wrong stands on stderr.
    """
    names = sorted(path.relative_to(proto_dir).as_posix() for path in proto_dir.rglob("*.proto"))
    with NamedTemporaryFile() as result:
        options = [f"-I{proto_dir}", f"-I{WELL_KNOWN}", "--include_source_info"]
        command = ["protoc", *options, f"--descriptor_set_out={result.name}", *names]
        if _protoc_compiler.run_main([word.encode() for word in command]):
            raise AssertionError("protoc refuses the files")
        return list(FileDescriptorSet.FromString(Path(result.name).read_bytes()).file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One thing that a file declares. `name` is fully qualified, `comment` what stands above it."""

    kind: str  # "service", "rpc", "message", "oneof", "field", "enum" or "value"
    name: str
    comment: str


def declarations(file: FileDescriptorProto) -> Iterator[Declaration]:
    """Everything declared in `file`, map entries and the hidden oneofs of optional fields left out."""
    comments = {
        tuple(location.path): location.leading_comments for location in file.source_code_info.location
    }

    def declare(kind: str, name: str, path: tuple[int, ...]) -> Declaration:
        return Declaration(kind=kind, name=name, comment=comments.get(path, "").strip())

    def walk_enum(enum: EnumDescriptorProto, scope: str, path: tuple[int, ...]) -> Iterator[Declaration]:
        yield declare("enum", f"{scope}.{enum.name}", path)
        for index, value in enumerate(enum.value):
            yield declare("value", f"{scope}.{enum.name}.{value.name}", (*path, 2, index))

    def walk_message(message: DescriptorProto, scope: str, path: tuple[int, ...]) -> Iterator[Declaration]:
        name = f"{scope}.{message.name}"
        yield declare("message", name, path)
        for index, field in enumerate(message.field):
            yield declare("field", f"{name}.{field.name}", (*path, 2, index))
        for index, oneof in enumerate(message.oneof_decl):
            if not _is_hidden(message, index):
                yield declare("oneof", f"{name}.{oneof.name}", (*path, 8, index))
        for index, nested in enumerate(message.nested_type):
            if not nested.options.map_entry:
                yield from walk_message(nested, name, (*path, 3, index))
        for index, enum in enumerate(message.enum_type):
            yield from walk_enum(enum, name, (*path, 4, index))

    for index, service in enumerate(file.service):
        name = f"{file.package}.{service.name}"
        yield declare("service", name, (6, index))
        for position, method in enumerate(service.method):
            yield declare("rpc", f"{name}.{method.name}", (6, index, 2, position))
    for index, message in enumerate(file.message_type):
        yield from walk_message(message, file.package, (4, index))
    for index, enum in enumerate(file.enum_type):
        yield from walk_enum(enum, file.package, (5, index))


def _is_hidden(message: DescriptorProto, oneof_index: int) -> bool:
    """Whether the compiler made this oneof for one `optional` field."""
    return any(
        field.proto3_optional and field.HasField("oneof_index") and field.oneof_index == oneof_index
        for field in message.field
    )


def messages(file: FileDescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    """Every message of `file` with its full name, nested ones and map entries included."""

    def walk(message: DescriptorProto, scope: str) -> Iterator[tuple[str, DescriptorProto]]:
        name = f"{scope}.{message.name}"
        yield name, message
        for nested in message.nested_type:
            yield from walk(nested, name)

    for message in file.message_type:
        yield from walk(message, file.package)


def enums(file: FileDescriptorProto) -> Iterator[tuple[str, EnumDescriptorProto]]:
    """Every enum of `file` with its full name, nested ones included."""
    for enum in file.enum_type:
        yield f"{file.package}.{enum.name}", enum
    for name, message in messages(file):
        for enum in message.enum_type:
            yield f"{name}.{enum.name}", enum


def methods(file: FileDescriptorProto) -> Iterator[tuple[str, MethodDescriptorProto]]:
    """Every rpc of `file` with its full name."""
    for service in file.service:
        for method in service.method:
            yield f"{file.package}.{service.name}.{method.name}", method

"""The committed wire contract: one line per method, field and enum value.

`python -m tests.proto.baseline` extends it. It only adds lines: what callers may already use is never
removed, renamed or renumbered.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from tests.proto.descriptors import PROTO_DIR, compile_protos, enums, messages, methods

BASELINE_FILE = Path(__file__).with_name("baseline.txt")


def wire_lines(files: Iterable[FileDescriptorProto]) -> list[str]:
    """What a caller of any language can depend on, sorted."""
    lines = []
    for file in files:
        for name, method in methods(file):
            asked = ("stream " if method.client_streaming else "") + method.input_type.lstrip(".")
            answered = ("stream " if method.server_streaming else "") + method.output_type.lstrip(".")
            lines.append(f"rpc {name}({asked}) -> {answered}")
        for name, message in messages(file):
            lines += [
                f"field {name} {field.number:>3} {_describe(message, field)}" for field in message.field
            ]
        for name, enum in enums(file):
            lines += [f"value {name} {value.number:>3} {value.name}" for value in enum.value]
    return sorted(lines)


def _describe(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    type_name = field.type_name.lstrip(".") or kind
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        presence = "repeated "
    elif field.proto3_optional:
        presence = "optional "
    elif field.HasField("oneof_index"):
        presence = f"oneof {message.oneof_decl[field.oneof_index].name} "
    else:
        presence = ""
    return f"{field.name}: {presence}{type_name}"


def read_baseline() -> list[str]:
    return BASELINE_FILE.read_text().splitlines() if BASELINE_FILE.exists() else []


def removed(baseline: Iterable[str], current: Iterable[str]) -> list[str]:
    """What the baseline promises and the contract no longer has."""
    return sorted(set(baseline) - set(current))


def added(baseline: Iterable[str], current: Iterable[str]) -> list[str]:
    """What the contract has and the baseline does not know yet."""
    return sorted(set(current) - set(baseline))


def main() -> None:
    current = wire_lines(compile_protos(PROTO_DIR))
    broken = removed(read_baseline(), current)
    if broken:
        sys.exit("Not written. The contract no longer has:\n" + "\n".join(broken))
    BASELINE_FILE.write_text("\n".join(current) + "\n")


if __name__ == "__main__":
    main()

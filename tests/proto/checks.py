"""The rules of the contract. A check returns one line for every fault it finds; no line is a pass."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from graphlib import CycleError, TopologicalSorter

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, MethodOptions

from tests.proto.descriptors import declarations, enums, messages, methods

Files = Iterable[FileDescriptorProto]
Check = Callable[[Files], list[str]]

TIMESTAMP = ".google.protobuf.Timestamp"
# All that protoc's own include directory holds everywhere; other languages fail on more.
ALLOWED_FOREIGN_IMPORTS = {"google/protobuf/timestamp.proto", "google/protobuf/duration.proto"}
# One request in three forms: synchronous, asynchronous, streaming. The only messages that methods may share.
SHARED_MESSAGES = {
    "image.v1.ImageService.GenerateImageAsync": {"GenerateImageRequest"},
    "image.v1.ImageService.GenerateSequentialImages": {"GenerateImageResponse"},
    "image.v1.ImageService.GenerateSequentialImagesAsync": {
        "GenerateSequentialImagesRequest",
        "GenerateImageAsyncResponse",
    },
    "image.v1.ImageService.StreamSequentialImages": {"GenerateSequentialImagesRequest"},
}
READING_VERBS = ("Get", "List", "Wait", "Watch", "Download", "HealthCheck")


def uncommented(files: Files) -> list[str]:
    """Everything declared has a comment of at least three words above it."""
    return [
        f"{item.name}: {item.kind} without a comment"
        for file in files
        for item in declarations(file)
        if len(item.comment.split()) < 3
    ]


def undocumented_errors(files: Files) -> list[str]:
    """The comment of each rpc has a paragraph that lists its errors."""
    return [
        f"{item.name}: no paragraph 'Errors…'"
        for file in files
        for item in declarations(file)
        if item.kind == "rpc" and not re.search(r"^\s*Errors\b.*:", item.comment, re.MULTILINE)
    ]


def wrong_enums(files: Files) -> list[str]:
    """Enum values carry the enum's name, and 0 is `…_UNSPECIFIED`, a comment of which says "Not set"."""
    faults = []
    for file in files:
        comments = {item.name: item.comment for item in declarations(file)}
        for name, enum in enums(file):
            prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
            faults += [
                f"{name}.{v.name}: no prefix {prefix}" for v in enum.value if not v.name.startswith(prefix)
            ]
            zero = f"{prefix}UNSPECIFIED"
            if [v.name for v in enum.value if v.number == 0] != [zero]:
                faults.append(f"{name}: 0 is not {zero}")
            elif not comments[f"{name}.{zero}"].startswith("Not set"):
                faults.append(f"{name}.{zero}: its comment does not begin with 'Not set'")
    return faults


def wrong_packages(files: Files) -> list[str]:
    """A package is its directory, ends in a version, hides no standard module, has the agreed go_package."""
    faults = []
    for file in files:
        directory, _, _ = file.name.rpartition("/")
        top = file.package.partition(".")[0]
        if file.package != directory.replace("/", "."):
            faults.append(f"{file.name}: package {file.package} in another directory")
        if not re.fullmatch(r"[a-z]+\.v[1-9]\d*", file.package):
            faults.append(f"{file.name}: package {file.package} is not of the form name.v1")
        if top in sys.stdlib_module_names:
            faults.append(f"{file.name}: package {file.package} is named like the Python module {top}")
        go_package = f"sia/api/{directory};{file.package.replace('.', '')}"
        if file.options.go_package != go_package:
            faults.append(f"{file.name}: go_package is not {go_package}")
    return faults


def wrong_imports(files: Files) -> list[str]:
    """Imports are our own files and two foreign ones; packages form no cycle; task.v1 is a leaf."""
    package_of = {file.name: file.package for file in files}
    faults = []
    graph: dict[str, set[str]] = {package: set() for package in package_of.values()}
    for file in files:
        for name in file.dependency:
            if name in package_of:
                graph[file.package].add(package_of[name])
            elif name not in ALLOWED_FOREIGN_IMPORTS:
                faults.append(f"{file.name}: imports {name}")
    for package, imported in graph.items():
        imported.discard(package)
        if package == "task.v1" and imported:
            faults.append(f"task.v1: imports {', '.join(sorted(imported))}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        faults.append(f"import cycle: {' -> '.join(error.args[1])}")
    return faults


def wrong_times(files: Files) -> list[str]:
    """Fields that are timestamps, and only they, are named `…_time`."""
    return [
        f"{name}.{field.name}: {'timestamp' if field.type_name == TIMESTAMP else 'no timestamp'}"
        for file in files
        for name, message in messages(file)
        for field in message.field
        if (field.type_name == TIMESTAMP) != field.name.endswith("_time")
    ]


def wrong_method_messages(files: Files) -> list[str]:
    """Each rpc has its own `<Rpc>Request` and `<Rpc>Response`, but for the documented shared ones."""
    faults = []
    for file in files:
        for name, method in methods(file):
            for type_name, ending in ((method.input_type, "Request"), (method.output_type, "Response")):
                own = f".{file.package}.{method.name}{ending}"
                shared = {f".{file.package}.{message}" for message in SHARED_MESSAGES.get(name, ())}
                if type_name != own and type_name not in shared:
                    faults.append(f"{name}: {type_name} instead of {own}")
    return faults


def wrong_idempotency(files: Files) -> list[str]:
    """Methods that only read say so, and no other method does."""
    return [
        f"{name}: {'reads' if name.rpartition('.')[2].startswith(READING_VERBS) else 'does not only read'}"
        for file in files
        for name, method in methods(file)
        if name.rpartition(".")[2].startswith(READING_VERBS)
        != (method.options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS)
    ]


def unmarked_outputs(files: Files) -> list[str]:
    """Fields of messages that only answers hold say "Output only."; for members of a oneof it says so."""
    files = list(files)
    fields_of = {f".{name}": message.field for file in files for name, message in messages(file)}

    def reachable(roots: set[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(roots)
        while waiting:
            name = waiting.pop()
            if name in fields_of and name not in found:
                found.add(name)
                waiting += [
                    field.type_name
                    for field in fields_of[name]
                    if field.type == FieldDescriptorProto.TYPE_MESSAGE
                ]
        return found

    calls = [method for file in files for _, method in methods(file)]
    answers = reachable({call.output_type for call in calls}) - reachable({call.input_type for call in calls})
    faults = []
    for file in files:
        comments = {item.name: item.comment for item in declarations(file)}
        for name, message in messages(file):
            if f".{name}" not in answers or message.options.map_entry:
                continue
            heads = {
                f"{name}.{message.oneof_decl[field.oneof_index].name}"
                if field.HasField("oneof_index") and not field.proto3_optional
                else f"{name}.{field.name}"
                for field in message.field
            }
            faults += [
                f"{head}: not marked 'Output only.'"
                for head in sorted(heads)
                if not comments[head].startswith("Output only.")
            ]
    return faults


ALL: tuple[Check, ...] = (
    uncommented,
    undocumented_errors,
    wrong_enums,
    wrong_packages,
    wrong_imports,
    wrong_times,
    wrong_method_messages,
    wrong_idempotency,
    unmarked_outputs,
)

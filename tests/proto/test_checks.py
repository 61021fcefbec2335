"""Each rule finds what it is there to find: every one is shown a contract that breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proto import checks
from tests.proto.baseline import added, removed, wire_lines
from tests.proto.descriptors import compile_protos

# A small contract that keeps every rule; each case below breaks it in one place.
SOUND = """
syntax = "proto3";
package pet.v1;
import "google/protobuf/timestamp.proto";
option go_package = "sia/api/pet/v1;petv1";
// Reads what is known about pets.
service PetService {
  // Returns one pet.
  //
  // Errors: NOT_FOUND.
  rpc GetPet(GetPetRequest) returns (GetPetResponse) { option idempotency_level = NO_SIDE_EFFECTS; }
}
// Which pet to return.
message GetPetRequest {
  // Name of the pet.
  string name = 1;
}
// The pet asked for.
message GetPetResponse {
  // Output only. When it was born.
  google.protobuf.Timestamp birth_time = 1;
  // Output only. What kind of animal.
  PetKind kind = 2;
  // Output only. Where it lives.
  oneof home {
    // In a house, by address.
    string house = 3;
  }
}
// A kind of animal.
enum PetKind {
  // Not set: of unknown kind.
  PET_KIND_UNSPECIFIED = 0;
  // It is a cat.
  PET_KIND_CAT = 1;
}
"""


def contract_of(folder: Path, text: str, *, name: str = "pet/v1/pet_service.proto") -> checks.Files:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return compile_protos(folder)


@pytest.mark.parametrize("check", checks.ALL, ids=lambda check: check.__name__)
def test_a_sound_contract_passes(tmp_path: Path, check: checks.Check) -> None:
    assert check(contract_of(tmp_path, SOUND)) == []


@pytest.mark.parametrize(
    ("check", "sound", "broken", "fault"),
    [
        (checks.uncommented, "// Reads what is known about pets.\n", "", "pet.v1.PetService: service"),
        (
            checks.uncommented,
            "// Returns one pet.\n  //\n  // Errors: NOT_FOUND.\n",
            "",
            "pet.v1.PetService.GetPet: rpc",
        ),
        (checks.uncommented, "// Which pet to return.\n", "", "pet.v1.GetPetRequest: message"),
        (checks.uncommented, "// Name of the pet.\n", "", "pet.v1.GetPetRequest.name: field"),
        (checks.uncommented, "// Output only. Where it lives.\n", "", "pet.v1.GetPetResponse.home: oneof"),
        (checks.uncommented, "// A kind of animal.\n", "", "pet.v1.PetKind: enum"),
        (checks.uncommented, "// It is a cat.\n", "// Cat.\n", "pet.v1.PetKind.PET_KIND_CAT: value"),
        (checks.undocumented_errors, "Errors: NOT_FOUND.", "", "PetService.GetPet: no paragraph"),
        (checks.wrong_enums, "PET_KIND_CAT", "CAT", "pet.v1.PetKind.CAT: no prefix"),
        (checks.wrong_enums, "PET_KIND_UNSPECIFIED", "PET_KIND_NONE", "0 is not PET_KIND_UNSPECIFIED"),
        (checks.wrong_enums, "Not set: of unknown", "A cat of unknown", "does not begin with 'Not set'"),
        (
            checks.wrong_packages,
            "package pet.v1",
            "package animal.v1",
            "package animal.v1 in another directory",
        ),
        (checks.wrong_packages, "package pet.v1", "package pet", "package pet is not of the form"),
        (checks.wrong_packages, "sia/api/pet", "sia/pet", "go_package is not sia/api/pet/v1;petv1"),
        (checks.wrong_times, "birth_time", "birthday", "birthday: timestamp"),
        (checks.wrong_times, "string name", "string meal_time", "meal_time: no timestamp"),
        (checks.wrong_method_messages, "GetPet(", "FetchPet(", ".pet.v1.GetPetRequest instead of"),
        (checks.wrong_idempotency, "{ option idempotency_level = NO_SIDE_EFFECTS; }", ";", "GetPet: reads"),
        (checks.wrong_idempotency, "rpc GetPet(", "rpc FeedPet(", "FeedPet: does not only read"),
        (checks.unmarked_outputs, "Output only. What", "What", "GetPetResponse.kind: not marked"),
        (checks.unmarked_outputs, "Output only. Where", "Where", "GetPetResponse.home: not marked"),
    ],
)
def test_a_broken_contract_is_found(
    tmp_path: Path, check: checks.Check, sound: str, broken: str, fault: str
) -> None:
    assert SOUND.count(sound) == 1 or sound == "PET_KIND_CAT"
    faults = check(contract_of(tmp_path, SOUND.replace(sound, broken)))
    assert any(fault in line for line in faults), faults


def test_a_package_named_like_a_python_module_is_found(tmp_path: Path) -> None:
    text = SOUND.replace("pet.v1", "queue.v1").replace("pet/v1;petv1", "queue/v1;queuev1")
    faults = checks.wrong_packages(contract_of(tmp_path, text, name="queue/v1/pet_service.proto"))
    assert faults == ["queue/v1/pet_service.proto: package queue.v1 is named like the Python module queue"]


def test_a_foreign_import_is_found(tmp_path: Path) -> None:
    faults = checks.wrong_imports(
        contract_of(tmp_path, SOUND.replace("timestamp", "any").replace("Timestamp", "Any"))
    )
    assert faults == ["pet/v1/pet_service.proto: imports google/protobuf/any.proto"]


def test_a_cycle_of_packages_and_a_task_package_that_imports_are_found(tmp_path: Path) -> None:
    def file(package: str, imported: str) -> str:
        return f'syntax = "proto3";\npackage {package};\nimport "{imported}";\n'

    # Files form no cycle, or the compiler would refuse them; their packages do.
    (tmp_path / "pet" / "v1").mkdir(parents=True)
    (tmp_path / "pet" / "v1" / "leaf.proto").write_text('syntax = "proto3";\npackage pet.v1;\n')
    contract_of(tmp_path, file("task.v1", "pet/v1/leaf.proto"), name="task/v1/a.proto")
    faults = checks.wrong_imports(
        contract_of(tmp_path, file("pet.v1", "task/v1/a.proto"), name="pet/v1/b.proto")
    )
    assert "task.v1: imports pet.v1" in faults
    assert any(line.startswith("import cycle: ") for line in faults), faults


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("string name = 1;", ""),
        ("string name = 1;", "string name = 2;"),
        ("string name = 1;", "string title = 1;"),
        ("string name = 1;", "bytes name = 1;"),
        ("string name = 1;", "optional string name = 1;"),
        ("string name = 1;", "repeated string name = 1;"),
        ("PET_KIND_CAT = 1;", "PET_KIND_CAT = 2;"),
        ("returns (GetPetResponse)", "returns (stream GetPetResponse)"),
    ],
)
def test_a_change_that_breaks_callers_is_found(tmp_path: Path, before: str, after: str) -> None:
    baseline = wire_lines(contract_of(tmp_path, SOUND))
    changed = wire_lines(contract_of(tmp_path, SOUND.replace(before, after)))
    assert len(removed(baseline, changed)) == 1


def test_a_new_field_breaks_nothing_and_asks_for_a_new_baseline(tmp_path: Path) -> None:
    baseline = wire_lines(contract_of(tmp_path, SOUND))
    text = SOUND.replace("string name = 1;", "string name = 1; string owner = 2;")
    changed = wire_lines(contract_of(tmp_path, text))
    assert removed(baseline, changed) == []
    assert added(baseline, changed) == ["field pet.v1.GetPetRequest   2 owner: string"]

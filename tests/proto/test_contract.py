"""The contract keeps its own rules, and everything that callers depend on."""

from __future__ import annotations

import json
import re

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from server.domain.errors import Reason
from tests.proto import checks
from tests.proto.baseline import added, read_baseline, removed, wire_lines
from tests.proto.descriptors import declarations, enums

Files = list[FileDescriptorProto]

REASON = "task.v1.ErrorReason"


@pytest.mark.parametrize("check", checks.ALL, ids=lambda check: check.__name__)
def test_rules(contract: Files, check: checks.Check) -> None:
    assert check(contract) == []


def test_nothing_that_callers_use_was_changed(contract: Files) -> None:
    assert removed(read_baseline(), wire_lines(contract)) == []


def test_baseline_is_complete(contract: Files) -> None:
    missing = added(read_baseline(), wire_lines(contract))
    assert missing == [], "run `python -m tests.proto.baseline` and commit its result"


def test_a_sequence_takes_the_fields_of_one_image(contract: Files) -> None:
    def fields(message: str) -> set[str]:
        prefix = f"field image.v1.{message} "
        return {line.removeprefix(prefix) for line in wire_lines(contract) if line.startswith(prefix)}

    own = fields("GenerateSequentialImagesRequest") - fields("GenerateImageRequest")
    assert own == {" 17 max_images: int32"}
    assert fields("GenerateImageRequest") < fields("GenerateSequentialImagesRequest")


def test_the_service_knows_the_same_error_reasons(contract: Files) -> None:
    names = {
        value.name
        for file in contract
        for name, enum in enums(file)
        for value in enum.value
        if name == REASON
    }
    assert names - {"ERROR_REASON_UNSPECIFIED"} == {f"ERROR_REASON_{reason.value}" for reason in Reason}


def test_every_error_reason_has_its_code_and_a_worked_example(contract: Files) -> None:
    codes = {code.name for code in grpc.StatusCode} - {"OK", "UNKNOWN"}
    reasons = [
        item
        for file in contract
        for item in declarations(file)
        if item.kind == "value" and item.name.startswith(f"{REASON}.")
    ]
    assert len(reasons) > 20
    for item in reasons:
        reason = item.name.rpartition(".")[2].removeprefix("ERROR_REASON_")
        if reason == "UNSPECIFIED":
            continue
        assert re.split(r"\W", item.comment)[0] in codes, item.name
        example = json.loads(item.comment[item.comment.index("{") :])
        assert example["reason"] == reason
        assert example["domain"] == "sia.api"
        assert all(isinstance(value, str) for value in example["metadata"].values()), item.name

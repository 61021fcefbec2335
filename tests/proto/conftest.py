from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from tests.proto.descriptors import PROTO_DIR, compile_protos


@pytest.fixture(scope="session")
def contract() -> list[FileDescriptorProto]:
    """The files of `proto/`, with their comments."""
    return compile_protos(PROTO_DIR)

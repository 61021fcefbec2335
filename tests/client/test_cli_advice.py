"""The commands that a command suggests: they work as they stand."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from image.v1.image_service_pb2 import GenerateImageAsyncResponse
from task.v1.task_service_pb2 import GetTaskResponse

from imagegen.advice import Errand
from imagegen.argument_types import DEFAULT_TARGET
from tests.client.command_line import imagegen
from tests.client.example_tasks import completed
from tests.client.scripted_server import TASK_ID, scripted_service


def certificate_of_this_machine() -> tuple[bytes, bytes]:
    """A private key and a certificate of its own for 127.0.0.1, valid for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, certificate.public_bytes(pem)


async def test_it_connects_as_its_user_did(tmp_path: Path) -> None:
    key, certificate = certificate_of_this_machine()
    trusted = tmp_path / "root.pem"
    trusted.write_bytes(certificate)
    environment = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(trusted)}
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    async with scripted_service(credentials=credentials) as service:
        image = service.pictures.add()
        service.on("GenerateImageAsync", GenerateImageAsyncResponse(task_id=TASK_ID))
        service.on("GetTask", GetTaskResponse(task=completed(image)))
        submit = ("generate", "a cat", "--async", "--target", service.target, "--tls")
        submitted = await imagegen(*submit, cwd=tmp_path, **environment)
        assert (submitted.code, submitted.err) == (0, "")
        command = submitted.out.partition("fetch it: ")[2]
        fetched = await imagegen(*shlex.split(command)[1:], cwd=tmp_path, **environment)
    assert (fetched.code, fetched.err) == (0, "")
    assert (tmp_path / f"{TASK_ID}.png").exists()


def test_the_default_target_is_named_where_the_environment_names_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errand = Errand(target=DEFAULT_TARGET, task_id=TASK_ID)
    monkeypatch.delenv("IMAGEGEN_TARGET", raising=False)
    assert errand.next_command() == f"imagegen task {TASK_ID} --wait"
    monkeypatch.setenv("IMAGEGEN_TARGET", "images.example:443")
    assert errand.next_command() == f"imagegen task {TASK_ID} --wait --target {DEFAULT_TARGET}"

"""An S3 service for tests, as a pytest plugin: moto's server, which checks signatures and conditional writes.

Fixtures: `s3_server` (one per session, with one bucket and the keys of one user) and `s3_url` (a prefix of
the test's own in it, with the keys in the environment, where the store looks for them).
"""

from __future__ import annotations

import functools
import json
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import botocore.session
import pytest

from tests.ports import free_port

HOST = "127.0.0.1"
REGION = "eu-central-1"
BUCKET = "pictures"
START_TIMEOUT_S = 30.0
_SET_UP_CALLS = 3
"""So many calls pass without a signature: those that make the user."""
_EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What requests are signed with."""

    access_key_id: str
    secret_access_key: str


class S3Server:
    """One server, with BUCKET in it, all in memory; gone with the process that started it."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self.keys = Keys(access_key_id="", secret_access_key="")

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The server's process id; RuntimeError when it is not running."""
        if self._process is None:
            raise RuntimeError("moto is not running")
        return self._process.pid

    def url(self, *, bucket: str = BUCKET, prefix: str = "") -> str:
        """The OUTPUT_URL of a bucket here."""
        return f"s3://{bucket}/{prefix}?endpoint={quote(self.endpoint, safe='')}&region={REGION}"

    def start(self) -> None:
        """Start it and return when it has its user and bucket. RuntimeError with its output if it fails."""
        command = [sys.executable, "-m", "moto.server", "--host", HOST, "--port", str(self._port)]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env={"INITIAL_NO_AUTH_ACTION_COUNT": str(_SET_UP_CALLS), "PYTHONWARNINGS": "ignore"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            # It ends the server when this process, which holds the other end of its input, is gone.
            self._watch = subprocess.Popen(
                ["/bin/sh", "-c", 'read -r _; kill -9 "$1"', "sh", str(self._process.pid)],
                stdin=subprocess.PIPE,
            )
            self._set_up(self._process)
        except BaseException:
            self.kill()
            raise

    def client(self, service: str) -> Any:
        """A plain client of it, with the user's keys."""
        return botocore.session.get_session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.keys.access_key_id or "nobody",
            aws_secret_access_key=self.keys.secret_access_key or "nothing",
        )

    def kill(self) -> None:
        """End it at once; everything in it is gone."""
        if self._watch is not None:
            self._watch.kill()
            self._watch.communicate()
            self._watch = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _set_up(self, process: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._listens():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"moto did not start:\n{self._log.read_text(errors='replace')}")
            time.sleep(0.01)
        self.keys = self._new_user()
        self.client("s3").create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )

    def _new_user(self) -> Keys:
        iam = self.client("iam")
        iam.create_user(UserName="tests")
        made = iam.create_access_key(UserName="tests")["AccessKey"]
        iam.put_user_policy(UserName="tests", PolicyName="all", PolicyDocument=json.dumps(_EVERYTHING))
        return Keys(access_key_id=made["AccessKeyId"], secret_access_key=made["SecretAccessKey"])

    def _listens(self) -> bool:
        with socket.socket() as connection:
            return connection.connect_ex((HOST, self._port)) == 0


@pytest.fixture(scope="session")
def s3_models() -> Iterator[None]:
    """All sessions share what they know of services: each would read megabytes of JSON for its one client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory, s3_models: None) -> Iterator[S3Server]:
    """The server that all tests of this process share."""
    server = S3Server(tmp_path_factory.mktemp("s3") / "moto.log")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def s3_keys(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Keys:
    """The keys of the shared server, also in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.keys.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.keys.secret_access_key)
    return s3_server.keys


@pytest.fixture
def s3_url(s3_server: S3Server, s3_keys: Keys) -> str:
    """An OUTPUT_URL with nothing under it."""
    return s3_server.url(prefix=f"test-{uuid.uuid4().hex}")

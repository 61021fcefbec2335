"""What S3 adds to the contract of output stores: URLs, credentials, conditional writes, outages."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from server import logs
from server.domain.errors import StoreUnavailable
from server.ports import StoredObject
from server.store import connect, s3
from server.store.connect import S3Keys
from server.store.s3 import S3OutputStore
from tests.integration.api.relay import relaying
from tests.integration.api.requests import image, output
from tests.s3_server import BUCKET, Keys, S3Server
from tests.side_port import fetch
from tests.stack import calling, running_stack

pytestmark = pytest.mark.xdist_group("s3")  # one server for all, in the contract's tests too

KEY = "task/1/0-abcdefghijklmnopqrstuv.png"


@pytest.fixture
async def store(s3_url: str) -> AsyncIterator[S3OutputStore]:
    store = await S3OutputStore.connect(s3_url)
    yield store
    await store.aclose()


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_models: None) -> Iterator[S3Server]:
    """A server to be taken away."""
    server = S3Server(tmp_path / "moto.log")
    server.start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.keys.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.keys.secret_access_key)
    yield server
    server.kill()


# --- URLs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "bucket"),
    [
        ("s3://b", s3.Bucket(name="b", prefix="", endpoint=None, region=None, addressing="virtual")),
        ("s3://b/", s3.Bucket(name="b", prefix="", endpoint=None, region=None, addressing="virtual")),
        (
            "s3://b/p/q/?region=eu-west-1",
            s3.Bucket(name="b", prefix="p/q/", endpoint=None, region="eu-west-1", addressing="virtual"),
        ),
        (
            "s3://b/p%20q?endpoint=http://minio:9000",
            s3.Bucket(name="b", prefix="p q/", endpoint="http://minio:9000", region=None, addressing="path"),
        ),
        (
            "s3://b?endpoint=https%3A%2F%2Ftos-s3-cn-beijing.volces.com&addressing=virtual",
            s3.Bucket(
                name="b",
                prefix="",
                endpoint="https://tos-s3-cn-beijing.volces.com",
                region=None,
                addressing="virtual",
            ),
        ),
    ],
)
def test_a_url_says_where_the_bucket_is(url: str, bucket: s3.Bucket) -> None:
    assert s3.read_url(url) == bucket


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3:///prefix", "names a bucket"),
        ("s3://AKID:topsecret@b/p", "AWS_ACCESS_KEY_ID"),
        ("s3://b?endpoint=minio:9000", "endpoint option"),
        ("s3://b?adressing=path", "known: addressing, endpoint, region"),
        ("s3://b?addressing=both", "path or virtual"),
    ],
)
async def test_a_wrong_url_is_told_by_its_fault_alone(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        await connect.open_outputs(url)
    assert "topsecret" not in str(caught.value)


# --- credentials ---------------------------------------------------------------------------------------


async def test_keys_given_outright_are_used(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-somebody-else")
    keys = S3Keys(
        access_key_id=s3_server.keys.access_key_id, secret_access_key=s3_server.keys.secret_access_key
    )
    outputs = await connect.open_outputs(s3_server.url(prefix="outright"), keys=keys)
    await outputs.put(KEY, b"x", mime_type="image/png")
    assert await outputs.get(KEY) == StoredObject(data=b"x", mime_type="image/png")
    await outputs.aclose()
    assert s3_server.keys.secret_access_key not in repr(keys)


async def test_a_wrong_secret_stops_the_start(
    s3_server: S3Server, s3_keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the server looks at signatures, so that the other tests show something."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ValueError, match="credentials are refused"):
        await connect.open_outputs(s3_server.url())


async def test_no_keys_at_all_stop_the_start(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="set AWS_ACCESS_KEY_ID"):
        await connect.open_outputs(s3_server.url())


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AWS_SECRET_ACCESS_KEY", None, "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("AWS_PROFILE", "nobodys", "AWS_PROFILE names a profile"),
    ],
)
async def test_settings_that_cannot_be_stop_the_start(
    s3_server: S3Server,
    s3_keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    value: str | None,
    told: str,
) -> None:
    for file in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(file, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=told):
        await connect.open_outputs(s3_server.url())


@pytest.mark.parametrize("key", ["access_key_id", "secret_access_key"])
async def test_half_of_the_keys_given_outright_stops_the_start(s3_server: S3Server, key: str) -> None:
    with pytest.raises(ValueError, match="set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        await connect.open_outputs(s3_server.url(), keys=S3Keys(**{key: "half"}))


async def test_a_bucket_name_that_cannot_be_stops_the_start(s3_server: S3Server, s3_keys: Keys) -> None:
    with pytest.raises(ValueError, match="the bucket's name cannot be one"):
        await connect.open_outputs(s3_server.url(bucket="My_Bucket!"))


async def test_a_missing_bucket_stops_the_start(s3_server: S3Server, s3_keys: Keys) -> None:
    with pytest.raises(ValueError, match="no such bucket"):
        await connect.open_outputs(s3_server.url(bucket="nobodys"))


# --- objects -------------------------------------------------------------------------------------------


async def test_objects_lie_under_the_prefix_with_their_type(
    store: S3OutputStore, s3_server: S3Server, s3_url: str
) -> None:
    await store.put(KEY, b"picture", mime_type="image/png")
    prefix = urlsplit(s3_url).path.strip("/")
    found = s3_server.client("s3").get_object(Bucket=BUCKET, Key=f"{prefix}/{KEY}")
    assert (found["Body"].read(), found["ContentType"]) == (b"picture", "image/png")


async def test_who_comes_second_between_look_and_write_changes_nothing(
    store: S3OutputStore, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both looked before either wrote: the condition of the write decides."""
    other = await S3OutputStore.connect(s3_url)
    both_looked = asyncio.Barrier(2)
    real = S3OutputStore._exists

    async def look(self: S3OutputStore, key: str) -> bool:
        found = await real(self, key)
        if not found:
            await both_looked.wait()
        return found

    monkeypatch.setattr(S3OutputStore, "_exists", look)
    puts = [s.put(KEY, data, mime_type="image/png") for s, data in ((store, b"one"), (other, b"two"))]
    await asyncio.gather(*puts)
    first = await store.get(KEY)
    assert first is not None
    await store.put(KEY, b"three", mime_type="image/png")
    assert await store.get(KEY) == await other.get(KEY) == first
    assert first.data in (b"one", b"two")
    await other.aclose()


# --- outages -------------------------------------------------------------------------------------------


async def test_a_service_that_is_gone_is_unavailable(own_server: S3Server) -> None:
    store = await S3OutputStore.connect(own_server.url())
    own_server.kill()
    for attempt in (store.get(KEY), store.put(KEY, b"x", mime_type="image/png")):
        with pytest.raises(StoreUnavailable) as caught:
            await attempt
        assert own_server.endpoint not in caught.value.message
    with pytest.raises(StoreUnavailable):
        await S3OutputStore.connect(own_server.url())
    await store.aclose()


async def test_a_service_that_hangs_is_unavailable_in_time(own_server: S3Server) -> None:
    store = await S3OutputStore.connect(own_server.url(), timeout_s=0.3)
    os.kill(own_server.pid, signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(StoreUnavailable):
        await store.get(KEY)
    assert loop.time() - started < 2
    os.kill(own_server.pid, signal.SIGCONT)
    await store.aclose()


async def test_a_slow_link_is_no_outage(s3_server: S3Server, s3_url: str) -> None:
    """An answer has to begin in time and to go on; that a file takes longer is no failure."""
    data = bytes(400_000)
    async with relaying(urlsplit(s3_server.endpoint).port or 0) as relay:
        url = s3_url.replace(quote(s3_server.endpoint, safe=""), quote(f"http://{relay.target}", safe=""))
        store = await S3OutputStore.connect(url, timeout_s=0.5)
        await store.put(KEY, data, mime_type="image/png")
        relay.bytes_per_s = 400_000
        found = await store.get(KEY)
        await store.aclose()
    assert found is not None
    assert found.data == data


async def test_debug_logs_hold_no_signature(
    s3_url: str, capsys: pytest.CaptureFixture[str], s3_keys: Keys
) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(level="debug", form="json", directory=None, keep_days=1, app="a", version="1", role="test")
    try:
        store = await S3OutputStore.connect(s3_url)
        await store.put(KEY, b"x", mime_type="image/png")
        await store.aclose()
    finally:
        root.handlers[:], root.level = handlers, level
    written = capsys.readouterr().err
    assert "AWS4-HMAC-SHA256" not in written
    assert s3_keys.access_key_id not in written


# --- the service on a bucket ---------------------------------------------------------------------------


async def test_api_and_workers_share_a_bucket_that_callers_never_see(s3_server: S3Server) -> None:
    """Keys by the settings; links lead to the api; an earlier image serves as a reference."""
    settings = {
        "OUTPUT_URL": s3_server.url(prefix="service"),
        "AWS_ACCESS_KEY_ID": s3_server.keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": s3_server.keys.secret_access_key,
    }
    with running_stack(**settings) as stack:
        api = stack.start("api")
        stack.start("worker")
        async with calling(api) as calls:
            first = await calls.images.GenerateImage(image(), timeout=60)
            second = await calls.images.GenerateImage(
                image(reference_images=[output(first.task_id)]), timeout=60
            )
        for made in (first.images[0], second.images[0]):
            assert made.url.startswith(f"http://localhost:{api.http_port}/outputs/")
            served = await fetch(made.url)
            assert hashlib.sha256(served.body).hexdigest() == made.sha256
        assert first.images[0].sha256 != second.images[0].sha256
        written = [log.read_text() for log in stack.directory.glob("*.log")]
        assert not any(s3_server.keys.secret_access_key in log for log in written)

"""Pictures come whole and as they were stored, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from pathlib import Path

import grpc
import pytest
from PIL import Image as Picture
from task.v1.image_pb2 import Image

from imagegen import DownloadFailed, ImageClient
from tests.client.scripted_server import ScriptedService


async def test_the_bytes_of_a_link(client: ImageClient, service: ScriptedService) -> None:
    image = service.pictures.add(width_px=320, height_px=200)
    with Picture.open(io.BytesIO(await client.download(image))) as picture:
        assert picture.size == (320, 200)


async def test_bytes_in_the_answer_need_no_link(client: ImageClient) -> None:
    image = Image(data=b"abc", size_bytes=3, sha256=hashlib.sha256(b"abc").hexdigest())
    assert await client.download(image) == b"abc"
    image.data = b"abd"
    with pytest.raises(DownloadFailed, match="SHA-256"):
        await client.download(image)


@pytest.mark.parametrize("change", ["one byte", "shorter", "longer"])
async def test_other_bytes_are_refused(change: str, client: ImageClient, service: ScriptedService) -> None:
    image = service.pictures.add()
    path = service.pictures.path_of(image)
    body = service.pictures.answers[path][1]
    body = {"one byte": body[:-1] + b"\x00", "shorter": body[:-1], "longer": body + b"\x00" * 200_000}[change]
    service.pictures.answers[path] = (200, body)
    with pytest.raises(DownloadFailed, match="SHA-256") as caught:
        await client.download(image)
    assert caught.value.code is grpc.StatusCode.DATA_LOSS


async def test_a_picture_that_is_gone(client: ImageClient, service: ScriptedService) -> None:
    image = service.pictures.add()
    service.pictures.answers.clear()
    with pytest.raises(DownloadFailed, match="HTTP 404") as caught:
        await client.download(image)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_only_http_is_fetched(client: ImageClient, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"abc")
    image = Image(url=secret.as_uri(), size_bytes=3, sha256=hashlib.sha256(b"abc").hexdigest())
    with pytest.raises(DownloadFailed, match="neither http nor https"):
        await client.download(image)


async def test_a_silent_server_is_given_up(client: ImageClient) -> None:
    gone = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_server(never, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        start = time.monotonic()
        with pytest.raises(DownloadFailed, match="timed out"):
            await client.download(Image(url=f"http://{host}:{port}/x"), timeout_s=0.3)
        assert time.monotonic() - start < 5
        await asyncio.wait_for(gone.wait(), 5)


async def test_a_dripping_server_is_given_up(client: ImageClient) -> None:
    """Each read succeeds in time; only the whole takes too long."""

    gone = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            writer.close()
            gone.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(DownloadFailed, match="timed out"):
            await client.download(Image(url=f"http://{host}:{port}/x", size_bytes=1000), timeout_s=0.3)
        await asyncio.wait_for(gone.wait(), 5)


async def test_no_proxy_is_asked_for_this_machine(
    client: ImageClient, service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert await client.download(service.pictures.add())


async def test_a_connection_that_breaks_off_is_no_lost_data(client: ImageClient) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(400))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(DownloadFailed, match="broke off after 400 bytes") as caught:
            await client.download(Image(url=f"http://{host}:{port}/x", size_bytes=1000))
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


async def test_a_malformed_link(client: ImageClient) -> None:
    with pytest.raises(DownloadFailed, match="malformed"):
        await client.download(Image(url="http://[::1/x"))

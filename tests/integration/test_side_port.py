"""The HTTP port, spoken to over a socket: probes, metrics, images, and everything it must not give away."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from server.domain.errors import StoreUnavailable
from server.health import Health
from server.joint_side_port import JointSidePort
from server.links import Links
from server.metrics import CONTENT_TYPE, Metrics
from server.side_port import HttpPort, SidePort
from server.store.output_links import LINK_SECRET, link_secret, seconds_left
from server.store.outputs import (
    FilesystemOutputStore,
    output_key,
    reference_key,
)
from tests.faults import Faults, faulty

HOST = "127.0.0.1"
TASK_ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
LIFETIME_S = 3600
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
SECRET = b"a caller's own picture"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came over the wire; header names in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class Clock:
    """A wall clock that is set by hand."""

    now_ms: int = 1_764_072_000_000

    def __call__(self) -> int:
        return self.now_ms


@dataclass(slots=True)
class Port:
    """A running side port and what is behind it."""

    number: int
    side: HttpPort
    health: Health
    metrics: Metrics
    outputs: FilesystemOutputStore
    output_faults: Faults
    links: Links
    clock: Clock

    async def ask(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        """Send the path exactly as it is: no client tidies it up first."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(HOST, self.number)
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            await writer.drain()
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            await writer.wait_closed()
        first, *rest = head.decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in rest)
        return Answer(int(first.split()[1]), {name.lower(): value for name, value in pairs}, body)


@pytest.fixture(params=["alone", "one-of-several"])
async def port(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Port]:
    """A process' own side port, and one behind that of a supervisor: nobody can tell them apart."""
    real = await FilesystemOutputStore.open(tmp_path / "outputs")
    outputs, faults = faulty(real, lambda: StoreUnavailable("asleep"))
    health, metrics = Health(), Metrics(app="pictures", version="1.2.3", role="api", models=["canvas"])
    side: HttpPort
    side = own = SidePort(health=health, metrics=metrics)
    clock = Clock()
    links = Links(base_url="/outputs/", secret=await link_secret(real), lifetime_s=LIFETIME_S, now_ms=clock)
    own.serve(outputs, partial(seconds_left, links))
    number = await own.start(HOST, 0)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(real.aclose)
        stack.push_async_callback(own.stop)
        if request.param == "one-of-several":
            only = {"1": f"http://{HOST}:{number}"}
            side = JointSidePort(lambda: only, processes=1)
            stack.push_async_callback(side.stop)
            number = await side.start(HOST, 0)
        yield Port(number, side, health, metrics, real, faults, links, clock)


# --- probes ------------------------------------------------------------------------------------------


async def test_alive_is_alive_whatever_is_away(port: Port) -> None:
    port.health.set(store=False, redis=False, draining=True)
    answer = await port.ask("/health")
    assert (answer.status, answer.json()) == (200, {"status": "alive"})


@pytest.mark.parametrize(
    ("store", "redis", "draining", "status", "report"),
    [
        (True, True, False, 200, {"status": "ready", "store": "up", "redis": "up", "draining": "no"}),
        (True, False, False, 200, {"status": "ready", "store": "up", "redis": "down", "draining": "no"}),
        (False, True, False, 503, {"status": "not ready", "store": "down", "redis": "up", "draining": "no"}),
        (True, True, True, 503, {"status": "not ready", "store": "up", "redis": "up", "draining": "yes"}),
    ],
)
async def test_ready_says_why_not(
    port: Port, store: bool, redis: bool, draining: bool, status: int, report: dict[str, str]
) -> None:
    port.health.set(store=store, redis=redis, draining=draining)
    answer = await port.ask("/ready")
    assert answer.status == status
    assert report.items() <= answer.json().items()
    assert answer.headers["content-type"].startswith("application/json")


async def test_metrics_can_be_read_by_prometheus(port: Port) -> None:
    port.metrics.tasks_submitted.labels("canvas").inc()
    answer = await port.ask("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == CONTENT_TYPE
    families = list(text_string_to_metric_families(answer.body.decode()))
    values = {
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "imagegen_tasks_submitted_total"
    }
    assert values == {1.0}


@pytest.mark.parametrize("path", ["/", "/outputs", "/outputs/", "/nowhere", "/metrics/x", "/health/.."])
async def test_there_is_nothing_else(port: Port, path: str) -> None:
    assert (await port.ask(path)).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed(port: Port, method: str) -> None:
    for path in ("/health", "/ready", "/metrics", "/outputs/a/1/0-x.png"):
        assert (await port.ask(path, method=method, Content_Length="0")).status == 405


# --- images ------------------------------------------------------------------------------------------


async def kept(port: Port, extension: str = "png", mime_type: str = "image/png") -> str:
    """The link, without a host, of a stored image."""
    key = output_key(TASK_ID, 1, 0, extension)
    await port.outputs.put(key, PICTURE, mime_type=mime_type)
    return port.links.mint(key).url


def key_of(link: str) -> str:
    """The key that a link leads to."""
    return link.removeprefix("/outputs/").partition("?")[0]


@pytest.mark.parametrize(
    ("extension", "mime_type"), [("png", "image/png"), ("jpg", "image/jpeg"), ("webp", "image/webp")]
)
async def test_an_image_is_shown_and_cached_as_long_as_its_link_works(
    port: Port, extension: str, mime_type: str
) -> None:
    link = await kept(port, extension, mime_type)
    answer = await port.ask(link)
    assert (answer.status, answer.body) == (200, PICTURE)
    assert answer.headers["content-type"] == mime_type
    assert answer.headers["content-length"] == str(len(PICTURE))
    assert answer.headers["content-disposition"] == "inline"
    assert answer.headers["cache-control"] == f"public, max-age={LIFETIME_S}, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"] == f'"{key_of(link).split("/")[-1]}"'


async def test_the_head_of_an_image_has_no_body(port: Port) -> None:
    link = await kept(port)
    whole, head = await port.ask(link), await port.ask(link, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    same = ("content-type", "content-length", "etag", "cache-control")
    assert [head.headers[name] for name in same] == [whole.headers[name] for name in same]


@pytest.mark.parametrize("form", ["{etag}", "W/{etag}", '"other", {etag}', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_a_cache_has_already_is_not_sent_again(port: Port, form: str, method: str) -> None:
    link = await kept(port)
    etag = (await port.ask(link)).headers["etag"]
    answer = await port.ask(link, method=method, If_None_Match=form.format(etag=etag))
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"] == etag
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("tag", ['"other"', 'W/"other"', "no tag at all", '""'])
async def test_what_a_cache_has_not_is_sent(port: Port, tag: str) -> None:
    link = await kept(port)
    answer = await port.ask(link, If_None_Match=tag)
    assert (answer.status, answer.body) == (200, PICTURE)


async def test_a_removed_image_is_gone_for_caches_too(port: Port) -> None:
    key = output_key(TASK_ID, 1, 0, "png")
    for headers in ({}, {"If_None_Match": f'"{key.split("/")[-1]}"'}):
        assert (await port.ask(port.links.mint(key).url, **headers)).status == 404


async def test_a_store_that_is_away_is_no_missing_image(port: Port) -> None:
    link = await kept(port)
    port.output_faults.away = True
    answer = await port.ask(link)
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert b"asleep" not in answer.body
    assert "immutable" not in answer.headers.get("cache-control", "")
    port.output_faults.wake()
    assert (await port.ask(link)).status == 200


# --- how long it is served ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_link_works_until_its_end_and_not_after(port: Port, method: str) -> None:
    link = await kept(port)
    etag = (await port.ask(link)).headers["etag"]
    port.clock.now_ms += LIFETIME_S * 1000 - 1500
    answer = await port.ask(link, method=method)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "public, max-age=1, immutable", "no cache outlives the link"
    port.clock.now_ms += 1500
    for headers in ({}, {"If_None_Match": etag}):
        ended = await port.ask(link, method=method, **headers)
        assert ended.status == 410
        assert PICTURE not in ended.body
        assert "immutable" not in ended.headers.get("cache-control", "")
    renewed = port.links.mint(key_of(link)).url
    assert (await port.ask(renewed)).body == PICTURE


async def test_without_its_signature_or_with_another_images_a_link_is_none(port: Port) -> None:
    link, other = await kept(port), await kept(port)
    path, query = link.split("?")
    wrong = ["", "?", "?signature=", f"?Signature={query.partition('=')[2]}", f"?{other.split('?')[1]}"]
    for changed in [*wrong, f"?{query[:-1]}", f"?{query.replace('.', '%2E.')}", "?signature=%ff%fe.%ff"]:
        answer = await port.ask(path + changed)
        assert (answer.status, PICTURE in answer.body) == (404, False), changed


async def test_a_name_that_was_given_out_as_a_link_stays_one(port: Port) -> None:
    """From before links had an end: nothing that was promised breaks."""
    key = f"{TASK_ID}/1/0-abcdefghijklmnopqrstuv.png"
    await port.outputs.put(key, PICTURE, mime_type="image/png")
    port.clock.now_ms += 10 * LIFETIME_S * 1000
    answer = await port.ask(f"/outputs/{key}")
    assert (answer.status, answer.body) == (200, PICTURE)
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    new = port.links.mint(key).url
    assert (await port.ask(new)).body == PICTURE
    port.clock.now_ms += 2 * LIFETIME_S * 1000
    assert (await port.ask(new)).status == 410, "a link that tells its end keeps to it"


# --- what is not served ------------------------------------------------------------------------------


async def test_what_is_not_public_looks_like_nothing(port: Port, tmp_path: Path) -> None:
    """Callers' references, a worker's notes, and every way out of the store, however it is written."""
    reference = reference_key("0" * 64)
    await port.outputs.put(reference, SECRET, mime_type="image/png")
    notes = "01ARZ3NDEKTSV4RRFFQ69G5FAV/1/result.json"
    await port.outputs.put(notes, SECRET, mime_type="application/json")
    (tmp_path / "secret.png").write_bytes(SECRET)
    public = key_of(await kept(port))
    task, attempt, name = public.split("/")
    paths = [
        LINK_SECRET,
        reference,
        f"{reference}.png",
        reference.replace("/", "%2f"),
        notes,
        "../secret.png",
        "..%2fsecret.png",
        "%2e%2e/secret.png",
        "%2e%2e%2fsecret.png",
        "..%5csecret.png",
        "..%252fsecret.png",
        f"{task}/../../secret.png",
        f"{task}/{attempt}/../../../secret.png",
        f"{task}/{attempt}/..%2f..%2f..%2fsecret.png",
        f"references/1/{name}",
        f"{task}/x/../{attempt}/../../{reference}.png",
        str(tmp_path / "secret.png"),
        "%2f" + str(tmp_path / "secret.png").lstrip("/"),
        "/etc/passwd",
        f"{public}%00",
        f"{public}%00.png",
        f"{public}%0a",
        f"{public}/",
        f"{public}.bak",
        f"{task}/{attempt}",
        f"{task}//{attempt}/{name}",
        ".incoming/x",
        "x" * 4_000,
        "%ff%fe",
        "猫",
    ]
    for path in paths:
        signature = port.links.mint(unquote(path, errors="replace")).url.partition("?")[2]
        for asked in (path, f"{path}?{signature}"):  # nobody has such a link; it would not help
            answer = await port.ask(f"/outputs/{asked}")
            assert answer.status in (400, 404), asked
            assert SECRET not in answer.body, asked


@pytest.mark.parametrize("path", ["/outputs/../secret.png", "/../secret.png", "/outputs/..//../secret.png"])
async def test_a_path_that_leaves_outputs_finds_nothing(port: Port, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.png").write_bytes(SECRET)
    answer = await port.ask(path)
    assert answer.status in (400, 404)
    assert SECRET not in answer.body


async def test_a_guessed_name_is_not_found(port: Port) -> None:
    path, query = (await kept(port)).split("?")
    head, tail = path[:-6], path[-6:]
    other = "A" if tail[0] != "A" else "B"
    assert (await port.ask(f"{head}{other}{tail[1:]}?{query}")).status == 404
    assert (await port.ask(f"/outputs/{path.removeprefix('/outputs/').swapcase()}?{query}")).status == 404


# --- start and stop ----------------------------------------------------------------------------------


async def test_a_port_without_outputs_serves_none(port: Port) -> None:
    """A worker's."""
    link = await kept(port)
    side = SidePort(health=port.health, metrics=port.metrics)
    worker = replace(port, number=await side.start(HOST, 0), side=side)
    try:
        assert (await worker.ask("/health")).status == 200
        assert (await worker.ask(link)).status == 404
    finally:
        await side.stop()


@pytest.mark.parametrize(
    ("garbage", "told"),
    [
        # Without even a good first line the HTTP server tells of it for debugging only.
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", []),
        (b"GET\r\n\r\n", []),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ["info"]),
        (b"GET / HTTP/9.9.9\r\n\r\n", ["info"]),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", ["info"]),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", ["info"]),
    ],
)
async def test_what_is_no_http_is_a_line_in_the_log_and_no_incident(
    port: Port, caplog: pytest.LogCaptureFixture, garbage: bytes, told: list[str]
) -> None:
    with capture_logs() as logs:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(HOST, port.number)
            writer.write(garbage)
            assert b" 400 Bad Request\r\n" in await reader.read()
            writer.close()
            await writer.wait_closed()
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
    assert [line["log_level"] for line in logs] == told
    assert not any("exc_info" in line for line in logs)


async def test_a_bug_behind_the_port_is_an_error_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    async def bug(_: web.Request) -> web.Response:
        raise ZeroDivisionError

    port = HttpPort({"/": bug})
    number = await port.start(HOST, 0)
    try:
        async with aiohttp.ClientSession() as http, http.get(f"http://{HOST}:{number}/") as answer:
            assert answer.status == 500
    finally:
        await port.stop()
    [record] = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


async def test_a_taken_port_is_an_os_error(port: Port) -> None:
    side = SidePort(health=port.health, metrics=port.metrics)
    with pytest.raises(OSError, match="in use"):
        await side.start(HOST, port.number)
    await side.stop()


async def test_a_stopped_port_is_free_again(port: Port) -> None:
    await port.side.stop()
    with pytest.raises(ConnectionRefusedError):
        await port.ask("/health")

"""The HTTP port, spoken to over a socket: probes, metrics, images, and everything it must not give away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.domain.errors import StoreUnavailable
from server.health import Health
from server.metrics import CONTENT_TYPE, Metrics
from server.side_port import SidePort
from server.store.outputs import FilesystemOutputStore, is_public, output_key, reference_key
from tests.faults import Faults, faulty

HOST = "127.0.0.1"
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
class Port:
    """A running side port and what is behind it."""

    number: int
    side: SidePort
    health: Health
    metrics: Metrics
    outputs: FilesystemOutputStore
    output_faults: Faults

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


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    real = await FilesystemOutputStore.open(tmp_path / "outputs")
    outputs, faults = faulty(real, lambda: StoreUnavailable("asleep"))
    health, metrics = Health(), Metrics(app="pictures", version="1.2.3", role="api", models=["canvas"])
    side = SidePort(health=health, metrics=metrics)
    side.serve(outputs, is_public)
    number = await side.start(HOST, 0)
    yield Port(number, side, health, metrics, real, faults)
    await side.stop()
    await real.aclose()


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
    assert (answer.status, answer.json()) == (status, report)
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
    """The key of a stored image."""
    key = output_key("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 0, extension)
    await port.outputs.put(key, PICTURE, mime_type=mime_type)
    return key


@pytest.mark.parametrize(
    ("extension", "mime_type"), [("png", "image/png"), ("jpg", "image/jpeg"), ("webp", "image/webp")]
)
async def test_an_image_is_shown_and_cached_for_ever(port: Port, extension: str, mime_type: str) -> None:
    key = await kept(port, extension, mime_type)
    answer = await port.ask(f"/outputs/{key}")
    assert (answer.status, answer.body) == (200, PICTURE)
    assert answer.headers["content-type"] == mime_type
    assert answer.headers["content-length"] == str(len(PICTURE))
    assert answer.headers["content-disposition"] == "inline"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"] == f'"{key.split("/")[-1]}"'


async def test_the_head_of_an_image_has_no_body(port: Port) -> None:
    key = await kept(port)
    whole, head = await port.ask(f"/outputs/{key}"), await port.ask(f"/outputs/{key}", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    same = ("content-type", "content-length", "etag", "cache-control")
    assert [head.headers[name] for name in same] == [whole.headers[name] for name in same]


@pytest.mark.parametrize("form", ["{etag}", "W/{etag}", '"other", {etag}', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_a_cache_has_already_is_not_sent_again(port: Port, form: str, method: str) -> None:
    key = await kept(port)
    etag = (await port.ask(f"/outputs/{key}")).headers["etag"]
    answer = await port.ask(f"/outputs/{key}", method=method, If_None_Match=form.format(etag=etag))
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"] == etag
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("tag", ['"other"', 'W/"other"', "no tag at all", '""'])
async def test_what_a_cache_has_not_is_sent(port: Port, tag: str) -> None:
    key = await kept(port)
    answer = await port.ask(f"/outputs/{key}", If_None_Match=tag)
    assert (answer.status, answer.body) == (200, PICTURE)


async def test_a_removed_image_is_gone_for_caches_too(port: Port) -> None:
    key = output_key("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1, 0, "png")
    for headers in ({}, {"If_None_Match": f'"{key.split("/")[-1]}"'}):
        assert (await port.ask(f"/outputs/{key}", **headers)).status == 404


async def test_a_store_that_is_away_is_no_missing_image(port: Port) -> None:
    key = await kept(port)
    port.output_faults.away = True
    answer = await port.ask(f"/outputs/{key}")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert b"asleep" not in answer.body
    assert "immutable" not in answer.headers.get("cache-control", "")
    port.output_faults.wake()
    assert (await port.ask(f"/outputs/{key}")).status == 200


# --- what is not served ------------------------------------------------------------------------------


async def test_what_is_not_public_looks_like_nothing(port: Port, tmp_path: Path) -> None:
    """Callers' references, a worker's notes, and every way out of the store, however it is written."""
    reference = reference_key("0" * 64)
    await port.outputs.put(reference, SECRET, mime_type="image/png")
    notes = "01ARZ3NDEKTSV4RRFFQ69G5FAV/1/result.json"
    await port.outputs.put(notes, SECRET, mime_type="application/json")
    (tmp_path / "secret.png").write_bytes(SECRET)
    public = await kept(port)
    task, attempt, name = public.split("/")
    paths = [
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
        answer = await port.ask(f"/outputs/{path}")
        assert answer.status in (400, 404), path
        assert SECRET not in answer.body, path


@pytest.mark.parametrize("path", ["/outputs/../secret.png", "/../secret.png", "/outputs/..//../secret.png"])
async def test_a_path_that_leaves_outputs_finds_nothing(port: Port, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.png").write_bytes(SECRET)
    answer = await port.ask(path)
    assert answer.status in (400, 404)
    assert SECRET not in answer.body


async def test_a_guessed_name_is_not_found(port: Port) -> None:
    key = await kept(port)
    head, tail = key[:-6], key[-6:]
    other = "A" if tail[0] != "A" else "B"
    assert (await port.ask(f"/outputs/{head}{other}{tail[1:]}")).status == 404
    assert (await port.ask(f"/outputs/{key.swapcase()}")).status == 404


# --- start and stop ----------------------------------------------------------------------------------


async def test_a_port_without_outputs_serves_none(port: Port) -> None:
    """A worker's."""
    key = await kept(port)
    side = SidePort(health=port.health, metrics=port.metrics)
    worker = Port(await side.start(HOST, 0), side, port.health, port.metrics, port.outputs, Faults())
    try:
        assert (await worker.ask("/health")).status == 200
        assert (await worker.ask(f"/outputs/{key}")).status == 404
    finally:
        await side.stop()


async def test_a_taken_port_is_an_os_error(port: Port) -> None:
    side = SidePort(health=port.health, metrics=port.metrics)
    with pytest.raises(OSError, match="in use"):
        await side.start(HOST, port.number)
    await side.stop()


async def test_a_stopped_port_is_free_again(port: Port) -> None:
    await port.side.stop()
    with pytest.raises(ConnectionRefusedError):
        await port.ask("/health")

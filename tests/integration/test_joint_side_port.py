"""The side port of several processes: what it makes of their answers, and of those that give none."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http.client import IncompleteRead
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from server import joint_side_port
from server.health import Health
from server.joint_side_port import JointSidePort
from server.metrics import Metrics
from server.side_port import HttpPort, SidePort
from server.store.outputs import FilesystemOutputStore
from tests.side_port import Answer, fetch

HOST = "127.0.0.1"
KEY = "01ARZ3NDEKTSV4RRFFQ69G5FAV/1/0-x.png"


class Process:
    """What a process of several has at its side."""

    def __init__(self) -> None:
        self.health = Health()
        self.health.set(store=True, redis=True)
        self.metrics = Metrics(app="pictures", version="1", role="api", models=["canvas"])
        self.side = SidePort(health=self.health, metrics=self.metrics)


class Joint:
    """Two processes that listen, and the port before them."""

    def __init__(self) -> None:
        self.processes = {"1": Process(), "2": Process()}
        self.listening: dict[str, str] = {}
        self.port = JointSidePort(lambda: dict(self.listening), processes=2)
        self.number = 0

    async def ask(self, path: str) -> Answer:
        """GET the path."""
        return await fetch(f"http://{HOST}:{self.number}{path}")

    async def ready(self) -> tuple[int, Any]:
        """Status and report of /ready."""
        answer = await self.ask("/ready")
        return answer.status, answer.json()

    async def submitted(self) -> dict[str, float]:
        """Tasks that were submitted, by process."""
        return await self._values("imagegen_tasks_submitted_total", by="process")

    async def counted(self) -> dict[str, float]:
        """The processes by state."""
        return await self._values("imagegen_api_processes", by="state")

    async def _values(self, name: str, *, by: str) -> dict[str, float]:
        text = (await self.ask("/metrics")).body.decode()
        return {
            sample.labels[by]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        }


@pytest.fixture
async def joint() -> AsyncIterator[Joint]:
    made = Joint()
    async with AsyncExitStack() as stack:
        for name, process in made.processes.items():
            stack.push_async_callback(process.side.stop)
            made.listening[name] = f"http://{HOST}:{await process.side.start(HOST, 0)}"
        stack.push_async_callback(made.port.stop)
        made.number = await made.port.start(HOST, 0)
        yield made


@pytest.fixture
def silent(joint: Joint) -> Iterator[None]:
    """The second process hangs: connections to it are made, but nobody answers."""
    with socket.create_server((HOST, 0)) as hanging:
        joint.listening["2"] = "http://{}:{}".format(*hanging.getsockname())
        yield


@asynccontextmanager
async def stranger() -> AsyncIterator[str]:
    """The URL of a server that has nothing of what is asked for."""
    port = HttpPort({})
    try:
        yield f"http://{HOST}:{await port.start(HOST, 0)}"
    finally:
        await port.stop()


async def test_all_ready_is_ready(joint: Joint) -> None:
    report = {"status": "ready", "store": "up", "redis": "up", "draining": "no", "processes": "2 of 2"}
    assert await joint.ready() == (200, report)


async def test_calls_come_to_all_so_one_without_its_store_is_not_ready(joint: Joint) -> None:
    joint.processes["2"].health.set(store=False)
    status, report = await joint.ready()
    assert (status, report["status"], report["store"]) == (503, "not ready", "down")


@pytest.mark.parametrize("end", ["drains", "dies"])
async def test_one_that_takes_no_calls_does_not_count(joint: Joint, end: str) -> None:
    if end == "drains":
        joint.processes["1"].health.set(draining=True)
    else:
        del joint.listening["1"]
        assert await joint.counted() == {"listening": 1, "starting": 1}
    status, report = await joint.ready()
    assert (status, report["draining"], report["processes"]) == (200, "no", "1 of 2")


async def test_all_drain_before_one_of_them_does(joint: Joint) -> None:
    joint.port.draining = True
    status, report = await joint.ready()
    assert (status, report["status"], report["draining"]) == (503, "not ready", "yes")
    assert (await joint.ask("/health")).status == 200


async def test_before_any_listens_it_is_alive_and_not_ready(joint: Joint) -> None:
    joint.listening.clear()
    assert (await joint.ask("/health")).status == 200
    status, report = await joint.ready()
    assert (status, report["processes"]) == (503, "0 of 2")
    assert await joint.counted() == {"listening": 0, "starting": 2}
    assert (await joint.ask(f"/outputs/{KEY}")).status == 503


@pytest.mark.usefixtures("silent")
async def test_one_that_hangs_is_told(joint: Joint) -> None:
    alive = await joint.ask("/health")
    assert (alive.status, alive.json()) == (503, {"status": "silent", "processes": "2"})
    status, report = await joint.ready()
    assert (status, report["status"], report["processes"]) == (503, "not ready", "1 of 2")


@pytest.mark.usefixtures("silent")
async def test_one_that_hangs_does_not_hide_the_others_numbers(joint: Joint) -> None:
    assert await joint.submitted() == {"1": 0.0}


async def test_one_that_answers_something_else_is_as_one_that_hangs(joint: Joint) -> None:
    async with stranger() as base:
        joint.listening["2"] = base
        alive = await joint.ask("/health")
        assert (alive.status, alive.json()) == (503, {"status": "silent", "processes": "2"})
        status, report = await joint.ready()
        assert (status, report["processes"]) == (503, "1 of 2")
        assert await joint.submitted() == {"1": 0.0}


@pytest.mark.usefixtures("silent")
async def test_one_that_hangs_does_not_keep_the_images(
    joint: Joint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, asked = joint.listening["2"], list[str]()

    def silent_first(bases: Sequence[str]) -> str:
        asked.append(silent if silent in bases else bases[0])
        return asked[-1]

    monkeypatch.setattr(joint_side_port, "random", SimpleNamespace(choice=silent_first))
    monkeypatch.setattr(joint_side_port, "BEGIN_TIMEOUT_S", 1.0)
    outputs = await FilesystemOutputStore.open(tmp_path)
    await outputs.put(KEY, b"a picture", mime_type="image/png")
    joint.processes["1"].side.serve(outputs, lambda *_: 60.0)
    assert (await joint.ask(f"/outputs/{KEY}")).body == b"a picture"
    assert asked == [silent, joint.listening["1"]]
    await outputs.aclose()


async def test_metrics_are_those_of_each_process(joint: Joint) -> None:
    joint.processes["1"].metrics.tasks_submitted.labels("canvas").inc(3)
    joint.processes["2"].metrics.tasks_submitted.labels("canvas").inc(4)
    assert await joint.submitted() == {"1": 3.0, "2": 4.0}


async def test_each_metric_is_described_once(joint: Joint) -> None:
    text = (await joint.ask("/metrics")).body.decode()
    lines = [line for line in text.splitlines() if "imagegen_api_processes" not in line]
    alone = joint.processes["1"].metrics.expose().decode().splitlines()
    assert sorted(line for line in lines if line.startswith("#")) == sorted(
        line for line in alone if line.startswith("#")
    )
    assert sum(not line.startswith("#") for line in lines) == 2 * sum(
        not line.startswith("#") for line in alone
    )


async def test_half_an_image_does_not_look_like_a_whole_one(
    joint: Joint, caplog: pytest.LogCaptureFixture
) -> None:
    async def die_halfway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 10\r\n\r\nhalf ")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(die_halfway, HOST, 0) as dying:
        joint.listening = {"1": "http://{}:{}".format(*dying.sockets[0].getsockname())}
        with pytest.raises((IncompleteRead, ConnectionError)):
            await joint.ask(f"/outputs/{KEY}")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_who_breaks_off_a_download_is_no_fault_of_ours(
    joint: Joint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outputs = await FilesystemOutputStore.open(tmp_path)
    await outputs.put(KEY, bytes(64 << 20), mime_type="image/png")
    ended = asyncio.Event()

    class Watched(JointSidePort):
        async def _output(self, request: web.Request) -> web.StreamResponse:
            try:
                return await super()._output(request)
            finally:
                ended.set()

    for process in joint.processes.values():
        process.side.serve(outputs, lambda *_: 60.0)
    port = Watched(lambda: joint.listening, processes=2)
    try:
        with capture_logs() as logs:
            reader, writer = await asyncio.open_connection(HOST, await port.start(HOST, 0))
            writer.write(f"GET /outputs/{KEY} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
            await asyncio.wait_for(ended.wait(), 10)
    finally:
        await port.stop()
        await outputs.aclose()
    assert logs == []
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_images_come_while_one_process_is_there(joint: Joint, tmp_path: Path) -> None:
    outputs = await FilesystemOutputStore.open(tmp_path)
    await outputs.put(KEY, b"a picture", mime_type="image/png")
    for process in joint.processes.values():
        process.side.serve(outputs, lambda *_: 60.0)
    await joint.processes["1"].side.stop()  # it still counts as listening
    for _ in range(8):  # whichever is asked first
        assert (await joint.ask(f"/outputs/{KEY}")).body == b"a picture"
    await outputs.aclose()


async def test_images_come_from_one_that_returns_while_the_only_other_dies(
    joint: Joint, tmp_path: Path
) -> None:
    outputs = await FilesystemOutputStore.open(tmp_path)
    await outputs.put(KEY, b"a picture", mime_type="image/png")
    joint.processes["2"].side.serve(outputs, lambda *_: 60.0)
    returned = joint.listening.pop("2")

    async def die(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        joint.listening = {"2": returned}
        writer.transport.abort()

    async with await asyncio.start_server(die, HOST, 0) as dying:
        joint.listening = {"1": "http://{}:{}".format(*dying.sockets[0].getsockname())}
        assert (await joint.ask(f"/outputs/{KEY}")).body == b"a picture"
    await outputs.aclose()

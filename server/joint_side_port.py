"""The side port of several processes that are one instance: each is asked, and one answer made of theirs."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping

import aiohttp
import structlog
from aiohttp import web
from yarl import URL

from server.health import Health
from server.metrics import CONTENT_TYPE, ProcessesMetrics, exposed_together
from server.side_port import OUTPUT_ROUTE, HttpPort

ASK_TIMEOUT_S = 2.0
"""So long a process has to say how it is: less than Prometheus waits; a probe that waits less fails too."""
BEGIN_TIMEOUT_S = 5.0
"""So long it has to begin an image; then the next is asked."""
READ_TIMEOUT_S = 60.0
"""So long it has for each part of an image."""
_NOT_FORWARDED = {"connection", "date", "keep-alive", "server", "transfer-encoding"}

SidePorts = Callable[[], Mapping[str, str]]
"""The base URL of each process' own side port, by its name, as far as the process listens at the moment.

Who starts or is dead gets no calls, so it does not count.
"""


class JointSidePort(HttpPort):
    """What `SidePort` answers, for all together.

    Alive when every process that listens answers: one that never comes to listen may wait for its store, and
    only `/metrics` counts it. Ready when one that does not drain is, and no other such is
    not, as calls come to all of them. Images come from any of them.
    """

    def __init__(self, side_ports: SidePorts, *, processes: int) -> None:
        super().__init__(
            {
                "/health": self._alive,
                "/ready": self._ready,
                "/metrics": self._expose,
                OUTPUT_ROUTE: self._output,
            }
        )
        self._side_ports = side_ports
        self._processes = processes
        self._metrics = ProcessesMetrics()
        self.draining = False
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # no number of slow downloads shall keep a probe waiting
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=ASK_TIMEOUT_S, sock_read=READ_TIMEOUT_S),
            auto_decompress=False,
        )
        self._log = structlog.get_logger(__name__)

    async def stop(self) -> None:
        """Close the port and its connections, to both sides."""
        await super().stop()
        await self._session.close()

    async def _alive(self, _: web.Request) -> web.Response:
        silent = (await self._ask_all("/health"))[1]
        if silent:
            return web.json_response({"status": "silent", "processes": ", ".join(silent)}, status=503)
        return web.json_response({"status": "alive"})

    async def _ready(self, _: web.Request) -> web.Response:
        answers, silent = await self._ask_all("/ready")
        reports = [json.loads(answer) for answer in answers.values()]
        serving = [report for report in reports if report["draining"] == "no"]
        judged = serving or reports
        health = Health()
        health.set(
            store=bool(judged) and all(report["store"] == "up" for report in judged),
            redis=bool(judged) and all(report["redis"] == "up" for report in judged),
            draining=self.draining or bool(reports and not serving),
        )
        ready = health.ready and not silent
        report = health.report() | {"processes": f"{len(serving)} of {self._processes}"}
        return web.json_response(
            report | {"status": "ready" if ready else "not ready"}, status=200 if ready else 503
        )

    async def _expose(self, _: web.Request) -> web.Response:
        answers, silent = await self._ask_all("/metrics")
        if silent:
            self._log.warning("metrics are incomplete: not every process answers", silent=", ".join(silent))
        listening = len(self._side_ports())
        own = self._metrics.expose(listening=listening, starting=self._processes - listening)
        return web.Response(body=own + exposed_together(answers), headers={"Content-Type": CONTENT_TYPE})

    async def _output(self, request: web.Request) -> web.StreamResponse:
        """The answer of any process, passed on as it comes."""
        headers = {name: value for name, value in request.headers.items() if name.lower() == "if-none-match"}
        wanted = request.rel_url  # as routed: nothing in it can name another host
        asked: set[str] = set()
        # Looked at anew each time: while one was asked and died, another may have come back.
        while bases := [base for base in self._side_ports().values() if base not in asked]:
            base = random.choice(bases)
            asked.add(base)
            url = URL(f"{base}{wanted.raw_path}?{wanted.raw_query_string}", encoded=True)
            try:
                async with asyncio.timeout(BEGIN_TIMEOUT_S):
                    answer = await self._session.request(
                        request.method, url, headers=headers, allow_redirects=False
                    )
            except (aiohttp.ClientError, TimeoutError):
                continue
            async with answer:
                return await self._passed_on(request, answer)
        raise web.HTTPServiceUnavailable(
            text="No process answers; try again.\n", headers={"Retry-After": "2"}
        )

    async def _passed_on(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _NOT_FORWARDED]
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=dict(kept))
        try:
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            await response.write_eof()
        except ConnectionError:
            pass  # of writing, as reading has errors of aiohttp's own: who asked has gone
        except (aiohttp.ClientError, TimeoutError) as error:
            self._log.warning("a process broke off while it sent an image", error=str(error))
            if request.transport is not None:
                request.transport.abort()  # half an image must not look like a whole one
        return response

    async def _ask_all(self, path: str) -> tuple[dict[str, bytes], list[str]]:
        """What the processes that listen answer, by name, and who of them does not."""
        asked = self._side_ports()
        answers = dict(
            zip(asked, await asyncio.gather(*(self._ask(url + path) for url in asked.values())), strict=True)
        )
        still = self._side_ports()  # who has died meanwhile is not silent
        said = {name: answer for name, answer in answers.items() if answer is not None}
        return said, [name for name in answers if name in still and name not in said]

    async def _ask(self, url: str) -> bytes | None:
        """The answer, also that it is not ready; None when there is none that a side port would give."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S), self._session.get(url) as answer:
                return await answer.read() if answer.status in (200, 503) else None
        except (aiohttp.ClientError, TimeoutError):
            return None

"""The HTTP port beside gRPC: health and readiness for probes, metrics for Prometheus, images for people."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError

from server.domain.errors import StoreUnavailable
from server.health import Health
from server.metrics import CONTENT_TYPE, Metrics
from server.ports import OutputStore

OUTPUTS_PATH = "/outputs/"
OUTPUT_ROUTE = OUTPUTS_PATH + "{key:.+}"
_NOT_FOUND = "There is no such image.\n"
_AWAY = "The image store does not answer; try again.\n"
_AWAY_RETRY = {"Retry-After": "2"}

Admits = Callable[[str, str], float | None]
"""From a key and the link's signature ('' without one) to the seconds that the link works still; None if it
is no good link."""

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _is_incident(record: logging.LogRecord) -> bool:
    """Whether the HTTP server logs a bug. What only is no HTTP, of which every port scan sends some, is told
    in a line of our own."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    structlog.get_logger(__name__).info("what came is no HTTP request", error=type(error).__name__)
    return False


_http_log = logging.getLogger(f"{__name__}.http")
_http_log.addFilter(_is_incident)


class HttpPort:
    """A port of HTTP with routes that are read: path to what answers."""

    def __init__(self, routes: Mapping[str, Handler]) -> None:
        app = web.Application()
        for path, handler in routes.items():
            app.router.add_get(path, handler)
        self._runner = web.AppRunner(app, access_log=None, logger=_http_log, shutdown_timeout=2.0)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which is a free one for 0. OSError when it cannot be bound."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Close the port and its connections."""
        await self._runner.cleanup()


class SidePort(HttpPort):
    """/health (alive), /ready (new work may come), /metrics, /outputs/<key>."""

    def __init__(self, *, health: Health, metrics: Metrics, images: bool = False) -> None:
        """With `images` it will `serve` some, and asks for patience until then; else there are none."""
        super().__init__(
            {
                "/health": self._alive,
                "/ready": self._ready,
                "/metrics": self._expose,
                OUTPUT_ROUTE: self._output,
            }
        )
        self._health = health
        self._metrics = metrics
        self._images = images
        self._outputs: OutputStore | None = None
        self._admits: Admits | None = None

    def serve(self, outputs: OutputStore, admits: Admits) -> None:
        """From now on answer for images, as far as `admits` lets their links through."""
        self._outputs, self._admits = outputs, admits

    async def _alive(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def _ready(self, _: web.Request) -> web.Response:
        return web.json_response(self._health.report(), status=200 if self._health.ready else 503)

    async def _expose(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.expose(), headers={"Content-Type": CONTENT_TYPE})

    async def _output(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        if self._outputs is None or self._admits is None:
            if self._images:
                raise web.HTTPServiceUnavailable(text=_AWAY, headers=_AWAY_RETRY)
            raise web.HTTPNotFound(text=_NOT_FOUND)
        left_s = self._admits(key, request.query.get("signature", ""))
        if left_s is None:
            raise web.HTTPNotFound(text=_NOT_FOUND)
        if left_s <= 0:
            raise web.HTTPGone(text="This link has ended. Read the task again: it comes with a new one.\n")
        try:
            stored = await self._outputs.get(key)
        except StoreUnavailable as error:
            raise web.HTTPServiceUnavailable(text=_AWAY, headers=_AWAY_RETRY) from error
        if stored is None:
            raise web.HTTPNotFound(text=_NOT_FOUND)
        name = key.rsplit("/", 1)[-1]  # a key is written once: its name is its version
        etag = f'"{name}"'
        keep = f"public, max-age={int(left_s)}, immutable"  # no cache outlives the link
        if any(tag.value in (name, "*") for tag in request.if_none_match or ()):
            return web.Response(status=304, headers={"ETag": etag, "Cache-Control": keep})
        return web.Response(
            body=stored.data,
            content_type=stored.mime_type,
            headers={
                "Cache-Control": keep,
                "Content-Disposition": "inline",
                "ETag": etag,
                "X-Content-Type-Options": "nosniff",
            },
        )

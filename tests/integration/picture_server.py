"""A server of somebody else's pictures on the loopback, which counts who asks and behaves as told."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Self

from aiohttp import web

SIGNATURE = "X-Amz-Signature=0123456789abcdef"


class PictureServer:
    """An async context manager. `pages` is what lies under each name; other names are 404."""

    def __init__(self, **pages: bytes) -> None:
        self.pages = pages
        self.asked: Counter[str] = Counter()
        self.at_once = 0
        """The most requests that were being answered at one time."""
        self.open = asyncio.Event()
        """While cleared, nobody gets an answer."""
        self.open.set()
        self._answering = 0
        app = web.Application()
        app.router.add_get("/to/{name}", self._redirect)
        app.router.add_get("/{name}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    def link(self, name: str) -> str:
        """A link to the page, signed as object stores sign theirs."""
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/{name}?{SIGNATURE}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1_000).start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.open.set()
        await self._runner.cleanup()

    async def _redirect(self, request: web.Request) -> web.Response:
        raise web.HTTPFound(self.link(request.match_info["name"]))

    async def _answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.asked[name] += 1
        self._answering += 1
        self.at_once = max(self.at_once, self._answering)
        try:
            await self.open.wait()
        finally:
            self._answering -= 1
        if name not in self.pages:
            raise web.HTTPNotFound
        return web.Response(body=self.pages[name])

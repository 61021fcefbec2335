"""Volcengine Ark's image endpoint on the loopback: POST /api/v3/images/generations, streamed or not.

The wire format is the one of Ark's documentation. A call is billed when it is accepted, before any wait:
`billed` is what an account would be charged for, whatever the caller hears of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import secrets
import socket
import time
from collections import Counter, defaultdict, deque
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from aiohttp import web

from tests.upstreams import ark_answers
from tests.upstreams.ark_answers import Entry
from tests.upstreams.ark_images import Refused
from tests.upstreams.ark_rules import Order, accept, check_key
from tests.upstreams.faults import (
    CutAfterAccept,
    CutAfterBody,
    CutBeforeBody,
    CutMidResponse,
    Fault,
    Gateway,
    LinkFails,
    NeverAnswers,
    Refusal,
    StreamCut,
    Unreadable,
)
from tests.upstreams.results import PATH, Output, Outputs
from tests.upstreams.wire import (
    HOST,
    bound,
    broken_json,
    envelope,
    gateway_page,
    json_object,
    request_id,
    reset,
    send_half,
)
from tests.waiting import until

GENERATIONS = "/api/v3/images/generations"
_MAX_BODY_BYTES = 256 * 1024 * 1024
_BACKLOG = 4096


class ArkUpstream:
    """The server; an async context manager. Its port stays the same over `refuse` and `accept`."""

    def __init__(self, *, delay_s: float = 0.0, picture_s: float = 0.0, port: int = 0) -> None:
        self.delay_s = delay_s
        """Time between acceptance, which is billing, and the answer."""
        self.picture_s = picture_s
        """Time between a stream's beginning and its first event, and from there to each next one."""
        self.link_life_s = 86_400.0
        """How long the links of coming answers work."""
        self.links_at = ""
        """Scheme and host that coming links begin with; empty: this server's own, where they work."""
        self.billed: Counter[str] = Counter()
        """Accepted calls by prompt."""
        self.pictures: Counter[str] = Counter()
        """Made pictures by prompt: what an account is charged for. It goes on making what nobody hears of."""
        self.arrived: Counter[str] = Counter()
        """Requests whose body was read by prompt, refused ones included."""
        self.arrival_times: defaultdict[str, list[float]] = defaultdict(list)
        """When the head of each of them came, on the monotonic clock."""
        self.refusal_times: defaultdict[str, list[float]] = defaultdict(list)
        """When each scripted refusal of a prompt went out, on the same clock."""
        self.fetched: Counter[str] = Counter()
        """Downloads of result links by the prompt of their picture."""
        self.link_requests: Counter[str] = Counter()
        """Requests for result links, failed and held ones included."""
        self.event_times: defaultdict[str, list[float]] = defaultdict(list)
        """When each event of a prompt's streams went out, on the same clock."""
        self.last_body: dict[str, dict[str, Any]] = {}
        """The newest request body of each prompt, as it was sent."""
        self.keys_at_links = 0
        """Downloads that carried an Authorization header: the key went where it must not go."""
        self.reused_connections = 0
        """Calls that came over a connection that had carried a request before."""
        self._port = port
        self._scripts: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._always: Fault | None = None
        self._held: dict[str, asyncio.Event] = {}
        self._failing_links: dict[str, LinkFails] = {}
        self._held_links: dict[str, tuple[float, asyncio.Event]] = {}
        self._held_streams: dict[str, tuple[int, asyncio.Event]] = {}
        self._outputs = Outputs()
        self._connections: WeakSet[Any] = WeakSet()
        self._closing = asyncio.Event()
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_post(GENERATIONS, self._generate)
        app.router.add_get(PATH + "{name}", self._download, allow_head=False)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        self._place: socket.socket | None = None
        self._listener: web.SockSite | None = None

    @property
    def base_url(self) -> str:
        """What IMAGE_BASE_URL is set to."""
        return f"http://{HOST}:{self._port}"

    async def __aenter__(self) -> Self:
        # Bound and never listening: while calls are refused nothing else gets the port.
        self._place = bound(self._port)
        self._port = self._place.getsockname()[1]
        await self._runner.setup()
        await self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        await self._runner.cleanup()
        if self._place is not None:
            self._place.close()

    # --- what the next calls meet ------------------------------------------------------------------

    def script(self, prompt: str, *faults: Fault) -> None:
        """One fault for each coming call of this prompt, then normal again."""
        self._scripts[prompt].extend(faults)

    def always(self, fault: Fault | None) -> None:
        """The fault of every call without a script of its own; None for none."""
        self._always = fault

    def hold(self, prompt: str) -> None:
        """Accepted calls of this prompt wait with their answer until `release`."""
        self._held.setdefault(prompt, asyncio.Event())

    def release(self, prompt: str) -> None:
        """Let the held calls of this prompt go on."""
        if event := self._held.pop(prompt, None):
            event.set()

    def hold_stream(self, prompt: str, *, after: int) -> None:
        """Streams of this prompt give so many events and no more until `release_stream`."""
        self._held_streams.setdefault(prompt, (after, asyncio.Event()))

    def release_stream(self, prompt: str) -> None:
        """Let the held streams of this prompt go on."""
        if held := self._held_streams.pop(prompt, None):
            held[1].set()

    def hold_links(self, prompt: str, *, first: float = math.inf) -> None:
        """Downloads of this prompt's results, or the first so many of them, hang until `release_links`."""
        self._held_links.setdefault(prompt, (first, asyncio.Event()))

    def fail_links(self, prompt: str, fault: LinkFails) -> None:
        """Links to this prompt's results fail so, whatever else becomes of its calls."""
        self._failing_links[prompt] = fault

    def release_links(self, prompt: str) -> None:
        """Let the held downloads of this prompt go on."""
        if held := self._held_links.pop(prompt, None):
            held[1].set()

    async def refuse(self) -> None:
        """Close the listening socket: new connections are refused, open ones live on."""
        if self._listener is not None:
            await self._listener.stop()
            self._listener = None

    async def accept(self) -> None:
        """Listen again."""
        if self._listener is None:
            self._listener = web.SockSite(self._runner, bound(self._port), backlog=_BACKLOG)
            await self._listener.start()

    async def until_billed(self, prompt: str, count: int = 1, *, within_s: float = 20.0) -> None:
        """Wait until so many calls of the prompt were accepted. AssertionError when they were not."""
        await until(
            lambda: self.billed[prompt] >= count,
            within_s=within_s,
            what=f"{count} billed calls of {prompt!r}",
        )

    # --- the image endpoint ------------------------------------------------------------------------

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        came = time.monotonic()
        self.reused_connections += request.transport in self._connections
        self._connections.add(request.transport)
        if isinstance(self._always, CutBeforeBody) and not any(self._scripts.values()):
            return reset(request)
        body = await json_object(request)
        prompt = str(body.get("prompt") or "")
        fault = self._next_fault(prompt)
        if isinstance(fault, CutBeforeBody):
            return reset(request)
        self.arrived[prompt] += 1
        self.arrival_times[prompt].append(came)
        self.last_body[prompt] = body
        try:
            check_key(request.headers.get("Authorization", ""))
            order = accept(body)
        except Refused as refused:
            return envelope(refused.status, refused.code, refused.message, param=refused.param)
        match fault:
            case CutAfterBody():
                return reset(request)
            case Refusal(status, code, retry_after):
                self.refusal_times[prompt].append(time.monotonic())
                return envelope(status, code, "The request was refused.", retry_after=retry_after)
            case Gateway(status, billed=False):
                return gateway_page(status)
            case Unreadable(billed=False):
                return broken_json()
        self.billed[prompt] += 1
        if held := self._held.get(prompt):
            await self._held_by(held)
        await self._pause(self.delay_s)
        if isinstance(fault, NeverAnswers):
            await self._closing.wait()
        match fault:
            case CutAfterAccept() | NeverAnswers():
                return reset(request)
            case Gateway(status):
                return gateway_page(status)
            case Unreadable():
                return broken_json()
        found = ark_answers.entries(
            order, fault, lambda: self._draw(order, fault), self.links_at or self.base_url
        )
        if order.stream:
            return await self._stream(request, order, found, fault)
        self.pictures[prompt] += ark_answers.pictures(found)
        answer = json.dumps(ark_answers.document(order, found)).encode()
        if isinstance(fault, CutMidResponse):
            return await send_half(request, answer)
        return web.Response(body=answer, content_type="application/json", headers=request_id())

    async def _stream(
        self, request: web.Request, order: Order, found: list[Entry], fault: Fault | None
    ) -> web.StreamResponse:
        events = ark_answers.events(order, found, fault)
        self.pictures[order.prompt] += ark_answers.pictures(
            [event for event in events if "image_index" in event]
        )
        if isinstance(fault, CutMidResponse):
            fault = StreamCut(len(events) // 2)
        response = web.StreamResponse(headers=request_id())
        response.content_type = "text/event-stream"
        await response.prepare(request)
        for number, event in enumerate(events):
            if isinstance(fault, StreamCut) and number == fault.after:
                return response if fault.clean else reset(request)
            after, release = self._held_streams.get(order.prompt, (-1, self._closing))
            if number == after:
                await self._held_by(release)
            await self._pause(self.picture_s)
            await response.write(ark_answers.frame(event))
            self.event_times[order.prompt].append(time.monotonic())
        await response.write(ark_answers.DONE)
        return response

    def _draw(self, order: Order, fault: Fault | None) -> Output:
        output = self._outputs.add(order.prompt, png=order.png, life_s=self.link_life_s)
        fault = fault if isinstance(fault, LinkFails) else self._failing_links.get(order.prompt)
        if fault is not None:
            output.failing_status, output.failures_left = fault.status, fault.times
        return output

    def _next_fault(self, prompt: str) -> Fault | None:
        own = self._scripts.get(prompt)
        return own.popleft() if own else self._always

    async def _held_by(self, event: asyncio.Event) -> None:
        """Until the event, or the server's end."""
        waits = [asyncio.create_task(one.wait(), name="upstream-held") for one in (event, self._closing)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _pause(self, seconds: float) -> None:
        """So long, or until the server's end."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._closing.wait()

    # --- result links ------------------------------------------------------------------------------

    async def _download(self, request: web.Request) -> web.StreamResponse:
        output = self._outputs.get(request.match_info["name"])
        signature = request.query.get("X-Tos-Signature", "")
        if output is None or not secrets.compare_digest(signature, output.signature):
            return web.Response(status=403, text="<Error><Code>SignatureDoesNotMatch</Code></Error>")
        self.link_requests[output.prompt] += 1
        if "Authorization" in request.headers:
            self.keys_at_links += 1
        first, release = self._held_links.get(output.prompt, (0, self._closing))
        if self.link_requests[output.prompt] <= first:
            await self._held_by(release)
        if time.monotonic() > output.expires:
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        if output.failures_left > 0:
            output.failures_left -= 1
            return web.Response(status=output.failing_status, text="<Error><Code>Failed</Code></Error>")
        self.fetched[output.prompt] += 1
        return web.Response(body=output.draw(), content_type=output.mime_type)

"""Downloads of result links: public https alone unless allowed, bounded, and silent about the link."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from server.domain.errors import Reason
from server.providers.contract import ProviderError, Sent
from server.providers.fetch import OutputFetcher, is_public, public_socket

SECRET = "X-Tos-Signature=0123456789abcdef"  # noqa: S105
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A server that answers every GET so; a link to it."""
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/a%2Fb.png?{SECRET}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def anywhere() -> AsyncIterator[OutputFetcher]:
    """A fetcher that may read the loopback; a small limit."""
    fetcher = OutputFetcher(allow_private=True, max_bytes=1000)
    yield fetcher
    await fetcher.aclose()


@pytest.fixture
async def careful() -> AsyncIterator[OutputFetcher]:
    """A fetcher as production has it."""
    fetcher = OutputFetcher(allow_private=False)
    yield fetcher
    await fetcher.aclose()


async def failure(fetcher: OutputFetcher, link: str, *, timeout_s: float = 10.0) -> ProviderError:
    """The error of a download, which says nothing of the link."""
    with pytest.raises(ProviderError) as caught:
        await fetcher.fetch(link, timeout_s=timeout_s)
    error = caught.value
    assert (error.sent, error.reason) == (Sent.IN_DOUBT, Reason.OUTPUT_FETCH_FAILED)
    assert error.message
    assert "127.0.0.1" not in error.message
    assert SECRET not in error.message
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    return error


def giving(body: bytes = b"picture", status: int = 200, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(
            status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    return answer


# --- what comes --------------------------------------------------------------------------------------


async def test_the_bytes_come_as_they_are_and_the_link_is_asked_as_it_is(anywhere: OutputFetcher) -> None:
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response(body=b"\x1f\x8bnot unpacked", headers={"Content-Encoding": "gzip"})

    async with serving(answer) as link:
        assert await anywhere.fetch(link, timeout_s=10) == b"\x1f\x8bnot unpacked"
    [request] = asked
    assert request.raw_path == f"/a%2Fb.png?{SECRET}", "quoting it anew would break the signature"
    assert "Authorization" not in request.headers
    assert "Cookie" not in request.headers


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        *((status, True) for status in (500, 502, 503, 504, 429, 408)),
        *((status, False) for status in (400, 401, 403, 404, 410, 204, 206)),
    ],
)
async def test_a_status_says_whether_to_come_again(
    anywhere: OutputFetcher, status: int, retryable: bool
) -> None:
    async with serving(giving(b"", status)) as link:
        assert (await failure(anywhere, link)).retryable is retryable


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(anywhere: OutputFetcher, status: int) -> None:
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=status, headers={"Location": str(request.url)})

    async with serving(answer) as link:
        assert not (await failure(anywhere, link)).retryable
    assert asked == 1


@pytest.mark.parametrize("told", [True, False], ids=["length told", "length not told"])
async def test_an_output_that_is_too_large_is_not_read_on(anywhere: OutputFetcher, told: bool) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if told:
            response.content_length = 1001
        await response.prepare(request)
        for _ in range(1001):
            await response.write(b"x")
        return response

    async with serving(answer) as link:
        error = await failure(anywhere, link)
    assert not error.retryable
    assert "1,000 bytes" in error.message
    async with serving(giving(b"x" * 1000)) as link:
        assert len(await anywhere.fetch(link, timeout_s=10)) == 1000


async def test_a_body_that_breaks_off_is_no_body(anywhere: OutputFetcher) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"x" * 50)
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(answer) as link:
        assert (await failure(anywhere, link)).retryable


@pytest.mark.parametrize("begun", [True, False], ids=["in the body", "before an answer"])
async def test_a_server_that_hangs_ends_with_the_time(anywhere: OutputFetcher, begun: bool) -> None:
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if begun:
            await response.prepare(request)
            await response.write(b"x")
        await over.wait()
        return response

    async with serving(answer) as link:
        error = await failure(anywhere, link, timeout_s=0.2)
        over.set()
    assert error.retryable
    assert "0.2 s" in error.message


async def test_without_time_nothing_is_asked(anywhere: OutputFetcher) -> None:
    async with serving(giving()) as link:
        for timeout_s in (0.0, -1.0):
            assert (await failure(anywhere, link, timeout_s=timeout_s)).retryable


async def test_a_server_that_is_not_there_may_come_back(anywhere: OutputFetcher) -> None:
    async with serving(giving()) as link:
        pass
    assert (await failure(anywhere, link)).retryable


# --- where it may go ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "link",
    [
        "http://images.example/a.png",
        "ftp://images.example/a.png",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "images.example/a.png",
        "//images.example/a.png",
        "https:///a.png",
        "https://user:password@images.example/a.png",
        "https://[::1/a.png",
        "https://images.example:port/a.png",
        "",
    ],
)
async def test_what_is_no_plain_https_link_is_not_followed(careful: OutputFetcher, link: str) -> None:
    error = await failure(careful, link)
    assert not error.retryable
    assert "images.example" not in error.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
async def test_no_connection_is_made_to_an_address_inside(careful: OutputFetcher, host: str) -> None:
    """Checked on what the name leads to: a listener on the loopback sees nobody."""
    connected = asyncio.Event()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        writer.close()

    server = await asyncio.start_server(note, ["127.0.0.1"], 0)
    port = server.sockets[0].getsockname()[1]
    error = await failure(careful, f"https://{host}:{port}/a.png")
    assert not error.retryable
    assert "not public" in error.message
    assert not connected.is_set()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f000001"])
async def test_odd_spellings_of_addresses_lead_nowhere(careful: OutputFetcher, host: str) -> None:
    await failure(careful, f"https://{host}:9/a.png", timeout_s=5)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("64:ff9b::808:808", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff0e::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_an_address_is_public_or_not(address: str, public: bool) -> None:
    assert is_public(address) is public
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    resolved = (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 443))
    if public:
        public_socket(resolved).close()
    else:
        with pytest.raises(OSError, match="not public"):
            public_socket(resolved)

"""Downloads of result links: public https alone unless allowed, bounded, and silent about the link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from server.domain.errors import Reason
from server.providers.contract import ProviderError, Sent
from server.providers.fetch import OutputFetcher
from tests.integration.providers.web_server import Answer, answering

SECRET = "X-Tos-Signature=0123456789abcdef"  # noqa: S105


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A server that answers every request so; a link to it."""
    async with answering(answer) as base_url:
        yield f"{base_url}/a%2Fb.png?{SECRET}"


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
    ("status", "unlikely"),
    [
        *((status, False) for status in (500, 502, 503, 504, 429, 408)),
        *((status, True) for status in (400, 401, 403, 404, 410, 204, 206)),
    ],
)
async def test_a_status_says_how_often_to_come_again(
    anywhere: OutputFetcher, status: int, unlikely: bool
) -> None:
    """A fresh link may be refused until the vendor's storage knows of it, but hardly for an hour."""
    async with serving(giving(b"", status)) as link:
        error = await failure(anywhere, link)
    assert (error.retryable, error.unlikely) == (True, unlikely)


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


async def test_a_fetcher_as_production_has_it_stays_outside(careful: OutputFetcher) -> None:
    """The rules are those of every download: `tests/integration/test_downloads.py`."""
    async with serving(giving()) as link:
        for asked in (link, link.replace("http:", "https:")):
            assert not (await failure(careful, asked)).retryable

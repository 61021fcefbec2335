"""Where downloads may go: public https alone; the address asked is the address checked; so are redirects."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from server.downloads import MAX_REDIRECTS, Downloader, Reach, is_public, reach
from server.ports import DownloadFailed
from tests.waiting import until

NAME = "images.example"
NOWHERE = "3fff::1"
"""Public by the looks of it, and of a network for documentation: no packet gets there."""


@dataclass(slots=True)
class Listener:
    """A socket on every address of this machine that counts who connects."""

    port: int
    connections: int = 0


@pytest.fixture
async def inside() -> AsyncIterator[Listener]:
    """What no link may lead to."""
    both = socket.has_dualstack_ipv6()
    opened = socket.create_server(
        ("", 0), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
    )
    listener = Listener(opened.getsockname()[1])

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener.connections += 1
        writer.close()

    server = await asyncio.start_server(note, sock=opened)
    yield listener
    server.close()
    await server.wait_closed()


@dataclass(slots=True)
class Names:
    """A name service of the test's own: what each look-up of NAME gives, the last one for ever."""

    answers: list[str] = field(default_factory=list)
    asked: int = 0


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Looks NAME up in the test; everything else goes to the system."""
    real: Callable[..., Any] = socket.getaddrinfo
    service = Names()

    def look_up(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != NAME:
            return real(host, port, *args, **options)
        answer = service.answers[min(service.asked, len(service.answers) - 1)]
        service.asked += 1
        family = socket.AF_INET6 if ":" in answer else socket.AF_INET
        place = (answer, port, 0, 0) if family is socket.AF_INET6 else (answer, port)
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return service


@asynccontextmanager
async def downloading(where: Reach) -> AsyncIterator[Downloader]:
    downloader = Downloader(where, max_bytes=1000)
    try:
        yield downloader
    finally:
        await downloader.aclose()


async def refused(downloader: Downloader, link: str) -> DownloadFailed:
    """The refusal of a link, for good and without a word of it."""
    with pytest.raises(DownloadFailed) as caught:
        await downloader.download(link, timeout_s=5)
    error = caught.value
    assert not error.retryable
    assert "127" not in str(error)
    assert NAME not in str(error)
    assert error.__suppress_context__ or error.__context__ is None
    return error


INSIDE = {
    "loopback": "127.0.0.1",
    "another loopback": "127.0.0.53",
    "a name of the loopback": "localhost",
    "this host": "0.0.0.0",  # noqa: S104
    "short": "127.1",
    "decimal": "2130706433",
    "hexadecimal": "0x7f000001",
    "hexadecimal parts": "0x7f.0.0.0x1",
    "octal": "017700000001",
    "octal parts": "0177.0.0.1",
    "full-width digits": "１２７.0.0.1",
    "link-local: a cloud's metadata": "169.254.169.254",
    "the same in decimal": "2852039166",
    "private 10": "10.0.0.1",
    "private 172": "172.16.0.1",
    "private 192": "192.168.1.1",
    "carrier-grade NAT": "100.64.0.1",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
    "IPv6 loopback": "[::1]",
    "IPv6 this host": "[::]",
    "IPv6 link-local": "[fe80::1]",
    "IPv6 unique local": "[fd00::1]",
    "IPv6 site-local": "[fec0::1]",
    "IPv6 multicast": "[ff02::1]",
    "IPv4-mapped": "[::ffff:127.0.0.1]",
    "IPv4-mapped, in hexadecimal": "[::ffff:7f00:1]",
    "IPv4-compatible": "[::127.0.0.1]",
    "NAT64": "[64:ff9b::7f00:1]",
    "NAT64 of a network's own": "[64:ff9b:1::7f00:1]",
    "6to4": "[2002:7f00:1::]",
    "Teredo": "[2001:0:7f00:1::]",
}


@pytest.mark.parametrize("host", INSIDE.values(), ids=INSIDE)
async def test_a_link_that_leads_inside_is_refused_and_nothing_fetched(inside: Listener, host: str) -> None:
    async with downloading(reach(allow_private=False)) as careful:
        error = await refused(careful, f"https://{host}:{inside.port}/a.png")
    assert re.search("not public|not one of the form", error.what), (
        "numbers that are no plain address are no host"
    )
    assert inside.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.53"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_where_it_is_allowed_the_same_links_are_followed(
    inside: Listener, scheme: str, host: str
) -> None:
    """OUTPUT_FETCH_ALLOW_PRIVATE; and the proof that the listener would have seen the others."""
    async with downloading(reach(allow_private=True)) as anywhere:
        with pytest.raises(DownloadFailed, match=r"broke off|could not be reached"):  # it hangs up at once
            await anywhere.download(f"{scheme}://{host}:{inside.port}/a.png", timeout_s=5)
    assert inside.connections > 0


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd00::1"]
)
async def test_a_name_that_leads_inside_is_refused_and_nothing_fetched(
    inside: Listener, names: Names, address: str
) -> None:
    names.answers = [address]
    async with downloading(reach(allow_private=False)) as careful:
        error = await refused(careful, f"https://{NAME}:{inside.port}/a.png")
    assert "not public" in error.what
    assert (names.asked, inside.connections) == (1, 0)


async def test_a_name_that_changes_its_mind_gets_nothing(inside: Listener, names: Names) -> None:
    """Rebinding: public when it is looked at, inside when it is looked at again."""
    names.answers = [NOWHERE, "127.0.0.1"]
    link = f"https://{NAME}:{inside.port}/a.png"
    async with downloading(reach(allow_private=False)) as careful:
        with pytest.raises(DownloadFailed):
            await careful.download(link, timeout_s=0.5)
        assert names.asked == 1, "the address that was checked is the one that was tried"
    async with downloading(reach(allow_private=False)) as careful:
        assert "not public" in (await refused(careful, link)).what
    assert (names.asked, inside.connections) == (2, 0)


@pytest.mark.parametrize(
    "link",
    [
        "http://images.example:{port}/a.png",
        "ftp://images.example:{port}/a.png",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "images.example/a.png",
        "//images.example/a.png",
        "https:///a.png",
        "https://user:password@localhost:{port}/a.png",
        "https://images.example@localhost:{port}/a.png",
        "https://[::1/a.png",
        "https://images.example:port/a.png",
        "https://images.example\\@localhost:{port}/a.png",
        "",
    ],
)
async def test_what_is_no_plain_https_link_is_refused_and_nothing_fetched(
    inside: Listener, names: Names, link: str
) -> None:
    names.answers = ["127.0.0.1"]
    async with downloading(reach(allow_private=False)) as careful:
        await refused(careful, link.format(port=inside.port))
    assert inside.connections == 0


async def test_no_proxy_is_asked(inside: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would connect wherever a link leads."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        for spelling in (name, name.lower()):
            monkeypatch.setenv(spelling, f"http://127.0.0.1:{inside.port}")
    async with downloading(reach(allow_private=False)) as careful:
        await refused(careful, "https://127.0.0.1/a.png")
    assert inside.connections == 0


async def test_a_name_server_that_hangs_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, hanging = threading.Event(), threading.Semaphore(0)

    def hang(*_: Any, **__: Any) -> Any:
        hanging.release()
        answered.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    async with downloading(reach(allow_private=False)) as careful:
        links = [f"https://h{n}.{NAME}/a.png" for n in range(50)]
        downloads = [asyncio.create_task(careful.download(link, timeout_s=3)) for link in links]
        try:
            for _ in range(6):  # as many as a small machine's loop has threads
                await until(lambda: hanging.acquire(blocking=False), within_s=2, what="a look-up")
            async with asyncio.timeout(2):
                assert await asyncio.to_thread(lambda: "done") == "done"
            for download in downloads:
                with pytest.raises(DownloadFailed):
                    await download
        finally:
            answered.set()


# --- redirects -----------------------------------------------------------------------------------------

HERE = Reach(schemes=("http",), admits=lambda address: address == "127.0.0.1")
"""As if 127.0.0.1 were the Internet, and everything else inside."""


@asynccontextmanager
async def redirecting(*hops: str, status: int = 302) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A server whose page n sends on to `hops[n]`, and whose page behind the last hop is a picture.

    Gives the link to page 0, and the requests that came. `{self}` in a hop is the server's address.
    """
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        page = int(request.match_info["page"])
        if page == len(hops):
            return web.Response(body=b"picture")
        to = hops[page].replace("{self}", address)
        return web.Response(status=status, headers={"Location": to, "Set-Cookie": "a=b"})

    app = web.Application()
    app.router.add_get("/{page}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield f"{address}/0", asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_as_it_is_and_brings_nothing_along(status: int) -> None:
    async with (
        redirecting("{self}/1?X-Sign=a%2Fb", "2", status=status) as (link, asked),
        downloading(HERE) as downloader,
    ):
        assert await downloader.download(link, timeout_s=5) == b"picture"
    assert [request.raw_path for request in asked] == ["/0", "/1?X-Sign=a%2Fb", "/2"]
    for request in asked:
        assert not {"Cookie", "Authorization", "Referer"} & set(request.headers)


@pytest.mark.parametrize("hops", [MAX_REDIRECTS, MAX_REDIRECTS + 1])
async def test_redirects_come_to_an_end(hops: int) -> None:
    pages = [f"{{self}}/{n}" for n in range(1, hops + 1)]
    async with redirecting(*pages) as (link, asked), downloading(HERE) as downloader:
        if hops <= MAX_REDIRECTS:
            assert await downloader.download(link, timeout_s=5) == b"picture"
        else:
            assert "redirected more than" in (await refused(downloader, link)).what
    assert len(asked) == 1 + MAX_REDIRECTS


@pytest.mark.parametrize(
    "hop",
    [
        "http://127.0.0.2:{port}/",
        "http://2130706434:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.2]:{port}/",
        f"http://{NAME}:{{port}}/",
        "https://127.0.0.1:{port}/",
        "http://user@127.0.0.1:{port}/",
        "ftp://127.0.0.1:{port}/",
        "file:///etc/passwd",
        "http://[::1",
        "//[]@/",
    ],
)
async def test_each_redirect_is_checked_and_nothing_fetched(inside: Listener, names: Names, hop: str) -> None:
    names.answers = ["127.0.0.2"]
    to = hop.replace("{port}", str(inside.port))
    async with redirecting("{self}/1", to) as (link, asked), downloading(HERE) as downloader:
        await refused(downloader, link)
    assert len(asked) == 2
    assert inside.connections == 0


async def test_all_hops_share_one_time() -> None:
    over = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with redirecting(f"http://127.0.0.1:{port}/") as (link, _), downloading(HERE) as downloader:
        with pytest.raises(DownloadFailed, match=r"0\.3 s") as caught:
            await downloader.download(link, timeout_s=0.3)
    assert caught.value.retryable
    over.set()
    server.close()
    with contextlib.suppress(ConnectionError):
        await server.wait_closed()


# --- addresses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "fe80::1%eth0",
        "4000::1",
        "2001:db8::1",
        "3fff::1",
        "198.18.0.1",
        "240.0.0.1",
        "192.0.0.192",
        "64:ff9b::c000:c0",
    ],
)
def test_no_other_address_is_public(address: str) -> None:
    assert not is_public(address)

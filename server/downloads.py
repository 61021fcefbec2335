"""Downloads from links that others gave us: vendors' results, callers' reference images.

A link is somebody's word. Whatever it says, nothing but public https addresses are asked (unless the
deployment allows others), and the address asked is the address checked: a name is looked up once, and each
socket is made for one address of the answer. A redirect is followed a few times, each hop under the same
rules. No key, cookie or proxy is used. Links may be signed and must not be shown: they stand in no message,
and no error is chained to one that holds them.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct
from yarl import URL

from server.ports import DownloadFailed

CONNECT_S = 5.0
MAX_REDIRECTS = 3
LOOK_UPS_AT_ONCE = 16
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRYABLE_4XX = frozenset({408, 425, 429})
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_SPECIAL = (IPv4Network("192.0.0.0/24"), IPv6Network("3fff::/20"))
"""In IANA's registries of special addresses, but not, or not whole, in those of this Python."""


class Reach(Struct, frozen=True, kw_only=True):
    """Where downloads may go: the schemes of links, and which numeric addresses are connected to."""

    schemes: tuple[str, ...]
    admits: Callable[[str], bool]


def reach(*, allow_private: bool) -> Reach:
    """Public https alone, or http and every address as well."""
    if allow_private:
        return Reach(schemes=("https", "http"), admits=lambda _: True)
    return Reach(schemes=("https",), admits=is_public)


class Downloader:
    """`server.ports.Downloads` over one HTTP client, opened at the first download."""

    def __init__(self, reach: Reach, *, max_bytes: int) -> None:
        self._reach = reach
        self._max_bytes = max_bytes
        self._session: aiohttp.ClientSession | None = None
        self._names = _Names()

    def check(self, link: str) -> None:
        """See Downloads."""
        self._checked(link)

    async def download(self, link: str, *, timeout_s: float) -> bytes:
        """See Downloads; redirects count against the same `timeout_s`."""
        if timeout_s <= 0:
            raise DownloadFailed("had no time left to be read", retryable=True)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._follow(self._checked(link), connect_s=min(CONNECT_S, timeout_s))
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _NotAdmitted):
                raise DownloadFailed("leads to an address that is not public", retryable=False) from None
            raise _unreachable() from None
        except aiohttp.ConnectionTimeoutError:
            raise _unreachable() from None
        except TimeoutError:
            raise DownloadFailed(f"gave no whole answer within {timeout_s:.3g} s", retryable=True) from None
        except (aiohttp.InvalidURL, ValueError):
            raise self._unusable() from None
        except (aiohttp.ClientError, OSError):
            raise DownloadFailed("leads to a server whose connection broke off", retryable=True) from None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        await self._names.close()

    async def _follow(self, url: URL, *, connect_s: float) -> bytes:
        for _ in range(1 + MAX_REDIRECTS):
            timeout = aiohttp.ClientTimeout(total=None, connect=connect_s)
            async with self._opened().get(url, timeout=timeout, allow_redirects=False) as response:
                if response.status in _REDIRECTS:
                    url = self._next_hop(url, response)
                    continue
                if response.status != 200:
                    retryable = response.status >= 500 or response.status in _RETRYABLE_4XX
                    what = f"was answered with HTTP {response.status}"
                    raise DownloadFailed(what, retryable=retryable, refused=not retryable)
                data = await read_at_most(response, self._max_bytes)
            if data is None:
                raise DownloadFailed(f"leads to more than {self._max_bytes:,} bytes", retryable=False)
            return data
        raise DownloadFailed(f"is redirected more than {MAX_REDIRECTS} times", retryable=False)

    def _next_hop(self, url: URL, response: aiohttp.ClientResponse) -> URL:
        to = response.headers.get("Location", "")
        try:
            return self._checked(str(url.join(URL(to, encoded=True))))
        except (ValueError, IndexError, DownloadFailed):
            raise DownloadFailed("is redirected to what may not be followed", retryable=False) from None

    def _checked(self, link: str) -> URL:
        try:
            url = URL(link, encoded=True)  # quoting it anew would break its signature
            host, user = url.host, url.user
        except (ValueError, IndexError):  # the latter for `//[]@`, of which yarl takes no care
            raise self._unusable() from None
        if url.scheme not in self._reach.schemes or not host or user is not None:
            raise self._unusable()
        return url

    def _unusable(self) -> DownloadFailed:
        schemes = " or ".join(f"{scheme}://" for scheme in self._reach.schemes)
        return DownloadFailed(f"is not one of the form {schemes}host/…, without a user name", retryable=False)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # who downloads bounds how much at once
                    resolver=self._names,
                    socket_factory=self._socket,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,  # a small body must not become a large one
                trust_env=False,  # a proxy would look names up anew, and connect where it likes
            )
        return self._session

    def _socket(self, address: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, place = address
        if not self._reach.admits(str(place[0])):
            raise _NotAdmitted
        return socket.socket(family=family, type=kind, proto=protocol)


class _Names(AbstractResolver):
    """Looks names up in threads of its own: a slow name server must not stop what else runs off the loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOK_UPS_AT_ONCE, thread_name_prefix="names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See AbstractResolver. Raises OSError."""
        flags = socket.AI_ADDRCONFIG
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, flags)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(place[0]),
                port=int(place[1]),
                family=answer_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for answer_family, _, protocol, _, place in found
        ]

    async def close(self) -> None:
        """See AbstractResolver."""
        self._threads.shutdown(wait=False)


def _unreachable() -> DownloadFailed:
    return DownloadFailed("leads to a server that could not be reached", retryable=True)


class _NotAdmitted(OSError):
    """A name of a link led to an address that may not be connected to."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "the address is not public")


def is_public(address: str) -> bool:
    """Whether the numeric address is one of the Internet's; for IPv4 within IPv6 the inner one decides."""
    ip: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(ip, IPv6Address):
        inner = IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in _NAT64 else ip.ipv4_mapped or ip.sixtofour
        if inner is None:
            return ip in _GLOBAL_UNICAST and ip.is_global and ip not in _SPECIAL[1]
        ip = inner
    return ip.is_global and not ip.is_multicast and ip not in _SPECIAL[0]


async def read_at_most(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    """The body; None as soon as it is known to be longer than `most` bytes."""
    if (response.content_length or 0) > most:
        return None
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > most:
            return None
    return bytes(body)

"""Downloads what a vendor's result links point at, once a receipt of the links is stored.

A link is the vendor's word: whatever it says, nothing but public https addresses are asked (unless the
deployment allows others), no redirect is followed, and no key is sent along. Links are signed and must
not be shown: they stand in no message, and no error is chained to one that holds them.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

import aiohttp
from yarl import URL

from server.domain.errors import Reason
from server.providers.contract import ProviderError, Sent

MAX_OUTPUT_BYTES = 40 * 1024 * 1024
CONNECT_S = 5.0
_NAT64 = IPv6Network("64:ff9b::/96")
_RETRYABLE_4XX = frozenset({408, 425, 429})


class OutputFetcher:
    """One HTTP client for result links; opened at the first download."""

    def __init__(self, *, allow_private: bool, max_bytes: int = MAX_OUTPUT_BYTES) -> None:
        self._allow_private = allow_private
        self._max_bytes = max_bytes
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, link: str, *, timeout_s: float) -> bytes:
        """The bytes behind the link, within `timeout_s`.

        Raises ProviderError OUTPUT_FETCH_FAILED, which is retryable where a later try may succeed. It is in
        doubt, never more: what the link points at has been bought.
        """
        if timeout_s <= 0:
            raise _failed("There was no time left to fetch a made image", retryable=True)
        url = self._checked(link)
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(CONNECT_S, timeout_s))
        try:
            async with self._opened().get(url, timeout=timeout, allow_redirects=False) as response:
                if response.status != 200:
                    retryable = response.status >= 500 or response.status in _RETRYABLE_4XX
                    raise _failed(
                        f"The vendor's storage answered HTTP {response.status} for a made image",
                        retryable=retryable,
                    )
                data = await read_at_most(response, self._max_bytes)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _NotPublic):
                raise _failed("A made image lies at an address that is not public", retryable=False) from None
            raise _failed("The vendor's storage could not be reached for a made image") from None
        except TimeoutError:
            raise _failed(f"A made image did not arrive within {timeout_s:.3g} s") from None
        except (aiohttp.InvalidURL, ValueError):
            raise _unusable_link() from None
        except (aiohttp.ClientError, OSError):
            raise _failed("The connection broke while a made image was fetched") from None
        if data is None:
            raise _failed(f"A made image has more than {self._max_bytes:,} bytes", retryable=False)
        return data

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _checked(self, link: str) -> URL:
        try:
            url = URL(link, encoded=True)  # quoting it anew would break its signature
            host, user = url.host, url.user
        except ValueError:
            raise _unusable_link() from None
        schemes = ("https", "http") if self._allow_private else ("https",)
        if url.scheme not in schemes or not host or user is not None:
            raise _unusable_link()
        return url

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,  # the worker's slots bound it
                socket_factory=None if self._allow_private else public_socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,  # a small body must not become a large one
                trust_env=False,
            )
        return self._session


class _NotPublic(OSError):
    """A name of a link led to an address inside."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "the address is not public")


def public_socket(address: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
    """A socket for this resolved address. OSError where it is not public: nothing is connected to then."""
    family, kind, protocol, _, place = address
    if not is_public(str(place[0])):
        raise _NotPublic
    return socket.socket(family=family, type=kind, proto=protocol)


def is_public(address: str) -> bool:
    """Whether the numeric address is one of the Internet's; for IPv4 within IPv6 the inner one decides."""
    ip: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(ip, IPv6Address):
        inner = IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in _NAT64 else ip.ipv4_mapped or ip.sixtofour
        ip = ip if inner is None else inner
    return ip.is_global and not ip.is_multicast


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


def _unusable_link() -> ProviderError:
    return _failed("The vendor's link to a made image is not one that may be followed", retryable=False)


def _failed(what: str, *, retryable: bool = True) -> ProviderError:
    advice = "it is paid for and will be fetched again" if retryable else "fetching it again would not help"
    return ProviderError(
        f"{what}; {advice}.", sent=Sent.IN_DOUBT, reason=Reason.OUTPUT_FETCH_FAILED, retryable=retryable
    )

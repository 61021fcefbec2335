"""Which URLs settings take. What is wrong with one is told without it: it may hold a password."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, urlsplit

_QUOTING = "; in a password write % as %25, / as %2F, # as %23, ? as %3F and @ as %40"


def http(url: str) -> str:
    """The URL, if it is one of a web server. Raises ValueError."""
    return _checked(url, {"https": _one_host, "http": _one_host}, "https://host or http://host")


def redis(url: str) -> str:
    """The URL, if it is one of a Redis. Raises ValueError."""
    known = {"redis": _one_database, "rediss": _one_database, "unix": _anything}
    return _checked(url, known, "redis:// or rediss:// or unix://" + _QUOTING)


def store(url: str) -> str:
    """The URL, if it is one of a task store. Raises ValueError."""
    known = dict.fromkeys(("mongodb", "mongodb+srv", "sqlite"), _anything)
    return _checked(url, known, "mongodb:// or mongodb+srv:// or sqlite://")


def output(url: str) -> str:
    """The URL, if it is one of an output store. Raises ValueError."""
    known = dict.fromkeys(("file", "mongodb", "mongodb+srv", "s3"), _anything)
    return _checked(url, known, "file:// or mongodb:// or mongodb+srv:// or s3://")


def _checked(url: str, known: Mapping[str, Callable[[SplitResult], bool]], expected: str) -> str:
    scheme, separator, _ = url.partition("://")
    try:
        right = not url or (bool(separator) and scheme in known and known[scheme](urlsplit(url)))
    except ValueError:  # its text may repeat the URL
        right = False
    if not right:
        raise ValueError(f"expected a URL that begins with {expected}")
    return url


def _anything(_: SplitResult) -> bool:
    return True


def _one_host(parts: SplitResult) -> bool:
    """ValueError for a port that is none."""
    return bool(parts.hostname) and parts.port != 0


def _one_database(parts: SplitResult) -> bool:
    """Without a host it is this machine's. A password that breaks the URL off leaves its @ further behind."""
    host = not parts.netloc or "@" in parts.netloc or _one_host(parts)
    return host and parts.port != 0 and "@" not in parts.path + parts.query + parts.fragment

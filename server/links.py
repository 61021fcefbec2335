"""Links to stored images: signed with the time until which they work, minted whenever an answer is made."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable

from msgspec import Struct

ROUND_UP_S = 60
"""Links end on whole minutes: who reads a task twice in a moment gets the same link, and caches work."""


class Link(Struct, frozen=True, kw_only=True):
    """Where an image can be fetched, and until when (milliseconds since the Unix epoch)."""

    url: str
    expire_time_ms: int


class Links:
    """Mints and judges links; all processes that share `secret` understand each other's."""

    def __init__(self, *, base_url: str, secret: bytes, lifetime_s: int, now_ms: Callable[[], int]) -> None:
        """`base_url` ends in a slash. A link works for `lifetime_s`, and up to a minute more."""
        self._base_url = base_url
        self._secret = secret
        self._lifetime_s = lifetime_s
        self._now_ms = now_ms

    def mint(self, key: str) -> Link:
        """A link to what the output store keeps under the key."""
        end_s = -(-(self._now_ms() + self._lifetime_s * 1000) // (ROUND_UP_S * 1000)) * ROUND_UP_S
        # One parameter without `&`, so that a link can be pasted into a shell.
        url = f"{self._base_url}{key}?signature={end_s}.{self._sign(key, str(end_s))}"
        return Link(url=url, expire_time_ms=end_s * 1000)

    def seconds_left(self, key: str, signature: str) -> float | None:
        """How long a link with this signature works still; None if it is not one of ours."""
        end_s, _, sign = signature.partition(".")
        if not hmac.compare_digest(sign.encode(), self._sign(key, end_s).encode()):
            return None
        return (int(end_s) * 1000 - self._now_ms()) / 1000

    def _sign(self, key: str, end_s: str) -> str:
        digest = hmac.digest(self._secret, f"{end_s} {key}".encode(), hashlib.sha256)
        return urlsafe_b64encode(digest).decode().rstrip("=")

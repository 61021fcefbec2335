"""Which links to stored outputs work: our own until their end, and names that were given out before."""

from __future__ import annotations

import re
import secrets

from server.domain.errors import StoreUnavailable
from server.links import Links
from server.ports import OutputStore
from server.store.outputs import is_public

LINK_SECRET = "links/secret"  # noqa: S105 - a name
FOR_EVER_S = 365 * 24 * 3600.0
"""How long what has no end may be cached."""
_OPEN = re.compile(r".+/[0-9]+-[A-Za-z0-9_-]{22}\.[a-z0-9]+")


async def link_secret(outputs: OutputStore) -> bytes:
    """The 32 bytes that every process on these outputs signs links with: the first to ask makes them.

    What is kept here is what links lead to, so both are lost, and guarded, together. Raises StoreUnavailable.
    """
    await outputs.put(LINK_SECRET, secrets.token_bytes(32), mime_type="application/octet-stream")
    kept = await outputs.get(LINK_SECRET)
    if kept is None:
        raise StoreUnavailable("The output store lost what was just written to it.", retry_after_s=1.0)
    return kept.data


def is_open(key: str) -> bool:
    """Whether the key is a good link by itself: names of 128 bits were given out as links without an end."""
    return is_public(key) and _OPEN.fullmatch(key) is not None


def seconds_left(links: Links, key: str, signature: str) -> float | None:
    """`server.side_port.Admits`: how long a link to the key works still; None if it is no good link."""
    if not is_public(key):
        return None
    return FOR_EVER_S if is_open(key) and not signature else links.seconds_left(key, signature)

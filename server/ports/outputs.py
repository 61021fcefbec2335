"""Where finished images are kept."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class StoredObject(Struct, frozen=True, kw_only=True):
    """Bytes with their media type."""

    data: bytes
    mime_type: str


class OutputStore(Protocol):
    """Bytes under keys that are written once. Raises StoreUnavailable when it is away."""

    async def put(self, key: str, data: bytes, *, mime_type: str) -> None:
        """Keep the bytes; durable when it returns. A key that exists already is left as it is."""
        ...

    async def get(self, key: str) -> StoredObject | None:
        """The bytes under the key, or None."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...

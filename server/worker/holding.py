"""Holding on while a store is away: what was made or decided is repeated until it is kept, never dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from server.domain.errors import StoreUnavailable

T = TypeVar("T")
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)

_log = structlog.get_logger(__name__)


async def until_kept(operation: Callable[[], Awaitable[T]]) -> T:
    """Repeat the operation until the store answers."""
    tries = 0
    while True:
        try:
            return await operation()
        except StoreUnavailable as error:
            pause = RETRY_S[min(tries, len(RETRY_S) - 1)]
            tries += 1
            _log.warning("the store is away; holding on", error=str(error), retry_s=pause)
            await asyncio.sleep(pause)

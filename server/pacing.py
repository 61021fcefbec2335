"""Pacing: what comes now and then goes at once, what comes in numbers goes together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

COMPANY = 8
"""So many items may each go at once within one gathering time; more than that are a load."""


class Pace:
    """Spaces out what costs as much for one item as for many, but only under load.

    Items that come now and then leave at once. When more than `COMPANY` came within `gather_s`, the next
    leave together, `gather_s` after those before them, or as soon as they are as many as travel together:
    `full`.
    """

    def __init__(self, gather_s: float, *, full: int) -> None:
        self._gather_s = gather_s
        self._full = full
        self._since = 0.0
        """When the present count began."""
        self._lately = 0
        self._left = 0.0
        """When the last ones left."""

    async def turn(self, waiting: Callable[[], int]) -> None:
        """Return when what is `waiting` (its number is asked for) shall leave."""
        now = asyncio.get_running_loop().time
        if now() - self._since >= self._gather_s:
            self._since, self._lately = now(), 0
        self._lately += waiting()
        if self._lately > COMPANY and waiting() < self._full:
            pause = self._left + self._gather_s - now()
            if pause > 0:
                await asyncio.sleep(pause)
            self._since, self._lately = now(), waiting()
        self._left = now()

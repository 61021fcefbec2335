"""Pacing: what comes now and then goes at once, what keeps coming in numbers goes together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

WINDOW_S = 0.25
LOAD = 250
"""So many items may come within `WINDOW_S` and each go at once; more than that are a load.

Counted over a longer time than a batch of callers takes to come: two hundred that call, wait a second and
call again are no load, and to gather some of them would have the same ones come together again.
"""


class Pace:
    """Spaces out what costs as much for one item as for many, but only under load.

    Items that come now and then leave at once. When more than `LOAD` came within a window, or within the one
    before, those that come leave together, `gather_s` (less than `WINDOW_S`) after those before them; at once
    when they are as many as travel together: `full`.
    """

    def __init__(self, gather_s: float, *, full: int) -> None:
        self._gather_s = gather_s
        self._full = full
        self._since = 0.0
        """When the present window began."""
        self._lately = 0
        """How many came in it …"""
        self._before = 0
        """… and in the one before."""
        self._left = 0.0
        """When the last ones left."""

    async def turn(self, waiting: Callable[[], int]) -> None:
        """Return when what is `waiting` (its number is asked for) shall leave."""
        now = asyncio.get_running_loop().time
        age_s = now() - self._since
        if age_s >= WINDOW_S:
            self._before = self._lately if age_s < 2 * WINDOW_S else 0
            self._since, self._lately = now(), 0
        came = waiting()
        if max(self._before, self._lately + came) > LOAD and came < self._full:
            pause = self._left + self._gather_s - now()
            if pause > 0:
                await asyncio.sleep(pause)
        self._lately += waiting()
        self._left = now()

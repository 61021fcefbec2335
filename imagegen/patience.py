"""How long a wait bears a service that does not answer."""

from __future__ import annotations

import asyncio
import time

from imagegen.errors import ImageServiceError

OUTAGE_S = 30.0
"""How long a wait bears a service that does not answer, in seconds."""

RETRY_PAUSE_S = 1.0


class Patience:
    """One wait of `timeout_s` seconds, and when it was answered last."""

    def __init__(self, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._answered = time.monotonic()

    @property
    def left_s(self) -> float:
        """What is left of the time; 0 when it is over."""
        return max(self._deadline - time.monotonic(), 0.0)

    def answered(self) -> None:
        """The service has said something."""
        self._answered = time.monotonic()

    async def bear(self, error: ImageServiceError, *, silent_s: float = 0.0) -> None:
        """Pause before the next try; raises the error when the service is away for too long, or the time is
        over. `silent_s`: what the call was to last without an answer anyway."""
        if time.monotonic() > min(self._answered + OUTAGE_S + silent_s, self._deadline):
            raise error
        await asyncio.sleep(RETRY_PAUSE_S)

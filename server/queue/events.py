"""Wake-ups over Redis pub/sub: lossy, quick, and never the only way to learn that a task changed."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Literal

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from server.ports import QueueUnavailable
from server.queue.connection import open_client, translated
from server.queue.keys import DEFAULT_PREFIX, QueueKeys

SILENCE_S = 5.0
"""After so long without a message Redis is pinged; after as long again without an answer it is away."""

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0

_log = logging.getLogger(__name__)


class RedisTaskEvents:
    """`ports.TaskEvents` over one channel, whose messages are ids joined by spaces.

    `of`: the tasks that changed, for those who wait for them; or those to cancel, for workers.
    """

    def __init__(
        self,
        url: str,
        *,
        of: Literal["changes", "cancels"] = "changes",
        prefix: str = DEFAULT_PREFIX,
        silence_s: float = SILENCE_S,
    ) -> None:
        keys = QueueKeys(prefix)
        self._url = url
        self._channel = keys.events if of == "changes" else keys.cancels
        self._silence_s = silence_s
        self._connected = False
        self._connections = 0

    @property
    def connections(self) -> int:
        """See TaskEvents."""
        return self._connections

    @property
    def connected(self) -> bool:
        """See TaskEvents."""
        return self._connected

    async def listen(self, on_change: Callable[[Sequence[str]], None]) -> None:
        """See TaskEvents. What was announced while the connection was away is never heard of."""
        pause_s = FIRST_PAUSE_S
        # The limit is for connecting, also in mid-read; messages are waited for with one of their own.
        client = open_client(self._url, timeout_s=self._silence_s)
        try:
            while True:
                try:
                    await self._listen_once(client, on_change)
                except QueueUnavailable as error:
                    if self._connected:
                        pause_s = FIRST_PAUSE_S
                        _log.warning(
                            "nothing is heard on %s, the store is polled instead: %s", self._channel, error
                        )
                finally:
                    self._connected = False
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
        finally:
            await client.aclose()

    async def _listen_once(self, client: Redis, on_change: Callable[[Sequence[str]], None]) -> None:
        """Subscribe and pass messages on until the connection fails: QueueUnavailable."""
        async with client.pubsub() as subscription:
            with translated():
                await subscription.subscribe(self._channel)
            while True:
                with translated():
                    message = await self._next_message(subscription)
                if message["type"] == "subscribe":
                    self._connected = True
                    self._connections += 1
                    _log.info("listening on %s", self._channel)
                elif message["type"] == "message":
                    on_change(message["data"].split())

    async def _next_message(self, subscription: PubSub) -> dict[str, str]:
        """The next message of any type; TimeoutError when Redis is silent although it was pinged."""
        pinged = False
        while True:
            message = await subscription.get_message(timeout=self._silence_s)
            if message is not None:
                return dict(message)
            if pinged:
                raise TimeoutError("no answer to a ping")
            await subscription.ping()
            pinged = True

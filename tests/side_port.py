"""Reading the side port in tests."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, whatever its status."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def fetch(url: str, *, timeout_s: float = 10.0) -> Answer:
    """GET the URL off the event loop."""

    def read() -> Answer:
        try:
            with urllib.request.urlopen(url, timeout=timeout_s) as response:  # noqa: S310
                return Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    return await asyncio.to_thread(read)

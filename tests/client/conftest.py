"""The servers that client and command line speak to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from imagegen import ImageClient
from imagegen.channel import RETRY_POLICY
from tests.client.scripted_server import ScriptedService, scripted_service


@pytest.fixture
async def service() -> AsyncIterator[ScriptedService]:
    async with scripted_service() as running:
        yield running


@pytest.fixture
async def client(service: ScriptedService, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ImageClient]:
    """Repeats as often as any client, only with shorter pauses."""
    monkeypatch.setitem(RETRY_POLICY, "initialBackoff", "0.01s")
    monkeypatch.setitem(RETRY_POLICY, "maxBackoff", "0.02s")
    async with ImageClient(service.target, timeout_s=20) as opened:
        yield opened

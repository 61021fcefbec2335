"""What tests of the benchmark begin with."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.stack import ServiceProcess, Stack


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started fresh, to be measured, does the same when it is forked, and a second sooner."""
    start = Stack.start

    def start_forked(
        self: Stack, role: str, *, fresh: bool = False, program: Sequence[str] = (), **settings: str
    ) -> ServiceProcess:
        return start(self, role, fresh=False, program=program, **settings)

    monkeypatch.setattr(Stack, "start", start_forked)

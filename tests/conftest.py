"""Fixtures that every test may use, and the order of the tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.mongo", "tests.redis_server"]

# A machine with other work to do is slow, and that is no property of the code.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, in their random order: no process shall end with one while the others idle."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)

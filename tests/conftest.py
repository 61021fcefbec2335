"""Fixtures that every test may use, and the order of the tests."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Mapping

import pytest
import uvloop
from hypothesis import HealthCheck, settings

gc.disable()  # until everything is collected: a sixth of the time that takes
pytest_plugins = ["tests.mongo", "tests.redis_server", "tests.s3_server"]

# A machine with other work to do is slow, and that is no property of the code.
settings.register_profile("exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# What decides whether a change lands draws the same examples each time; people explore.
settings.register_profile("repeatable", settings.get_profile("exploring"), derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "exploring"))


SHARE_WITH_LONG_TESTS = 0.7
"""Of the other tests: so many run among the long ones, the rest after them."""

PARTS_OF_A_WORKER = frozenset({"worker", "queue", "life"})


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The parts of a worker are tested on the event loop that a worker has, all else on asyncio's own."""
    if item.path.parent.name in PARTS_OF_A_WORKER:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests are spread over the first part of the run, all in their random order.

    They wait more than they work: others have the processors meanwhile. No process ends with one while the
    others idle.
    """
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        short = [item for item in items if not item.get_closest_marker("long")]
        between = round(len(short) * SHARE_WITH_LONG_TESTS) // len(long)
        items[:] = []
        for place, item in enumerate(long):
            items += [item, *short[place * between : (place + 1) * between]]
        items += short[len(long) * between :]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Groups are known to pytest-xdist, which goes by ids: else every process starts what they share."""
    if session.config.getoption("loadgroup", default=False):
        grouped = [item.nodeid for item in session.items if item.get_closest_marker("xdist_group")]
        apart = [nodeid for nodeid in grouped if "@" not in nodeid]
        assert not apart, f"pytest-xdist keeps no groups together: {apart[0]} has lost its own"
    # What was collected lives until the end: the garbage collector need not look at it, now or ever.
    gc.freeze()
    gc.set_threshold(5_000, 10, 20)  # as the service does
    gc.enable()

"""Health: ready means that the store answers and nothing drains; Redis is only reported."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import product

import pytest

from server.health import Health


@pytest.mark.parametrize(("store", "redis", "draining"), list(product([False, True], repeat=3)))
def test_what_makes_a_process_ready(store: bool, redis: bool, draining: bool) -> None:
    health = Health()
    health.set(store=store, redis=redis, draining=draining)
    assert health.ready is (store and not draining)
    assert health.report() == {
        "status": "ready" if health.ready else "not ready",
        "store": "up" if store else "down",
        "redis": "up" if redis else "down",
        "draining": "yes" if draining else "no",
    }


def test_a_process_is_not_ready_before_its_store_was_seen() -> None:
    assert not Health().ready


def test_a_watcher_hears_of_every_change_that_matters_once() -> None:
    health = Health()
    first: list[tuple[bool, bool]] = []
    second: list[bool] = []
    with health.watching(lambda: first.append((health.ready, health.draining))):
        health.set(store=True)
        with health.watching(lambda: second.append(health.ready)):
            health.set(store=True)  # no news
            health.set(redis=True)  # of no consequence
            health.set(store=False)
        health.set(draining=True)  # not ready before, and now for another reason
        health.set(store=True)  # still not ready
        health.set(draining=False)
    health.set(store=False)
    assert first == [(True, False), (False, False), (False, True), (True, False)]
    assert second == [False]


def test_a_watcher_may_leave_while_it_is_told() -> None:
    health = Health()
    heard: list[str] = []
    with ExitStack() as watching:
        watching.enter_context(health.watching(watching.close))
        with health.watching(lambda: heard.append("second")):
            health.set(store=True)
            health.set(store=False)
    assert heard == ["second", "second"]


def test_what_was_not_checked_stays_as_it_was() -> None:
    health = Health()
    health.set(store=True, redis=True)
    health.set()
    health.set(draining=True)
    assert (health.store, health.redis, health.draining) == (True, True, True)

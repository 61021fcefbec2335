"""Shares: whom a task counts for, and how much one caller and one pool may take."""

from __future__ import annotations

import pytest

from server.domain.fairness import caller_cap, pool_limit, queue_caller


def test_a_task_counts_for_its_user_or_else_for_who_submitted_it() -> None:
    assert queue_caller(user_id="x", caller="y") == queue_caller(user_id="x", caller="z")
    assert queue_caller(user_id="", caller="y") != queue_caller(user_id="", caller="z")


@pytest.mark.parametrize("name", ["x", "", "user:x", "caller:x"])
def test_a_user_and_a_caller_of_one_name_are_two(name: str) -> None:
    assert queue_caller(user_id=name or "x", caller="y") != queue_caller(user_id="", caller=name)


@pytest.mark.parametrize(
    ("slots", "cap"), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (10, 8), (30, 23), (1000, 750)]
)
def test_a_caller_has_three_quarters_of_the_slots_rounded_up(slots: int, cap: int) -> None:
    assert caller_cap(slots) == cap


@pytest.mark.parametrize(
    ("slots", "pools", "limit"),
    [(10, 0, 10), (10, 1, 10), (10, 2, 8), (10, 7, 8), (1, 2, 1), (2, 2, 1), (4, 2, 3), (5, 2, 4), (7, 2, 5)],
)
def test_of_several_pools_none_fills_a_worker(slots: int, pools: int, limit: int) -> None:
    assert pool_limit(slots, pools=pools) == limit

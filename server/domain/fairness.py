"""How the queue's room is shared: whom a task counts for, and how much one caller or one pool may take."""

from __future__ import annotations

CALLER_PERCENT = 75
"""Of all workers' slots, so many at most for one caller: the others find a quarter free."""

POOL_PERCENT = 80
"""Of one worker's slots, so many at most for one pool, where it serves several."""


def queue_caller(*, user_id: str, caller: str) -> str:
    """Whom the queue counts a task for: the user it is made for, or else who submitted it.

    A user and a caller of the same name are two.
    """
    return f"user:{user_id}" if user_id else f"caller:{caller}"


def caller_cap(live_slots: int) -> int:
    """Most tasks one caller may have running at once, of so many slots; at least one."""
    return max(1, -(-live_slots * CALLER_PERCENT // 100))


def pool_limit(slots: int, *, pools: int) -> int:
    """Most tasks of one pool that a worker with so many slots, serving so many pools, runs; at least one."""
    return slots if pools < 2 else max(1, slots * POOL_PERCENT // 100)

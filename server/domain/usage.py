"""Sums over tasks: what was made and spent, by day, caller, user, provider and model."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

from msgspec import Struct, field

from server.domain import costs
from server.domain.task import Task


class UsageKey(NamedTuple):
    """What is summed up together; sums stand in this order."""

    day: str
    """ISO 8601, UTC: the day on which the tasks were accepted."""
    caller: str
    user_id: str
    provider: str
    model: str


class UsageSum(Struct):
    """What tasks add up to."""

    tasks: int = 0
    images: int = 0
    images_without_price: int = 0
    paid_calls: int = 0
    calls_in_doubt: int = 0
    """Paid calls of which nobody knows whether they were charged."""
    amounts_micros: Counter[str] = field(default_factory=Counter)
    """By currency; a currency stands here as soon as a picture was paid in it, if only with 0."""


class Usage:
    """The sums of all tasks added so far. Adding the same task twice counts it twice."""

    def __init__(self) -> None:
        self.sums: dict[UsageKey, UsageSum] = defaultdict(UsageSum)

    def add(self, day: str, task: Task) -> None:
        """Add a task as it stands: at its provider, and what an attempt did elsewhere at that one."""
        self._at(day, task, task.provider).tasks += 1
        images = Counter(costs.payers(task).values())
        for number, attempt in task.attempts.items():
            if not attempt.calls:
                continue
            at = self._at(day, task, attempt.provider)
            for call in attempt.calls.values():
                at.paid_calls += call.paid
                at.calls_in_doubt += call.paid and call.in_doubt
            at.images += images[number]
            if attempt.price is None:
                at.images_without_price += images[number]
            elif images[number]:
                at.amounts_micros[attempt.price.currency] += images[number] * attempt.price.micros_per_image

    def _at(self, day: str, task: Task, provider: str) -> UsageSum:
        return self.sums[UsageKey(day, task.caller, task.user_id, provider, task.model)]

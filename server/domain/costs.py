"""What a task has cost, told from its own record alone: price at the time of the call × pictures that came.

So nothing is counted twice, whoever writes twice or takes over. A picture belongs to the newest answered call
that was to make it: a further call for one is only ever made after one that brought nothing. A picture that
was bought and could not be fetched has been charged as well. Of a call in doubt nobody knows whether, and for
how many pictures, it was charged: its cost is not known and adds nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from server.domain.errors import Reason
from server.domain.money import Cost
from server.domain.purchases import named
from server.domain.task import CallState, Task


def payers(task: Task) -> Mapping[int, int]:
    """For each picture that came, by index, the number of the attempt that bought it."""
    came = _came(task)
    buyers: dict[int, int] = {}
    for number, attempt in sorted(task.attempts.items()) if came else ():
        for call in attempt.calls.values():
            if call.state is not CallState.IN_DOUBT:
                buyers.update((index, number) for index in came if index in (call.indexes or came))
    return buyers


def _came(task: Task) -> Collection[int]:
    """The pictures that were bought and came, or were lost on their way to us."""
    came = set(task.images)
    lost = {i for i, error in task.failures.items() if error.reason is Reason.OUTPUT_FETCH_FAILED}
    if task.error is not None and task.error.reason is Reason.OUTPUT_FETCH_FAILED:
        lost.update(task.missing_images)
    calls = [call for attempt in task.attempts.values() for call in attempt.calls.values()]
    came.update(i for i in lost if any(i in named(task, call) for call in calls))
    return came


def by_attempt(task: Task) -> Mapping[int, Cost | None]:
    """What each attempt that brought pictures has cost, by its number; None: its price is not known."""
    buyers = list(payers(task).values())
    costs: dict[int, Cost | None] = {}
    for number in dict.fromkeys(buyers):
        price = task.attempts[number].price
        if price is None:
            costs[number] = None
        else:
            amount = buyers.count(number) * price.micros_per_image
            costs[number] = Cost(currency=price.currency, amount_micros=amount)
    return costs


def total(costs: Collection[Cost | None]) -> Cost | None:
    """The sum; None where there is nothing to add, an amount is not known, or currencies differ."""
    currency, amount_micros = "", 0
    for cost in costs:
        if cost is None or cost.currency != (currency or cost.currency):
            return None
        currency = cost.currency
        amount_micros += cost.amount_micros
    return Cost(currency=currency, amount_micros=amount_micros) if currency else None

"""What a task has cost, told from its own record alone: price at the time of the call × pictures that came.

So nothing is counted twice, whoever writes twice or takes over. A picture belongs to the newest answered call
that was to make it: a further call for one is only ever made after one that brought nothing. A picture that
was bought and could not be fetched has been charged as well. Of a call in doubt nobody knows whether, and for
how many pictures, it was charged: its cost is not known and adds nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from server.domain.errors import Reason
from server.domain.money import Cost
from server.domain.purchases import covered
from server.domain.task import CallState, Task


def payers(task: Task) -> Mapping[int, int]:
    """For each picture that came, by index, the number of the attempt that bought it."""
    buyers: dict[int, int] = {}
    received: set[int] = set()
    for number, attempt in sorted(task.attempts.items()):
        for call in attempt.calls.values():
            if call.state is not CallState.IN_DOUBT:
                buyers |= dict.fromkeys(covered(task, call), number)
            if call.receipt:
                received |= covered(task, call)
    came = set(task.images)
    came |= {i for i, error in task.failures.items() if error.reason is Reason.OUTPUT_FETCH_FAILED}
    if task.error is not None and task.error.reason is Reason.OUTPUT_FETCH_FAILED:
        came |= received.intersection(task.missing_images)
    return {index: buyers[index] for index in sorted(came) if index in buyers}


def by_attempt(task: Task) -> Mapping[int, Cost | None]:
    """What each attempt that brought pictures has cost, by its number; None: its price is not known."""
    costs: dict[int, Cost | None] = {}
    for number, images in Counter(payers(task).values()).items():
        price = task.attempts[number].price
        costs[number] = (
            Cost(currency=price.currency, amount_micros=images * price.micros_per_image) if price else None
        )
    return costs


def total(costs: Iterable[Cost | None]) -> Cost | None:
    """The sum; None where there is nothing to add, an amount is not known, or currencies differ."""
    known = list(costs)
    amounts = [cost.amount_micros for cost in known if cost is not None]
    currencies = {cost.currency for cost in known if cost is not None}
    if len(amounts) < len(known) or len(currencies) != 1:
        return None
    return Cost(currency=currencies.pop(), amount_micros=sum(amounts))

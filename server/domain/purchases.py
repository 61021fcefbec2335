"""What of a task was bought, what may have been, and what may still be: pure accounting over its call rows.

A purchase is counted per image: a call counts for each image it was to make, in every state. What the
provider has named as bought (the receipt) is not in doubt any more: it is fetched, by as many attempts as
that takes, and never bought again. An answer that broke off leaves the images it did not name in doubt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from server.domain.task import Call, CallState, Task

FETCH_FOR_MS = 3_600_000
"""Vendors keep results for a day: an outage of their storage is waited out for so long after the purchase."""
UNLIKELY_FOR_MS = 600_000
"""What is refused by its storage, or is no picture, may yet become one for so long after the purchase …"""
UNLIKELY_FETCHES = 3
"""… and is fetched so many times again however late it is asked for."""


class Step(Struct, frozen=True, kw_only=True, gc=False):
    """One thing an attempt does: it fetches what a receipt names, or buys these images in one call."""

    indexes: tuple[int, ...]
    receipt: str = ""
    """Empty: a purchase."""


def paid_or_open_calls(task: Task) -> int:
    """Purchases that were made, are in doubt, or are still open, over all images."""
    return sum(call.paid for attempt in task.attempts.values() for call in attempt.calls.values())


def may_have_been_sent(task: Task) -> bool:
    """Whether any call of the task may have reached a provider that did not refuse it."""
    return any(attempt.calls for attempt in task.attempts.values())


def covered(task: Task, call: Call) -> frozenset[int]:
    """The images that the call was to make."""
    return frozenset(call.indexes or range(task.images_wanted))


def named(task: Task, call: Call) -> frozenset[int]:
    """The images of which the call's receipt tells what became of them."""
    if not call.receipt:
        return frozenset()
    return frozenset(call.so_far) or covered(task, call)


def delivered(task: Task, call: Call) -> bool:
    """Whether the provider surely took the call: it gave a receipt for it, or an image of it is kept."""
    if call.receipt:
        return True
    return bool(task.images) and not covered(task, call).isdisjoint(task.images)


def to_fetch(task: Task) -> tuple[Step, ...]:
    """The steps that fetch missing images which are bought already, the newest receipts first."""
    return _to_fetch(task, _newest_first(task), task.missing_images)


def may_fetch_again(task: Task, now_ms: int, *, unlikely: bool) -> bool:
    """Whether a failed fetch of what is bought is repeated: for an hour at least, and within the ttl.

    `unlikely`: it will hardly succeed, and is not repeated for so long.
    """
    bought_ms = max((call.sent_time_ms for call in _newest_first(task) if call.receipt), default=0)
    if unlikely:
        return now_ms < bought_ms + UNLIKELY_FOR_MS or task.counts.unlikely < UNLIKELY_FETCHES
    return now_ms < max(task.ttl_time_ms, bought_ms + FETCH_FOR_MS)


class Outlook(Struct, frozen=True, kw_only=True, gc=False):
    """What may still come of each missing image."""

    fetches: tuple[Step, ...]
    """It is bought already …"""
    for_sale: tuple[int, ...]
    """… or a call for it is permitted, if the ttl is not over …"""
    exhausted: tuple[int, ...]
    """… or nothing."""

    def steps(self, *, groups: bool, late: bool) -> tuple[Step, ...]:
        """What the next attempt does, in order; `late`: the ttl is over, and nothing more is bought.

        `groups`: one call makes all images; else each has a call of its own.
        """
        if late or not self.for_sale:
            return self.fetches
        if groups:
            return (*self.fetches, Step(indexes=self.for_sale))
        return (*self.fetches, *[Step(indexes=(index,)) for index in self.for_sale])


def outlook(task: Task) -> Outlook:
    """What may still come of each missing image, by what has been called so far."""
    calls, missing = _newest_first(task), task.missing_images
    fetches = _to_fetch(task, calls, missing)
    if fetches:
        bought = {index for step in fetches for index in step.indexes}
        missing = tuple(index for index in missing if index not in bought)
    paid = [call for call in calls if call.paid]
    if len(paid) < task.max_paid_attempts:  # as a rule: no image can have used its calls up
        return Outlook(fetches=fetches, for_sale=missing, exhausted=())
    called = Counter(index for call in paid for index in covered(task, call))
    exhausted = tuple(index for index in missing if called[index] >= task.max_paid_attempts)
    for_sale = tuple(index for index in missing if index not in exhausted)
    return Outlook(fetches=fetches, for_sale=for_sale, exhausted=exhausted)


def plan(task: Task, *, groups: bool, now_ms: int = 0) -> tuple[Step, ...]:
    """What the next attempt does, in order: fetch first, then buy what may be bought.

    `groups` as of `Outlook.steps`. `now_ms` 0: without regard to the ttl, after which nothing more is bought.
    """
    return outlook(task).steps(groups=groups, late=now_ms >= task.ttl_time_ms)


def open_paid_call(task: Task) -> bool:
    """Whether the newest attempt has a paid call that may still buy something, as far as is recorded."""
    current = task.attempts.get(task.attempt)
    return current is not None and any(
        call.paid and call.state is CallState.OPEN for call in current.calls.values()
    )


def _newest_first(task: Task) -> list[Call]:
    """All calls; a task's attempts, and their calls, are in ascending order of number."""
    return [call for attempt in task.attempts.values() for call in attempt.calls.values()][::-1]


def _to_fetch(task: Task, calls: Iterable[Call], missing: Iterable[int]) -> tuple[Step, ...]:
    steps: list[Step] = []
    left = set(missing)
    for call in calls:
        wanted = left & named(task, call) if call.receipt else None
        if wanted:
            steps.append(Step(indexes=tuple(sorted(wanted)), receipt=call.receipt))
            left -= wanted
    return tuple(steps)

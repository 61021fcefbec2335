"""Costs: which call a picture belongs to, what it is known to have cost, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from server.domain import costs
from server.domain.errors import Reason, TaskError
from server.domain.money import Cost, Price
from server.domain.task import Attempt, Call, CallState, Task
from server.domain.usage import Usage, UsageKey, UsageSum
from tests.unit.domain.tasks import NOW_MS, error, image, pending, sequence

DONE, OPEN, IN_DOUBT = CallState.DONE, CallState.OPEN, CallState.IN_DOUBT
CNY = Price(currency="CNY", micros_per_image=250_000)
USD = Price(currency="USD", micros_per_image=40_000)
FREE = Price(currency="CNY", micros_per_image=0)
LOST = error(Reason.OUTPUT_FETCH_FAILED)
REFUSED = error(Reason.CONTENT_POLICY_OUTPUT)


def call(state: CallState, *indexes: int, receipt: str = "", paid: bool = True) -> Call:
    return Call(state=state, paid=paid, sent_time_ms=NOW_MS, indexes=indexes, receipt=receipt)


def attempt(number: int, *calls: Call, price: Price | None = CNY, provider: str = "ark") -> Attempt:
    return Attempt(
        number=number,
        provider=provider,
        worker="w",
        start_time_ms=NOW_MS,
        calls=dict(enumerate(calls)),
        price=price,
    )


def task(
    *attempts: Attempt,
    wanted: int = 4,
    images: tuple[int, ...] = (),
    failures: Mapping[int, TaskError] | None = None,
    failed: TaskError | None = None,
) -> Task:
    return replace(
        sequence(wanted) if wanted > 1 else pending(),
        provider="ark",
        model="m",
        attempts={a.number: a for a in attempts},
        images={index: image(index) for index in images},
        failures=failures or {},
        error=failed,
    )


def cny(micros: int) -> Cost:
    return Cost(currency="CNY", amount_micros=micros)


CASES: dict[str, tuple[Task, dict[int, Cost | None], Cost | None]] = {
    "nothing yet": (task(), {}, None),
    "a call under way": (task(attempt(1, call(OPEN))), {}, None),
    "pictures of a call under way": (
        task(attempt(1, call(OPEN)), images=(0, 1)),
        {1: cny(500_000)},
        cny(500_000),
    ),
    "a whole sequence": (
        task(attempt(1, call(DONE, receipt="r")), images=(0, 1, 2, 3)),
        {1: cny(1_000_000)},
        cny(1_000_000),
    ),
    "fewer than asked for": (
        task(attempt(1, call(DONE, receipt="r")), images=(0, 1)),
        {1: cny(500_000)},
        cny(500_000),
    ),
    "a refused picture is not charged": (
        task(attempt(1, call(DONE, receipt="r")), images=(0, 2, 3), failures={1: REFUSED}),
        {1: cny(750_000)},
        cny(750_000),
    ),
    "one that was lost on the way is": (
        task(attempt(1, call(DONE, receipt="r")), images=(0, 2, 3), failures={1: LOST}),
        {1: cny(1_000_000)},
        cny(1_000_000),
    ),
    "the only one was lost on the way": (
        task(attempt(1, call(DONE, receipt="r")), wanted=1, failed=LOST),
        {1: cny(250_000)},
        cny(250_000),
    ),
    "fetched by a later attempt": (
        task(attempt(1, call(DONE, receipt="r")), attempt(2, price=USD), images=(0, 1, 2, 3)),
        {1: cny(1_000_000)},
        cny(1_000_000),
    ),
    "in doubt, then bought": (
        task(attempt(1, call(IN_DOUBT)), attempt(2, call(DONE)), wanted=1, images=(0,)),
        {2: cny(250_000)},
        cny(250_000),
    ),
    "in doubt alone": (task(attempt(1, call(IN_DOUBT)), wanted=1, failed=error()), {}, None),
    "broken off, the rest bought": (
        task(attempt(1, call(DONE)), attempt(2, call(DONE, 2, 3)), images=(0, 1, 2, 3)),
        {1: cny(500_000), 2: cny(500_000)},
        cny(1_000_000),
    ),
    "one call per picture": (
        task(attempt(1, call(DONE, 0), call(IN_DOUBT, 1)), attempt(2, call(DONE, 1)), images=(0, 1)),
        {1: cny(250_000), 2: cny(250_000)},
        cny(500_000),
    ),
    "a price that rose meanwhile": (
        task(
            attempt(1, call(DONE, 0)),
            attempt(2, call(DONE, 1), price=replace(CNY, micros_per_image=300_000)),
            images=(0, 1),
        ),
        {1: cny(250_000), 2: cny(300_000)},
        cny(550_000),
    ),
    "free": (
        task(attempt(1, call(DONE, paid=False), price=FREE), wanted=1, images=(0,)),
        {1: cny(0)},
        cny(0),
    ),
    "no price": (task(attempt(1, call(DONE), price=None), wanted=1, images=(0,)), {1: None}, None),
    "no price of one half": (
        task(attempt(1, call(DONE, 0)), attempt(2, call(DONE, 1), price=None), images=(0, 1)),
        {1: cny(250_000), 2: None},
        None,
    ),
    "two currencies": (
        task(attempt(1, call(DONE, 0)), attempt(2, call(DONE, 1), price=USD), images=(0, 1)),
        {1: cny(250_000), 2: Cost(currency="USD", amount_micros=40_000)},
        None,
    ),
}


@pytest.mark.parametrize(("spent", "each", "total"), CASES.values(), ids=CASES)
def test_what_is_known_to_have_been_spent(
    spent: Task, each: dict[int, Cost | None], total: Cost | None
) -> None:
    found = costs.by_attempt(spent)
    assert found == each
    assert costs.total(found.values()) == total


# --- sums over tasks ------------------------------------------------------------------------------


def key(provider: str = "ark") -> UsageKey:
    return UsageKey("2026-11-25", "ann", "", provider, "m")


def summed(*tasks: Task) -> dict[UsageKey, UsageSum]:
    usage = Usage()
    for one in tasks:
        usage.add("2026-11-25", one)
    return usage.sums


def test_tasks_add_up() -> None:
    two = task(attempt(1, call(DONE, receipt="r")), images=(0, 1))
    doubtful = task(attempt(1, call(IN_DOUBT)), attempt(2, call(DONE)), wanted=1, images=(0,))
    unpriced = task(attempt(1, call(DONE), price=None), wanted=1, images=(0,))
    assert summed(two, doubtful, unpriced, task()) == {
        key(): UsageSum(
            tasks=4,
            images=4,
            images_without_price=1,
            paid_calls=4,
            calls_in_doubt=1,
            amounts_micros=summed(two, doubtful)[key()].amounts_micros,
        )
    }
    assert summed(two, doubtful)[key()].amounts_micros == {"CNY": 750_000}


def test_what_an_attempt_did_elsewhere_counts_there() -> None:
    moved = task(
        attempt(1, call(DONE, 0), price=USD, provider="openai"), attempt(2, call(DONE, 1)), images=(0, 1)
    )
    sums = summed(moved)
    assert {at: found.tasks for at, found in sums.items()} == {key(): 1, key("openai"): 0}
    assert {at: found.images for at, found in sums.items()} == {key(): 1, key("openai"): 1}
    assert sums[key("openai")].amounts_micros == {"USD": 40_000}


def test_what_is_free_is_told_as_nothing_spent() -> None:
    drawn = task(attempt(1, call(DONE, paid=False), price=FREE), wanted=1, images=(0,))
    found = summed(drawn)[key()]
    assert (found.paid_calls, dict(found.amounts_micros)) == (0, {"CNY": 0})

"""Usage by day and user, read from a real store: every task once, whatever the pages and the ranges."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ulid import ULID

from server.domain.errors import InvalidRequest
from server.domain.money import Price
from server.domain.task import Attempt, Call, CallState, Task, TaskState
from server.domain.usage import UsageKey, UsageSum
from server.service.usage import PAGE_TASKS, UsageQuery, UsageReports
from server.store.sqlite import SqliteTaskStore
from tests.fakes_store import make_task
from tests.unit.domain.tasks import image

DAY_MS = 86_400_000
MIDNIGHT_MS = int(datetime(2026, 11, 25, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteTaskStore]:
    opened = await SqliteTaskStore.open(tmp_path / "tasks.db", timeout_s=5.0)
    yield opened
    await opened.aclose()


@pytest.fixture
def reports(store: SqliteTaskStore) -> UsageReports:
    """On the evening of 2026-11-25."""
    return UsageReports(store=store, now_ms=lambda: MIDNIGHT_MS + DAY_MS - 1)


async def made(
    store: SqliteTaskStore, at_ms: int, *, user: str = "", model: str = "m", caller: str = "ann"
) -> Task:
    """Keep a task that was accepted at this time and has brought one picture for 0.25."""
    bought = Call(state=CallState.DONE, paid=True, sent_time_ms=at_ms)
    price = Price(currency="CNY", micros_per_image=250_000)
    attempt = Attempt(
        number=1, provider="ark", worker="w", start_time_ms=at_ms, calls={0: bought}, price=price
    )
    task = make_task(
        str(ULID.from_timestamp(at_ms)),
        caller=caller,
        user_id=user,
        model=model,
        provider="ark",
        state=TaskState.COMPLETED,
        attempt=1,
        attempts={1: attempt},
        images={0: image()},
    )
    assert await store.insert(task)
    return task


async def pages(
    reports: UsageReports, query: UsageQuery, limit: int
) -> list[list[tuple[UsageKey, UsageSum]]]:
    found, after = [], None
    while True:
        sums, more = await reports.page(query, after=after, limit=limit)
        found.append(list(sums))
        if not more:
            return found
        after = sums[-1][0]


def days(start: str = "", end: str = "", **others: str) -> UsageQuery:
    return UsageQuery(start_date=start, end_date=end, **others)


async def test_a_day_begins_and_ends_at_midnight(store: SqliteTaskStore, reports: UsageReports) -> None:
    for at_ms in (MIDNIGHT_MS - 1, MIDNIGHT_MS, MIDNIGHT_MS + DAY_MS - 1, MIDNIGHT_MS + DAY_MS):
        await made(store, at_ms)
    for query, tasks in (
        (days(), [2]),
        (days("2026-11-25"), [2]),
        (days("2026-11-24"), [1]),
        (days("2026-11-26"), [1]),
        (days("2026-11-27"), []),
        (days("2026-11-24", "2026-11-26"), [1, 2, 1]),
        (days("2026-11-25", "2026-12-25"), [2, 1]),
    ):
        [page] = await pages(reports, query, 100)
        assert [found.tasks for _, found in page] == tasks
        assert [found.amounts_micros["CNY"] for _, found in page] == [250_000 * n for n in tasks]


async def test_every_task_counts_once_however_many_there_are(
    store: SqliteTaskStore, reports: UsageReports
) -> None:
    count = 2 * PAGE_TASKS + 3
    for n in range(count):
        await made(store, MIDNIGHT_MS + n // 7)  # several of one millisecond
    [[(key, found)]] = await pages(reports, days(), 100)
    assert key == UsageKey("2026-11-25", "ann", "", "ark", "m")
    assert (found.tasks, found.images, found.paid_calls) == (count, count, count)
    assert found.amounts_micros == {"CNY": count * 250_000}
    assert [[(key, found)]] == await pages(reports, days(), 100), "asking changes nothing"


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 12, 100])
async def test_pages_hold_every_sum_once_in_order(
    store: SqliteTaskStore, reports: UsageReports, limit: int
) -> None:
    for day in range(3):
        for user in ("", "b", "a"):
            for model in ("m", "k"):
                await made(store, MIDNIGHT_MS - day * DAY_MS, user=user, model=model)
    found = await pages(reports, days("2026-11-23", "2026-11-25"), limit)
    keys = [key for page in found for key, _ in page]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys) == 18
    assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
    assert found[-1], "there is no empty page at the end"


async def test_one_caller_or_user_alone(store: SqliteTaskStore, reports: UsageReports) -> None:
    for caller, user in (("ann", "u"), ("ann", "v"), ("bob", "u")):
        await made(store, MIDNIGHT_MS, caller=caller, user=user)
    for query, who in (
        (days(caller="ann"), [("ann", "u"), ("ann", "v")]),
        (days(user_id="u"), [("ann", "u"), ("bob", "u")]),
        (days(caller="bob", user_id="v"), []),
    ):
        [page] = await pages(reports, query, 100)
        assert [(key.caller, key.user_id) for key, _ in page] == who


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        (
            days("yesterday"),
            {"start_date": "'yesterday' is no date; allowed: YYYY-MM-DD from 1970-01-01 on, or"},
        ),
        (days("1969-12-31"), {"start_date": "'1969-12-31' is no date"}),
        (days("9999-01-01"), {"start_date": "'9999-01-01' is no date"}),
        (days("2026-02-29"), {"start_date": "'2026-02-29' is no date"}),
        (days("2026-11-25", "25.11.2026"), {"end_date": "is no date"}),
        (
            days("2026-11-25", "2026-11-24"),
            {"end_date": "is 2026-11-24; allowed: 2026-11-25 or up to 30 days"},
        ),
        (
            days("2026-11-25", "2026-12-26"),
            {"end_date": "is 2026-12-26; allowed: 2026-11-25 or up to 30 days"},
        ),
        (
            days("x", "y", caller="c" * 129, user_id="u" * 129),
            {"start_date": "'x'", "end_date": "'y'", "caller": "has 129", "user_id": "at most 128"},
        ),
    ],
    ids=[
        "words",
        "too early",
        "too late",
        "no such day",
        "other order",
        "backwards",
        "32 days",
        "everything",
    ],
)
async def test_wrong_queries(reports: UsageReports, query: UsageQuery, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await reports.page(query, after=None, limit=10)
    told = {violation.field: violation.description for violation in caught.value.violations}
    assert set(told) == set(wrong)
    assert all(text in told[field] for field, text in wrong.items())


async def test_the_first_and_the_last_day_there_can_be(reports: UsageReports) -> None:
    assert await pages(reports, days("9998-12-31"), 10) == [[]]
    assert await pages(reports, days("1970-01-01", "1970-01-31"), 10) == [[]]

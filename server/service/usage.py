"""The use case of summing up what was made and spent, from the tasks' own records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta

from msgspec import Struct
from ulid import ULID

from server.domain.errors import InvalidRequest, Violation
from server.domain.request import MAX_ID_CHARS
from server.domain.usage import Usage, UsageKey, UsageSum
from server.ports import TaskStore

MAX_DAYS = 31
FIRST_DAY, LAST_DAY = date(1970, 1, 1), date(9998, 12, 31)
"""The days that an id can name, and behind which another day follows."""
PAGE_TASKS = 200
"""Tasks read at once: some milliseconds of work between two turns of the loop."""
TIME_CHARS = 10
"""The part of a task's id that is its time."""


class UsageQuery(Struct, frozen=True, kw_only=True):
    """Whose usage of which days; empty = all callers, all users, today."""

    start_date: str = ""
    end_date: str = ""
    caller: str = ""
    user_id: str = ""


class UsageReports:
    """Reads tasks by their days."""

    def __init__(self, *, store: TaskStore, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def page(
        self,
        query: UsageQuery,
        *,
        after: UsageKey | None,
        limit: int,
        others: Sequence[Violation] = (),
    ) -> tuple[Sequence[tuple[UsageKey, UsageSum]], bool]:
        """Up to `limit` sums behind the one with the key `after`, and whether there are more.

        Raises InvalidRequest, with the request's other violations, and StoreUnavailable.
        """
        day, last = self._days(query, others)
        found: list[tuple[UsageKey, UsageSum]] = []
        while day <= last and len(found) <= limit:
            if after is None or day.isoformat() >= after.day:
                sums = await self._of_day(day, query)
                found += [(key, sums[key]) for key in sorted(sums) if after is None or key > after]
            day += timedelta(days=1)
        return found[:limit], len(found) > limit

    async def _of_day(self, day: date, query: UsageQuery) -> dict[UsageKey, UsageSum]:
        usage = Usage()
        after, before = _first_id(day), _first_id(day + timedelta(days=1))
        while tasks := await self._store.page(after=after, before=before, limit=PAGE_TASKS):
            for task in tasks:
                if query.caller in ("", task.caller) and query.user_id in ("", task.user_id):
                    usage.add(day.isoformat(), task)
            after = tasks[-1].id
        return usage.sums

    def _days(self, query: UsageQuery, others: Sequence[Violation]) -> tuple[date, date]:
        found: list[Violation] = []

        def read(name: str, text: str, default: date) -> date:
            try:
                day = date.fromisoformat(text) if text else default
            except ValueError:
                day = date.min
            if FIRST_DAY <= day <= LAST_DAY and text in ("", day.isoformat()):  # not by its week
                return day
            description = f"{text[:32]!r} is no date; allowed: YYYY-MM-DD from {FIRST_DAY} on, or empty"
            found.append(Violation(field=name, description=description))
            return default

        today = datetime.fromtimestamp(self._now_ms() / 1000, UTC).date()
        start = read("start_date", query.start_date, today)
        end = read("end_date", query.end_date, start)
        if not found and not 0 <= (end - start).days < MAX_DAYS:
            description = f"is {end}; allowed: {start} or up to {MAX_DAYS - 1} days later"
            found.append(Violation(field="end_date", description=description))
        for name, text in (("caller", query.caller), ("user_id", query.user_id)):
            if len(text) > MAX_ID_CHARS:
                description = f"has {len(text):,} characters, at most {MAX_ID_CHARS} are allowed"
                found.append(Violation(field=name, description=description))
        if found or others:
            raise InvalidRequest([*others, *found])
        return start, end


def _first_id(day: date) -> str:
    """What stands before every task id of that day, and after every earlier one."""
    midnight = datetime.combine(day, time(), UTC)
    return str(ULID.from_timestamp(int(midnight.timestamp() * 1000)))[:TIME_CHARS]

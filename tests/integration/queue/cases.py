"""Rows of the scripts' tables, state before → call → answer and state after, and how they are played."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from server.ports import Lane, Pool
from server.queue.scripts import Expired, Over, Owned, Placed, Ready, Running, Scripts
from tests.integration.queue.board import Board, Delayed, Leased, State

ANN = "lodaaaaaaaaaaa"
BEN = "lodbbbbbbbbbbb"
CAT = "xxcccccccccccc"
POOLS = tuple(Pool(code=code, lanes=(Lane(name="lane", limit=1_000),)) for code in ("lo", "xx"))
ME = "worker-1"
OTHER = "worker-2"
LEASE_MS = 60_000
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of a table."""

    name: str
    before: State
    call: Callable[[Scripts], Awaitable[Any]]
    answer: Any
    after: State
    wakes: bool = False
    """Whether a token lies in `wake` afterwards."""


def enqueue(*entries: Placed) -> Callable[[Scripts], Awaitable[Any]]:
    return lambda scripts: scripts.enqueue(entries)


def finish(*ids: str) -> Callable[[Scripts], Awaitable[Any]]:
    return lambda scripts: scripts.finish(token=ME, task_ids=ids)


def discard(*ids: str) -> Callable[[Scripts], Awaitable[Any]]:
    return lambda scripts: scripts.discard(ids)


def release(*entries: Placed) -> Callable[[Scripts], Awaitable[Any]]:
    return lambda scripts: scripts.release(token=ME, entries=entries)


def renew(*tasks: Running) -> Callable[[Scripts], Awaitable[Any]]:
    return lambda scripts: scripts.renew(token=ME, lease_ms=LEASE_MS, tasks=tasks)


def claim(
    *,
    cap: int,
    free: int = 10,
    most: int | None = None,
    most_parked: int = 10,
    over: Sequence[str] = (),
    pools: Sequence[Pool] = POOLS,
) -> Callable[[Scripts], Awaitable[list[str]]]:
    """Claim from the pools as ME; the ids that were taken, in order."""

    async def call(scripts: Scripts) -> list[str]:
        _, taken = await scripts.claim(
            token=ME,
            free=free,
            lease_ms=LEASE_MS,
            cap=cap,
            pools=[replace(pool, most=most) for pool in pools],
            most_skips=100,
            most_due=100,
            most_parked=most_parked,
            over=over,
        )
        return [task.task_id for task in taken]

    return call


def keep_only(*ids: str) -> Callable[[Scripts], Awaitable[Any]]:
    return lambda scripts: scripts.keep_only(token=ME, task_ids=ids)


def hand_over(task_id: str) -> Callable[[Scripts], Awaitable[Any]]:
    return lambda scripts: scripts.hand_over(token=ME, owner=OTHER, lease_ms=LEASE_MS, task_id=task_id)


def due(*, most_due: int = 10, most_expired: int = 10) -> Callable[[Scripts], Awaitable[Any]]:
    return lambda scripts: scripts.due(most_due=most_due, most_expired=most_expired)


def resolve(*verdicts: tuple[Expired, Ready | Owned | Over]) -> Callable[[Scripts], Awaitable[Any]]:
    return lambda scripts: scripts.resolve_expired(lease_ms=LEASE_MS, verdicts=verdicts)


MINE = State(leased={"t1": Leased(ANN, ME)})
THEIRS = State(leased={"t1": Leased(ANN, OTHER)})
WAITING = State(lines={ANN: ["t1"]})
LATER = State(delayed={"t1": Delayed(ANN)})
EMPTY = State()
SEEN = Expired(task_id="t1", token=ME)
LAPSED = State(leased={"t1": Leased(ANN, ME, expired=True)})


def rows(tables: Mapping[str, Sequence[Case]]) -> list[Any]:
    """The rows of all tables, each with its name."""
    return [
        pytest.param(case, id=f"{script}: {case.name}") for script, cases in tables.items() for case in cases
    ]


async def play(case: Case, board: Board, scripts: Scripts) -> None:
    """One row, from its state before to its state after."""
    await board.lay_out(case.before)
    assert await case.call(scripts) == case.answer
    assert await board.read() == case.after
    assert await board.client.llen(board.key("wake")) == int(case.wakes)


async def play_twice(case: Case, board: Board, scripts: Scripts) -> None:
    """The answer may have been lost, so a caller may repeat every operation: nothing more changes."""
    await board.lay_out(case.before)
    await case.call(scripts)
    await case.call(scripts)
    assert await board.read() == case.after

"""Every script but claim: state before → call → answer and state after, on a real Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from server.ports import Held
from server.queue.scripts import Expired, Over, Owned, Placed, Ready, Running, Scripts
from tests.integration.queue.board import Board, Delayed, Leased, State

EVERY_REDIS = True

ANN = "lodaaaaaaaaaaa"
BEN = "lodbbbbbbbbbbb"
CAT = "xxcccccccccccc"
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
LAPSED = State(leased={"t1": Leased(ANN, ME, expired=True)})

ENQUEUE = [
    Case(
        name="a new task goes to the tail of its line",
        before=State(lines={ANN: ["t1"]}),
        call=enqueue(Placed(task_id="t2", line=ANN)),
        answer=1,
        after=State(lines={ANN: ["t1", "t2"]}),
        wakes=True,
    ),
    Case(
        name="a batch opens lines, pools and priorities",
        before=EMPTY,
        call=enqueue(
            Placed(task_id="t1", line=ANN), Placed(task_id="t2", line=BEN), Placed(task_id="t3", line=CAT)
        ),
        answer=3,
        after=State(lines={ANN: ["t1"], BEN: ["t2"], CAT: ["t3"]}),
        wakes=True,
    ),
    Case(
        name="not yet due: delayed, and nobody is woken",
        before=EMPTY,
        call=enqueue(Placed(task_id="t1", line=ANN, delay_ms=HOUR_MS)),
        answer=1,
        after=LATER,
    ),
    Case(
        name="twice in one batch",
        before=EMPTY,
        call=enqueue(Placed(task_id="t1", line=ANN), Placed(task_id="t1", line=ANN)),
        answer=1,
        after=WAITING,
        wakes=True,
    ),
    Case(
        name="one that is ready, held or delayed stays as it is",
        before=State(lines={ANN: ["t1"]}, leased={"t2": Leased(ANN, ME)}, delayed={"t3": Delayed(ANN)}),
        call=enqueue(
            Placed(task_id="t1", line=BEN), Placed(task_id="t2", line=ANN), Placed(task_id="t3", line=ANN)
        ),
        answer=0,
        after=State(lines={ANN: ["t1"]}, leased={"t2": Leased(ANN, ME)}, delayed={"t3": Delayed(ANN)}),
        wakes=True,
    ),
    Case(
        name="one whose dead entry is still in line is lined up again",
        before=State(lines={ANN: ["t1", "t2"]}, dead=frozenset({"t1"})),
        call=enqueue(Placed(task_id="t1", line=ANN)),
        answer=1,
        after=State(lines={ANN: ["t1", "t2", "t1"]}),
        wakes=True,
    ),
]

FINISH = [
    Case(name="mine", before=MINE, call=finish("t1"), answer=[Held.MINE], after=EMPTY),
    Case(
        name="mine, and others wait for the room",
        before=State(lines={ANN: ["t2"]}, leased={"t1": Leased(ANN, ME)}),
        call=finish("t1"),
        answer=[Held.MINE],
        after=State(lines={ANN: ["t2"]}),
        wakes=True,
    ),
    Case(name="another's", before=THEIRS, call=finish("t1"), answer=[Held.NOT_MINE], after=THEIRS),
    Case(
        name="given back meanwhile",
        before=WAITING,
        call=finish("t1"),
        answer=[Held.NOT_MINE],
        after=WAITING,
        wakes=True,
    ),
    Case(name="delayed meanwhile", before=LATER, call=finish("t1"), answer=[Held.NOT_MINE], after=LATER),
    Case(name="unknown", before=EMPTY, call=finish("t1"), answer=[Held.MISSING], after=EMPTY),
    Case(
        name="a batch, one of which is another's",
        before=State(leased={"t1": Leased(ANN, ME), "t2": Leased(BEN, OTHER), "t3": Leased(ANN, ME)}),
        call=finish("t1", "t2", "t3", "t1"),
        answer=[Held.MINE, Held.NOT_MINE, Held.MINE, Held.MISSING],
        after=State(leased={"t2": Leased(BEN, OTHER)}),
    ),
    Case(name="late, but nobody took it", before=LAPSED, call=finish("t1"), answer=[Held.MINE], after=EMPTY),
]

DISCARD = [
    Case(
        name="wherever they are",
        before=State(
            lines={ANN: ["t1", "t4"]}, leased={"t2": Leased(ANN, OTHER)}, delayed={"t3": Delayed(ANN)}
        ),
        call=discard("t1", "t2", "t3", "t9"),
        answer=3,
        after=State(lines={ANN: ["t1", "t4"]}, dead=frozenset({"t1"})),
        wakes=True,
    ),
]

RELEASE = [
    Case(
        name="mine: to the head of its line",
        before=State(lines={ANN: ["t2"]}, leased={"t1": Leased(ANN, ME)}),
        call=release(Placed(task_id="t1", line=ANN)),
        answer=[Held.MINE],
        after=State(lines={ANN: ["t1", "t2"]}),
        wakes=True,
    ),
    Case(
        name="mine: delayed",
        before=MINE,
        call=release(Placed(task_id="t1", line=ANN, delay_ms=HOUR_MS)),
        answer=[Held.MINE],
        after=LATER,
    ),
    Case(
        name="another's",
        before=THEIRS,
        call=release(Placed(task_id="t1", line=ANN)),
        answer=[Held.NOT_MINE],
        after=THEIRS,
    ),
    Case(
        name="already waiting",
        before=WAITING,
        call=release(Placed(task_id="t1", line=ANN)),
        answer=[Held.NOT_MINE],
        after=WAITING,
        wakes=True,
    ),
    Case(
        name="already delayed",
        before=LATER,
        call=release(Placed(task_id="t1", line=ANN)),
        answer=[Held.NOT_MINE],
        after=LATER,
    ),
    Case(
        name="missing: made again",
        before=EMPTY,
        call=release(Placed(task_id="t1", line=ANN)),
        answer=[Held.MISSING],
        after=WAITING,
        wakes=True,
    ),
    Case(
        name="missing: made again, delayed",
        before=EMPTY,
        call=release(Placed(task_id="t1", line=ANN, delay_ms=HOUR_MS)),
        answer=[Held.MISSING],
        after=LATER,
    ),
]

RENEW = [
    Case(
        name="mine",
        before=LAPSED,
        call=renew(Running(task_id="t1", line=ANN, lane="lane")),
        answer=[Held.MINE],
        after=MINE,
    ),
    Case(
        name="mine, lane not said",
        before=LAPSED,
        call=renew(Running(task_id="t1", line=ANN)),
        answer=[Held.MINE],
        after=MINE,
    ),
    Case(
        name="mine, made by a rebuild that did not know the lane",
        before=State(leased={"t1": Leased(ANN, ME, lane="")}),
        call=renew(Running(task_id="t1", line=ANN, lane="lane")),
        answer=[Held.MINE],
        after=MINE,
    ),
    Case(
        name="another's",
        before=THEIRS,
        call=renew(Running(task_id="t1", line=ANN, lane="lane")),
        answer=[Held.NOT_MINE],
        after=THEIRS,
    ),
    Case(
        name="given back by a verdict",
        before=WAITING,
        call=renew(Running(task_id="t1", line=ANN, lane="lane")),
        answer=[Held.NOT_MINE],
        after=WAITING,
    ),
    Case(
        name="missing: made again with its lane",
        before=EMPTY,
        call=renew(Running(task_id="t1", line=ANN, lane="lane")),
        answer=[Held.MISSING],
        after=MINE,
    ),
]

HAND_OVER = [
    Case(name="mine", before=MINE, call=hand_over("t1"), answer=Held.MINE, after=THEIRS),
    Case(
        name="mine, though expired",
        before=LAPSED,
        call=hand_over("t1"),
        answer=Held.MINE,
        after=THEIRS,
    ),
    Case(name="another's", before=THEIRS, call=hand_over("t1"), answer=Held.NOT_MINE, after=THEIRS),
    Case(name="unknown", before=EMPTY, call=hand_over("t1"), answer=Held.MISSING, after=EMPTY),
    Case(name="waiting", before=WAITING, call=hand_over("t1"), answer=Held.NOT_MINE, after=WAITING),
]

DUE = [
    Case(name="nothing", before=MINE, call=due(), answer=[], after=MINE),
    Case(
        name="due tasks go to the head of their lines, others stay",
        before=State(
            lines={ANN: ["t3"]},
            delayed={"t1": Delayed(ANN, due=True), "t2": Delayed(ANN), "t4": Delayed(BEN, due=True)},
        ),
        call=due(),
        answer=[],
        after=State(lines={ANN: ["t1", "t3"], BEN: ["t4"]}, delayed={"t2": Delayed(ANN)}),
        wakes=True,
    ),
    Case(
        name="no more than asked for",
        before=State(delayed={"t1": Delayed(ANN, due=True), "t2": Delayed(ANN, due=True)}),
        call=due(most_due=1),
        answer=[],
        after=State(lines={ANN: ["t1"]}, delayed={"t2": Delayed(ANN, due=True)}),
        wakes=True,
    ),
    Case(
        name="expired leases are listed and left",
        before=State(leased={"t1": Leased(ANN, ME, expired=True), "t2": Leased(ANN, OTHER)}),
        call=due(),
        answer=[Expired(task_id="t1", token=ME)],
        after=State(leased={"t1": Leased(ANN, ME, expired=True), "t2": Leased(ANN, OTHER)}),
    ),
    Case(
        name="no more leases than asked for",
        before=State(leased={"t1": Leased(ANN, ME, expired=True), "t2": Leased(ANN, ME, expired=True)}),
        call=due(most_expired=1),
        answer=[Expired(task_id="t1", token=ME)],
        after=State(leased={"t1": Leased(ANN, ME, expired=True), "t2": Leased(ANN, ME, expired=True)}),
    ),
]

SEEN = Expired(task_id="t1", token=ME)
RESOLVE = [
    Case(
        name="the task waits: to the head of its line",
        before=State(lines={ANN: ["t2"]}, leased={"t1": Leased(ANN, ME, expired=True)}),
        call=resolve((SEEN, Ready())),
        answer=1,
        after=State(lines={ANN: ["t1", "t2"]}),
        wakes=True,
    ),
    Case(
        name="the task waits, but not yet",
        before=LAPSED,
        call=resolve((SEEN, Ready(delay_ms=HOUR_MS))),
        answer=1,
        after=LATER,
    ),
    Case(name="its owner lives", before=LAPSED, call=resolve((SEEN, Owned(token=ME))), answer=1, after=MINE),
    Case(
        name="its owner lives and is another",
        before=LAPSED,
        call=resolve((SEEN, Owned(token=OTHER))),
        answer=1,
        after=THEIRS,
    ),
    Case(name="the task is over", before=LAPSED, call=resolve((SEEN, Over())), answer=1, after=EMPTY),
    Case(name="renewed meanwhile", before=MINE, call=resolve((SEEN, Ready())), answer=0, after=MINE),
    Case(
        name="claimed by another meanwhile, and expired again",
        before=State(leased={"t1": Leased(ANN, OTHER, expired=True)}),
        call=resolve((SEEN, Over())),
        answer=0,
        after=State(leased={"t1": Leased(ANN, OTHER, expired=True)}),
    ),
    Case(name="waiting meanwhile", before=LATER, call=resolve((SEEN, Ready())), answer=0, after=LATER),
    Case(name="gone meanwhile", before=EMPTY, call=resolve((SEEN, Ready())), answer=0, after=EMPTY),
]

TABLES = {
    "enqueue": ENQUEUE,
    "finish": FINISH,
    "discard": DISCARD,
    "release": RELEASE,
    "renew": RENEW,
    "hand_over": HAND_OVER,
    "due": DUE,
    "resolve_expired": RESOLVE,
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=f"{script}: {case.name}") for script, cases in TABLES.items() for case in cases],
)
async def test_state_before_call_state_after(case: Case, board: Board, scripts: Scripts) -> None:
    await board.lay_out(case.before)

    assert await case.call(scripts) == case.answer

    assert await board.read() == case.after
    assert await board.client.llen(board.key("wake")) == int(case.wakes)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{script}: {case.name}")
        for script, cases in TABLES.items()
        for case in cases
        if script in ("enqueue", "release", "renew", "resolve_expired")
    ],
)
async def test_a_repeated_call_changes_nothing_more(case: Case, board: Board, scripts: Scripts) -> None:
    """Its answer may have been lost, so a caller may repeat every operation."""
    await board.lay_out(case.before)
    await case.call(scripts)

    await case.call(scripts)

    assert await board.read() == case.after


async def test_scripts_survive_a_script_flush(board: Board, scripts: Scripts) -> None:
    await scripts.enqueue([Placed(task_id="t1", line=ANN)])
    await board.client.script_flush()

    await scripts.enqueue([Placed(task_id="t2", line=ANN)])

    assert await board.read() == State(lines={ANN: ["t1", "t2"]})


async def test_a_lease_without_a_task_is_dropped(board: Board, scripts: Scripts) -> None:
    await board.lay_out(LAPSED)
    await board.client.delete(board.key("jobs"), board.key("load"))

    assert await scripts.due(most_due=10, most_expired=10) == []

    assert await board.read() == EMPTY


async def test_the_marker_is_replaced_only_by_who_read_it(board: Board, scripts: Scripts) -> None:
    assert await scripts.mark(old="", new="run:a:")
    assert not await scripts.mark(old="", new="run:b:")
    assert not await scripts.mark(old="run:b:", new="run:c:")
    assert await scripts.mark(old="run:a:", new="run:c:")
    assert await board.client.get(board.key("swept")) == "run:c:"


async def test_a_page_adds_what_is_missing_and_moves_the_marker(board: Board, scripts: Scripts) -> None:
    before = State(lines={ANN: ["t1"]}, leased={"t2": Leased(ANN, ME)}, delayed={"t3": Delayed(ANN)})
    await board.lay_out(before)
    await board.client.set(board.key("swept"), "old")

    added = await scripts.rebuild_page(
        old="old",
        new="new",
        lease_ms=LEASE_MS,
        page=[
            ("t1", ANN, Owned(token=OTHER)),
            ("t2", ANN, Ready()),
            ("t3", ANN, Ready()),
            ("t4", ANN, Ready()),
            ("t5", BEN, Ready(delay_ms=HOUR_MS)),
            ("t6", BEN, Owned(token=OTHER)),
        ],
    )

    assert added == 3
    assert await board.read() == State(
        lines={ANN: ["t1", "t4"]},
        leased={"t2": Leased(ANN, ME), "t6": Leased(BEN, OTHER, lane="")},
        delayed={"t3": Delayed(ANN), "t5": Delayed(BEN)},
    )
    assert await board.client.get(board.key("swept")) == "new"


@pytest.mark.parametrize("marker", ["", "another"])
async def test_a_page_without_its_marker_changes_nothing(board: Board, scripts: Scripts, marker: str) -> None:
    if marker:
        await board.client.set(board.key("swept"), marker)

    added = await scripts.rebuild_page(old="old", new="new", lease_ms=LEASE_MS, page=[("t1", ANN, Ready())])

    assert added is None
    assert await board.read() == EMPTY
    assert (await board.client.get(board.key("swept")) or "") == marker


async def test_a_survey_counts_and_finds_the_oldest(board: Board, scripts: Scripts) -> None:
    await board.lay_out(
        State(
            lines={ANN: ["t0", "t3"], BEN: ["t1"], CAT: ["t2", "t4"]},
            leased={"t5": Leased(ANN, ME), "t6": Leased(ANN, ME, lane="b")},
            delayed={"t7": Delayed(ANN)},
            dead=frozenset({"t0"}),
        )
    )

    survey = await scripts.survey(most_lines=10)

    assert (survey.jobs, survey.leases, survey.delayed, survey.load) == (7, 2, 1, 2)
    assert (survey.entries, survey.lines, survey.complete) == (5, 3, True)
    assert survey.oldest_id == "t1"
    assert survey.consistent
    assert not (await scripts.survey(most_lines=2)).complete


@pytest.mark.parametrize("lost", ["q:" + ANN, "ring:d", "ring:lod", "leases", "delayed", "load", "jobs"])
async def test_a_survey_sees_a_key_that_was_lost(board: Board, scripts: Scripts, lost: str) -> None:
    await board.lay_out(
        State(
            lines={ANN: ["t1"], CAT: ["t2"]},
            leased={"t5": Leased(ANN, ME)},
            delayed={"t7": Delayed(ANN)},
        )
    )
    await board.client.delete(board.key(lost))

    assert not (await scripts.survey(most_lines=10)).consistent

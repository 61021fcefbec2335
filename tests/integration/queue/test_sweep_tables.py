"""The scripts of the sweep: state before → call → answer and state after."""

from __future__ import annotations

import pytest

from server.queue.scripts import Expired, Over, Owned, Ready, Scripts
from tests.integration.queue.board import Board, Delayed, Leased, State
from tests.integration.queue.cases import (
    ANN,
    BEN,
    CAT,
    EMPTY,
    HOUR_MS,
    LAPSED,
    LATER,
    LEASE_MS,
    ME,
    MINE,
    OTHER,
    SEEN,
    THEIRS,
    Case,
    due,
    play,
    play_twice,
    resolve,
    rows,
)

EVERY_REDIS = True

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

TABLES = {"due": DUE, "resolve_expired": RESOLVE}


@pytest.mark.parametrize("case", rows(TABLES))
async def test_state_before_call_state_after(case: Case, board: Board, scripts: Scripts) -> None:
    await play(case, board, scripts)


@pytest.mark.parametrize("case", rows({"resolve_expired": RESOLVE}))
async def test_a_repeated_call_changes_nothing_more(case: Case, board: Board, scripts: Scripts) -> None:
    await play_twice(case, board, scripts)


async def test_a_lease_without_a_task_is_dropped(board: Board, scripts: Scripts) -> None:
    await board.lay_out(LAPSED)
    await board.client.delete(board.key("jobs"), board.key("load"))

    assert await scripts.due(most_due=10, most_expired=10) == []

    assert await board.read() == EMPTY


@pytest.mark.parametrize("held_by", ["", "me", "other"])
@pytest.mark.parametrize("swept", ["", "run:a:last"])
async def test_one_holds_the_walk_and_is_told_what_it_goes_by(
    board: Board, scripts: Scripts, held_by: str, swept: str
) -> None:
    if held_by:
        await board.client.set(board.key("sweeper"), held_by, px=HOUR_MS)
    if swept:
        await board.client.set(board.key("swept"), swept)
    run_id = (await board.client.info("server"))["run_id"]

    found = await scripts.hold_sweep(holder="me", ttl_ms=LEASE_MS)

    left_ms = await board.client.pttl(board.key("sweeper"))
    if held_by == "other":
        assert found is None
        assert await board.client.get(board.key("sweeper")) == "other"
        assert left_ms > LEASE_MS
    else:
        assert found == (swept, run_id)
        assert await board.client.get(board.key("sweeper")) == "me"
        assert 0 < left_ms <= LEASE_MS
    assert (await board.client.get(board.key("swept")) or "") == swept


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

    assert (survey.jobs, survey.leases, survey.delayed) == (7, 2, 1)
    assert (survey.lanes, survey.callers) == (2, 2)
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

"""The scripts of those who submit and of those who hold: state before → call → answer and state after."""

from __future__ import annotations

import pytest

from server.ports import Held
from server.queue.scripts import Placed, Running, Scripts
from tests.integration.queue.board import Board, Delayed, Leased, State
from tests.integration.queue.cases import (
    ANN,
    BEN,
    CAT,
    EMPTY,
    HOUR_MS,
    LAPSED,
    LATER,
    ME,
    MINE,
    OTHER,
    THEIRS,
    WAITING,
    Case,
    discard,
    enqueue,
    finish,
    hand_over,
    keep_only,
    play,
    play_twice,
    release,
    renew,
    rows,
)

EVERY_REDIS = True

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

KEEP_ONLY = [
    Case(
        name="what it does not know of goes to the heads of their lines, in order",
        before=State(
            lines={ANN: ["t5"]},
            leased={
                "t1": Leased(ANN, ME),
                "t2": Leased(ANN, ME),
                "t3": Leased(BEN, ME),
                "t4": Leased(ANN, ME),
                "t6": Leased(ANN, OTHER),
            },
        ),
        call=keep_only("t4", "t9"),
        answer=3,
        after=State(
            lines={ANN: ["t1", "t2", "t5"], BEN: ["t3"]},
            leased={"t4": Leased(ANN, ME), "t6": Leased(ANN, OTHER)},
        ),
        wakes=True,
    ),
    Case(name="all are known", before=MINE, call=keep_only("t1"), answer=0, after=MINE),
    Case(name="another's", before=THEIRS, call=keep_only(), answer=0, after=THEIRS),
    Case(
        name="late, but nobody took it", before=LAPSED, call=keep_only(), answer=1, after=WAITING, wakes=True
    ),
]

DISCARD = [
    Case(
        name="wherever they are",
        before=State(
            lines={ANN: ["t1", "t4"]}, leased={"t2": Leased(ANN, OTHER)}, delayed={"t3": Delayed(ANN)}
        ),
        call=discard("t1", "t2", "t3", "t9"),
        answer=3,
        after=State(lines={ANN: ["t4"]}),
        wakes=True,
    ),
    Case(
        name="the last of its line: its entry stays for a claim",
        before=State(lines={ANN: ["t1"]}),
        call=discard("t1"),
        answer=1,
        after=State(lines={ANN: ["t1"]}, dead=frozenset({"t1"})),
        wakes=True,
    ),
    Case(
        name="behind one that lives: its entry stays until that is gone",
        before=State(lines={ANN: ["t1", "t2", "t3", "t4"]}),
        call=discard("t2", "t3"),
        answer=2,
        after=State(lines={ANN: ["t1", "t2", "t3", "t4"]}, dead=frozenset({"t2", "t3"})),
        wakes=True,
    ),
    Case(
        name="with dead ones behind it: two entries for each that dies",
        before=State(lines={ANN: ["t1", "t2", "t3", "t4"]}, dead=frozenset({"t2", "t3"})),
        call=discard("t1"),
        answer=1,
        after=State(lines={ANN: ["t3", "t4"]}, dead=frozenset({"t3"})),
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

TABLES = {
    "enqueue": ENQUEUE,
    "finish": FINISH,
    "keep_only": KEEP_ONLY,
    "discard": DISCARD,
    "release": RELEASE,
    "renew": RENEW,
    "hand_over": HAND_OVER,
}


@pytest.mark.parametrize("case", rows(TABLES))
async def test_state_before_call_state_after(case: Case, board: Board, scripts: Scripts) -> None:
    await play(case, board, scripts)


@pytest.mark.parametrize("case", rows({"enqueue": ENQUEUE, "release": RELEASE, "renew": RENEW}))
async def test_a_repeated_call_changes_nothing_more(case: Case, board: Board, scripts: Scripts) -> None:
    await play_twice(case, board, scripts)


async def test_scripts_survive_a_script_flush(board: Board, scripts: Scripts) -> None:
    await scripts.enqueue([Placed(task_id="t1", line=ANN)])
    await board.client.script_flush()

    await scripts.enqueue([Placed(task_id="t2", line=ANN)])

    assert await board.read() == State(lines={ANN: ["t1", "t2"]})

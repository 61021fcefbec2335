"""A caller at its cap is parked, and comes back: the state before → call → answer and the state after."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.ports import Held
from server.queue.scripts import Over, Owned, Placed, Ready, Running, Scripts
from tests.integration.queue.board import Board, Delayed, Leased, State
from tests.integration.queue.cases import (
    ANN,
    BEN,
    HOUR_MS,
    ME,
    OTHER,
    POOLS,
    SEEN,
    Case,
    claim,
    discard,
    due,
    enqueue,
    finish,
    hand_over,
    play,
    play_twice,
    release,
    renew,
    resolve,
    rows,
)

EVERY_REDIS = True

ANN_LOW = "lol" + ANN[3:]
ANN_XX = "xxd" + ANN[3:]
HOLDS_ONE = {"t1": Leased(ANN, ME)}
PARKED = State(lines={ANN: ["t2"]}, parked=frozenset({ANN}), leased=HOLDS_ONE)
EXPIRED = replace(PARKED, leased={"t1": Leased(ANN, ME, expired=True)})
EVERYWHERE = State(
    lines={ANN: ["t2"], ANN_LOW: ["t3"], ANN_XX: ["t4"], BEN: ["t5"]},
    parked=frozenset({ANN, ANN_LOW, ANN_XX}),
    leased=HOLDS_ONE,
)
BACK = State(lines={ANN: ["t2"]})

CLAIM = [
    Case(
        name="a caller at its cap is parked, the next one is served",
        before=State(lines={ANN: ["t2"], BEN: ["t5"]}, leased=HOLDS_ONE),
        call=claim(cap=1),
        answer=["t5"],
        after=replace(PARKED, leased={**HOLDS_ONE, "t5": Leased(BEN, ME)}),
    ),
    Case(
        name="in every pool and priority",
        before=replace(EVERYWHERE, parked=frozenset()),
        call=claim(cap=1),
        answer=["t5"],
        after=State(
            lines={ANN: ["t2"], ANN_LOW: ["t3"], ANN_XX: ["t4"]},
            parked=EVERYWHERE.parked,
            leased={**HOLDS_ONE, "t5": Leased(BEN, ME)},
        ),
    ),
    Case(
        name="one that comes to its cap within the call",
        before=State(lines={ANN: ["t1", "t2", "t3"], ANN_LOW: ["t4"]}),
        call=claim(cap=2),
        answer=["t1", "t2"],
        after=State(
            lines={ANN: ["t3"], ANN_LOW: ["t4"]},
            parked=frozenset({ANN, ANN_LOW}),
            leased={"t1": Leased(ANN, ME), "t2": Leased(ANN, ME)},
        ),
    ),
    Case(
        name="leases of every worker, pool and lane count",
        before=State(
            lines={ANN: ["t2"]}, leased={"t8": Leased(ANN_LOW, OTHER, "other"), "t9": Leased(ANN_XX, ME, "")}
        ),
        call=claim(cap=2),
        answer=[],
        after=State(
            lines={ANN: ["t2"]},
            parked=frozenset({ANN}),
            leased={"t8": Leased(ANN_LOW, OTHER, "other"), "t9": Leased(ANN_XX, ME, "")},
        ),
    ),
    Case(
        name="0 is no cap",
        before=State(lines={ANN: ["t2"]}, leased=HOLDS_ONE),
        call=claim(cap=0),
        answer=["t2"],
        after=State(leased={**HOLDS_ONE, "t2": Leased(ANN, ME)}),
    ),
    Case(name="still at the cap: stays parked", before=PARKED, call=claim(cap=1), answer=[], after=PARKED),
    Case(
        name="more than a lowered cap: stays parked",
        before=replace(PARKED, leased={**HOLDS_ONE, "t9": Leased(ANN, ME)}),
        call=claim(cap=1),
        answer=[],
        after=replace(PARKED, leased={**HOLDS_ONE, "t9": Leased(ANN, ME)}),
    ),
    Case(
        name="the cap has risen: comes back and is served",
        before=PARKED,
        call=claim(cap=2),
        answer=["t2"],
        after=State(leased={**HOLDS_ONE, "t2": Leased(ANN, ME)}),
    ),
    Case(
        name="the cap is gone: comes back and is served",
        before=PARKED,
        call=claim(cap=0),
        answer=["t2"],
        after=State(leased={**HOLDS_ONE, "t2": Leased(ANN, ME)}),
    ),
    Case(
        name="the cap has risen, but there is no slot: others are woken",
        before=EVERYWHERE,
        call=claim(cap=2, free=1),
        answer=["t5"],
        after=State(
            lines={ANN: ["t2"], ANN_LOW: ["t3"], ANN_XX: ["t4"]},
            leased={**HOLDS_ONE, "t5": Leased(BEN, ME)},
        ),
        wakes=True,
    ),
    Case(
        name="a parked line of dead entries is cleared away when it is back",
        before=State(
            lines={ANN: ["x1", "x2"]}, parked=frozenset({ANN}), dead=frozenset({"x1", "x2"}), leased=HOLDS_ONE
        ),
        call=claim(cap=2),
        answer=[],
        after=State(leased=HOLDS_ONE),
    ),
]

ENDS_FIRST = [
    Case(
        name="what is over leaves, and its room is there for the next",
        before=State(lines={ANN: ["t2"]}, leased={"t1": Leased(ANN, ME)}),
        call=claim(cap=1, over=["t1"]),
        answer=["t2"],
        after=State(leased={"t2": Leased(ANN, ME)}),
    ),
    Case(
        name="a parked caller whose task is over is back in time",
        before=PARKED,
        call=claim(cap=1, over=["t1"]),
        answer=["t2"],
        after=State(leased={"t2": Leased(ANN, ME)}),
    ),
    Case(
        name="it makes room for what this worker does not take: others are woken",
        before=State(lines={ANN: ["t2"]}, parked=frozenset({ANN}), leased={"t1": Leased(ANN_XX, ME)}),
        call=claim(cap=1, over=["t1"], pools=POOLS[1:]),
        answer=[],
        after=State(lines={ANN: ["t2"]}),
        wakes=True,
    ),
    Case(
        name="what another holds stays with it, and what nobody knows is nothing",
        before=State(leased={"t1": Leased(ANN, OTHER)}),
        call=claim(cap=9, over=["t1", "t7"]),
        answer=[],
        after=State(leased={"t1": Leased(ANN, OTHER)}),
    ),
    Case(
        name="late, but nobody took it",
        before=State(lines={BEN: ["t5"]}, leased={"t1": Leased(ANN, ME, expired=True)}),
        call=claim(cap=9, over=["t1"]),
        answer=["t5"],
        after=State(leased={"t5": Leased(BEN, ME)}),
    ),
]

COMES_BACK = [
    Case(name="finish", before=PARKED, call=finish("t1"), answer=[Held.MINE], after=BACK, wakes=True),
    Case(
        name="finish: to all its rings",
        before=EVERYWHERE,
        call=finish("t1"),
        answer=[Held.MINE],
        after=replace(EVERYWHERE, parked=frozenset(), leased={}),
        wakes=True,
    ),
    Case(
        name="finish of one of several: the next claim parks it again if need be",
        before=replace(PARKED, leased={**HOLDS_ONE, "t9": Leased(ANN_XX, OTHER)}),
        call=finish("t1"),
        answer=[Held.MINE],
        after=replace(BACK, leased={"t9": Leased(ANN_XX, OTHER)}),
        wakes=True,
    ),
    Case(name="discard of what it runs", before=PARKED, call=discard("t1"), answer=1, after=BACK, wakes=True),
    Case(
        name="discard of all it has",
        before=PARKED,
        call=discard("t1", "t2"),
        answer=2,
        after=replace(BACK, dead=frozenset({"t2"})),
        wakes=True,
    ),
    Case(
        name="release, to the head of the parked line",
        before=PARKED,
        call=release(Placed(task_id="t1", line=ANN)),
        answer=[Held.MINE],
        after=State(lines={ANN: ["t1", "t2"]}),
        wakes=True,
    ),
    Case(
        name="release, delayed",
        before=PARKED,
        call=release(Placed(task_id="t1", line=ANN, delay_ms=HOUR_MS)),
        answer=[Held.MINE],
        after=replace(BACK, delayed={"t1": Delayed(ANN)}),
        wakes=True,
    ),
    Case(
        name="an expired lease, given back",
        before=EXPIRED,
        call=resolve((SEEN, Ready())),
        answer=1,
        after=State(lines={ANN: ["t1", "t2"]}),
        wakes=True,
    ),
    Case(
        name="an expired lease, over",
        before=EXPIRED,
        call=resolve((SEEN, Over())),
        answer=1,
        after=BACK,
        wakes=True,
    ),
]

STAYS = [
    Case(
        name="another caller's finish",
        before=replace(PARKED, leased={**HOLDS_ONE, "t9": Leased(BEN, ME)}),
        call=finish("t9"),
        answer=[Held.MINE],
        after=PARKED,
    ),
    Case(
        name="an expired lease whose owner lives",
        before=EXPIRED,
        call=resolve((SEEN, Owned(token=ME))),
        answer=1,
        after=PARKED,
    ),
    Case(
        name="renew",
        before=EXPIRED,
        call=renew(Running(task_id="t1", line=ANN, lane="lane")),
        answer=[Held.MINE],
        after=PARKED,
    ),
    Case(
        name="renew in another lane",
        before=PARKED,
        call=renew(Running(task_id="t1", line=ANN, lane="other")),
        answer=[Held.MINE],
        after=replace(PARKED, leased={"t1": Leased(ANN, ME, "other")}),
    ),
    Case(
        name="hand over",
        before=PARKED,
        call=hand_over("t1"),
        answer=Held.MINE,
        after=replace(PARKED, leased={"t1": Leased(ANN, OTHER)}),
    ),
    Case(
        name="more work in the parked line",
        before=PARKED,
        call=enqueue(Placed(task_id="t3", line=ANN)),
        answer=1,
        after=replace(PARKED, lines={ANN: ["t2", "t3"]}),
    ),
    Case(
        name="more work in the parked line, all of which is dead",
        before=replace(PARKED, dead=frozenset({"t2"})),
        call=enqueue(Placed(task_id="t3", line=ANN)),
        answer=1,
        after=replace(PARKED, lines={ANN: ["t2", "t3"]}, dead=frozenset({"t2"})),
    ),
    Case(
        name="work in another line of the caller stands in its ring until a claim",
        before=PARKED,
        call=enqueue(Placed(task_id="t3", line=ANN_LOW)),
        answer=1,
        after=replace(PARKED, lines={ANN: ["t2"], ANN_LOW: ["t3"]}),
        wakes=True,
    ),
    Case(
        name="a delayed task of the parked line is due",
        before=replace(PARKED, delayed={"t3": Delayed(ANN, due=True)}),
        call=due(),
        answer=[],
        after=replace(PARKED, lines={ANN: ["t3", "t2"]}),
    ),
    Case(
        name="discard of what waits",
        before=PARKED,
        call=discard("t2"),
        answer=1,
        after=replace(PARKED, dead=frozenset({"t2"})),
    ),
]


@pytest.mark.parametrize(
    "case",
    rows({"claim": CLAIM, "claim with ends": ENDS_FIRST, "comes back": COMES_BACK, "stays parked": STAYS}),
)
async def test_state_before_call_state_after(case: Case, board: Board, scripts: Scripts) -> None:
    await play(case, board, scripts)


@pytest.mark.parametrize("case", rows({"comes back": COMES_BACK, "stays parked": STAYS}))
async def test_a_repeated_call_changes_nothing_more(case: Case, board: Board, scripts: Scripts) -> None:
    await play_twice(case, board, scripts)

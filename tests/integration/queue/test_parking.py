"""Who is parked and who comes back: order, bounds, damage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.queue.scripts import Owned, Ready, Scripts
from server.queue.task_queue import RedisTaskQueue
from tests.integration.queue.board import Board, Leased, State
from tests.integration.queue.cases import (
    ANN,
    BEN,
    EMPTY,
    LEASE_MS,
    ME,
    OTHER,
    POOLS,
    claim,
    finish,
)

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


async def test_who_comes_back_stands_behind_those_who_waited(board: Board, scripts: Scripts) -> None:
    await board.lay_out(replace(PARKED, lines={ANN: ["t2"], BEN: ["t5"]}))
    await finish("t1")(scripts)
    assert await board.members("ring:lod") == [BEN[3:], ANN[3:]]


async def test_a_page_of_a_rebuild_leaves_a_caller_parked(board: Board, scripts: Scripts) -> None:
    await board.lay_out(PARKED)
    await board.client.set(board.key("swept"), "old")
    page: list[tuple[str, str, Ready | Owned]] = [("t3", ANN, Ready()), ("t4", ANN_XX, Owned(token=OTHER))]
    await scripts.rebuild_page(old="old", new="new", lease_ms=LEASE_MS, page=page)
    assert await board.read() == replace(
        PARKED, lines={ANN: ["t2", "t3"]}, leased={**HOLDS_ONE, "t4": Leased(ANN_XX, OTHER, lane="")}
    )


# --- bounds ------------------------------------------------------------------------------------------------


def many(count: int, *, leases: int, parked: bool) -> State:
    """So many callers with a ready task and so many leases each."""
    lines = {f"lod{n:011}": [f"t{n}"] for n in range(count)}
    return State(
        lines=lines,
        parked=frozenset(lines if parked else ()),
        leased={f"{line}-{n}": Leased(line, OTHER) for line in lines for n in range(leases)},
    )


async def test_a_claim_brings_few_callers_back_at_a_time(board: Board, scripts: Scripts) -> None:
    await board.lay_out(many(5, leases=1, parked=True))
    left = []
    for _ in range(3):
        await claim(cap=2, most_parked=2)(scripts)
        left.append(len((await board.read()).parked))
    assert left == [3, 1, 0]


async def test_every_parked_caller_is_looked_at_in_turn(board: Board, scripts: Scripts) -> None:
    """Those before it are at their cap, and more than one claim looks at."""
    before = many(7, leases=2, parked=True)
    last = f"lod{6:011}"
    leased = {task_id: lease for task_id, lease in before.leased.items() if task_id != f"{last}-1"}
    await board.lay_out(replace(before, leased=leased))
    taken: list[str] = []
    for _ in range(4):
        taken += await claim(cap=2, most_parked=2)(scripts)
    assert taken == ["t6"]
    assert len((await board.read()).parked) == 6


async def test_parking_many_callers_takes_several_claims(board: Board, queue: RedisTaskQueue) -> None:
    """Each is bounded, and says that there is more to do."""
    before = many(150, leases=1, parked=False)
    await board.lay_out(replace(before, lines={**before.lines, BEN: ["t-ben"]}))
    first = await queue.claim(worker=ME, free=1, pools=POOLS, lease_ms=LEASE_MS, caller_cap=1)
    second = await queue.claim(worker=ME, free=1, pools=POOLS, lease_ms=LEASE_MS, caller_cap=1)
    assert (first.tasks, first.next_due_ms) == ([], 0)
    assert [task.task_id for task in second.tasks] == ["t-ben"]
    assert len((await board.read()).parked) == 150


# --- damage ------------------------------------------------------------------------------------------------


async def test_a_survey_walks_parked_lines(board: Board, scripts: Scripts) -> None:
    await board.lay_out(EVERYWHERE)
    survey = await scripts.survey(most_lines=10)
    assert (survey.entries, survey.lines, survey.complete, survey.oldest_id) == (4, 4, True, "t2")
    assert survey.consistent
    assert not (await scripts.survey(most_lines=3)).complete


@pytest.mark.parametrize("lost", ["parked", "park:" + ANN[3:]])
async def test_a_survey_sees_that_a_parked_line_was_lost(board: Board, scripts: Scripts, lost: str) -> None:
    await board.lay_out(PARKED)
    await board.client.delete(board.key(lost))
    assert not (await scripts.survey(most_lines=10)).consistent


@pytest.mark.parametrize("field", ["llane", "c" + ANN[3:]])
async def test_a_survey_sees_a_wrong_count(board: Board, scripts: Scripts, field: str) -> None:
    await board.lay_out(PARKED)
    await board.client.hincrby(board.key("load"), field, 1)
    assert not (await scripts.survey(most_lines=10)).consistent


async def test_a_lane_may_be_called_like_a_caller(board: Board, scripts: Scripts) -> None:
    before = State(lines={ANN: ["t2"]}, leased={"t9": Leased(BEN, OTHER, lane="c" + ANN[3:])})
    await board.lay_out(before)
    assert await claim(cap=1)(scripts) == ["t2"]
    assert (await scripts.survey(most_lines=10)).consistent


async def test_a_reset_drops_who_is_parked(board: Board, queue: RedisTaskQueue) -> None:
    await board.lay_out(EVERYWHERE)
    await queue.recovery.reset()
    assert await board.read() == EMPTY
    assert not await board.client.keys(board.keys.prefix.replace("{", "[{]") + "*")

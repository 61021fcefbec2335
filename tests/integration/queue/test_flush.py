"""Redis is disposable: whenever it loses everything, every task still comes to its one end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from server.queue.task_queue import RedisTaskQueue
from tests.integration.queue.board import Board
from tests.integration.queue.world import World


async def story(world: World) -> None:
    """A bit of everything, in a fixed order."""
    ann, ben = world.start_worker(), world.start_worker()
    for n in range(6):
        await world.submit(f"t{n}", enqueue=n != 5)
    await world.sweep_until_quiet()
    await world.claim(ann, free=2)
    await world.claim(ben, free=2)
    await world.renew(ann)
    await world.renew(ben)
    for task_id in list(world.running[ann])[:1]:
        await world.complete(ann, task_id)
    for task_id in list(world.running[ben])[:1]:
        await world.hand_back(ben, task_id, delay_ms=60_000)
    world.declare_lost(ben)
    await world.board.expire_leases()
    await world.sweep_until_quiet()
    await world.claim(ann, free=2)
    await world.renew(ben)
    await world.submit("t6")
    await world.renew(ann)


class Strikes:
    """Lets something happen just before the n-th command of a client, or never."""

    def __init__(self, client: Any, at: int | None, strike: Callable[[], Awaitable[object]]) -> None:
        self.commands = 0
        self._client = client
        self._execute = client.execute_command
        self._at = at
        self._strike = strike
        client.execute_command = self.execute_command

    def end(self) -> None:
        """What comes now is not counted, and nothing happens before it."""
        self._client.execute_command = self._execute

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        if self.commands == self._at:
            self._at = None
            await self._strike()
        self.commands += 1
        return await self._execute(*arguments, **options)


@pytest.fixture(params=[0, 1], ids=["no cap", "one task per caller"])
def caller_cap(request: pytest.FixtureRequest) -> int:
    """With one task per caller everybody is parked most of the time."""
    return int(request.param)


async def test_no_strike(queue: RedisTaskQueue, board: Board, caller_cap: int) -> None:
    world = World(queue, board, caller_cap=caller_cap)
    await story(world)
    await world.settle()


Play = Callable[[RedisTaskQueue, int], Awaitable[Strikes]]
"""Plays over the queue and lets something happen before the command of this number."""


@pytest.fixture
def struck_everywhere(redis_url: str, redis_prefix: str, board: Board) -> Callable[[Play], Awaitable[int]]:
    """Plays again and again, struck before the first command, the second, and so on; how often that was."""

    async def struck(play: Play) -> int:
        at, commands = 0, 1
        while at < commands:
            async with aclosing(RedisTaskQueue(redis_url, prefix=redis_prefix)) as queue:
                commands = (await play(queue, at)).commands
            at += 1
            await board.client.flushall()
        return at

    return struck


@pytest.mark.long
async def test_flushed_before_any_command(
    struck_everywhere: Callable[[Play], Awaitable[int]], board: Board, caller_cap: int
) -> None:
    async def play(queue: RedisTaskQueue, at: int) -> Strikes:
        world = World(queue, board, caller_cap=caller_cap)
        strikes = Strikes(queue._client, at, board.client.flushall)
        await story(world)
        await world.settle()
        return strikes

    assert await struck_everywhere(play) > 40


@pytest.mark.parametrize("flushed", [True, False], ids=["flushed", "another takes over"])
async def test_a_rebuild_is_struck_before_any_command_and_gone_on_with_by_another(
    struck_everywhere: Callable[[Play], Awaitable[int]], board: Board, flushed: bool
) -> None:
    async def play(queue: RedisTaskQueue, at: int) -> Strikes:
        world = World(queue, board)
        for n in range(9):
            await world.submit(f"t{n}", enqueue=False)
        first, second = world.sweep, world.another_sweep()

        async def strike() -> None:
            if flushed:
                await board.client.flushall()
            else:
                await board.client.delete(board.key("sweeper"))
            await second.step()
            await second.step()

        strikes = Strikes(queue._client, at, strike)
        while (await first.step()).more:
            pass
        strikes.end()
        await board.client.delete(board.key("sweeper"))
        world.sweep = second
        await world.settle()
        return strikes

    assert await struck_everywhere(play) > 8


@pytest.mark.long
async def test_others_work_on_while_a_damaged_queue_is_dropped(
    struck_everywhere: Callable[[Play], Awaitable[int]], board: Board, caller_cap: int
) -> None:
    """Dropping takes several commands; whatever comes between them must not be lost."""

    async def play(queue: RedisTaskQueue, at: int) -> Strikes:
        world = World(queue, board, caller_cap=caller_cap)
        await story(world)
        worker = world.start_worker()
        await board.client.delete(board.key("load"))

        async def work() -> None:
            for task_id in ("u0", "u1", "u2"):
                await world.submit(task_id)
            await world.claim(worker, free=1)
            await world.claim(worker, free=1)
            await world.renew(worker)

        strikes = Strikes(queue._client, at, work)
        await world.sweep_until_quiet()
        strikes.end()
        await world.settle()
        return strikes

    assert await struck_everywhere(play) > 20


@pytest.mark.usefixtures("no_leaked_keys")
async def test_nothing_is_left_behind(queue: RedisTaskQueue, board: Board, caller_cap: int) -> None:
    world = World(queue, board, caller_cap=caller_cap)
    await story(world)
    await board.client.flushall()
    await world.settle()

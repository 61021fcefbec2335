"""Workers, store, queue and sweep in one process, stepped by hand: what happens to tasks as a whole.

Workers follow the rules of claims and fences, in the order store then queue, and do no real work.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from server.domain.task import TaskState
from server.ports import Claimed, Entry, Lane, Pool
from server.queue.sweep import Sweep
from server.queue.task_queue import RedisTaskQueue
from tests.fakes_store import MemoryStore
from tests.integration.queue.board import Board

LEASE_MS = 60_000
PAGE = 3
PAGES_PER_STEP = 2
NARROW = Lane(name="narrow", limit=2)
SHARED = Lane(name="shared", limit=3)
POOLS = (
    Pool(code="lo", lanes=(NARROW, SHARED)),
    Pool(code="xx", lanes=(SHARED,)),
)


@dataclass(frozen=True, slots=True)
class Held:
    """A task as the worker that runs it sees it."""

    attempt: int
    lane: str


class World:
    """The store decides, the queue may be struck at any time, and `settle` brings every task to its end."""

    def __init__(self, queue: RedisTaskQueue, board: Board, *, caller_cap: int = 0) -> None:
        self.queue = queue
        self.board = board
        self.store = MemoryStore()
        self.sweep = self.another_sweep()
        self.running: dict[str, dict[str, Held]] = {}
        """Worker → the tasks that it believes to hold."""
        self.claimed: dict[str, list[Claimed]] = {}
        """Worker → what it claimed and has not looked at yet."""
        self.completed: Counter[str] = Counter()
        self.caller_cap = caller_cap
        """Most tasks one caller may have leased when workers claim; 0 = any number."""

    def another_sweep(self) -> Sweep:
        """That of one more process."""
        return Sweep(
            self.queue,
            self.store,
            lease_ms=LEASE_MS,
            walk_interval_ms=0,
            page=PAGE,
            pages_per_step=PAGES_PER_STEP,
        )

    def start_worker(self) -> str:
        """A worker with its row in the store; its id."""
        worker = self.store.worker(f"w{len(self.running):07}")
        self.running[worker] = {}
        self.claimed[worker] = []
        return worker

    async def submit(self, task_id: str, *, enqueue: bool = True, **fields: object) -> None:
        """Accept a task; without `enqueue` the process died between store and queue."""
        task = self.store.add(task_id, **fields)
        if enqueue:
            await self.queue.enqueue([Entry.of(task)])

    async def claim(self, worker: str, *, free: int) -> None:
        """Claim, ask the store about each, and begin what may begin."""
        await self.take(worker, free=free)
        await self.look(worker)

    async def take(self, worker: str, *, free: int) -> None:
        """Claim only."""
        claims = await self.queue.claim(
            worker=worker, free=free, pools=POOLS, lease_ms=LEASE_MS, caller_cap=self.caller_cap
        )
        self.claimed[worker] += claims.tasks

    async def look(self, worker: str) -> None:
        """What a worker does with what it claimed (rule W3)."""
        for claimed in self.claimed[worker]:
            task = self.store.tasks[claimed.task_id]
            if task.state.terminal:
                await self.queue.finish(worker=worker, task_ids=[task.id])
            elif task.id in self.running[worker]:
                continue
            elif task.state is TaskState.PROCESSING and not self.store.rows[task.owner].lost:
                await self.queue.hand_over(
                    entry=Entry.of(task), worker=worker, owner=task.owner, lease_ms=LEASE_MS
                )
            else:
                number = task.attempt + 1
                self.store.change(task.id, state=TaskState.PROCESSING, owner=worker, attempt=number)
                self.running[worker][task.id] = Held(number, claimed.lane)
        self.claimed[worker] = []

    async def complete(self, worker: str, task_id: str) -> None:
        """The worker has the result: the store decides whether it still may say so."""
        if self._holds(worker, task_id):
            self.store.change(task_id, state=TaskState.COMPLETED)
            self.completed[task_id] += 1
        await self._leave(worker, task_id)

    async def hand_back(self, worker: str, task_id: str, *, delay_ms: int = 0) -> None:
        """The worker was refused: the task waits again."""
        if self._holds(worker, task_id):
            self.store.change(task_id, state=TaskState.PENDING)
        await self._leave(worker, task_id, delay_ms=delay_ms)

    def _holds(self, worker: str, task_id: str) -> bool:
        task = self.store.tasks[task_id]
        held = (TaskState.PROCESSING, worker, self.running[worker][task_id].attempt)
        return (task.state, task.owner, task.attempt) == held

    async def _leave(self, worker: str, task_id: str, *, delay_ms: int = 0) -> None:
        """An id leaves the queue only when the store calls it over; else it is given back (rule W4)."""
        task = self.store.tasks[task_id]
        if task.state.terminal:
            await self.queue.finish(worker=worker, task_ids=[task_id])
        else:
            await self.queue.release(worker=worker, entries=[Entry.of(task, delay_ms=delay_ms)])
        del self.running[worker][task_id]

    async def renew(self, worker: str) -> None:
        """The worker's heartbeat."""
        entries = [
            Entry.of(self.store.tasks[task_id], lane=held.lane)
            for task_id, held in self.running[worker].items()
        ]
        await self.queue.renew(worker=worker, entries=entries, lease_ms=LEASE_MS)

    def declare_lost(self, worker: str) -> None:
        """The verdict on a worker. It may go on, not knowing it: then its writes must change nothing."""
        self.store.worker(worker, lost=True)

    async def sweep_until_quiet(self) -> None:
        """Steps of the sweep until a whole walk has found nothing more to do at once."""
        quiet = 0
        for _ in range(200):
            quiet = 0 if (await self.sweep.step()).more else quiet + 1
            if quiet > 2 + len(self.store.tasks) // (PAGE * PAGES_PER_STEP):
                return
        raise AssertionError("the sweep does not come to rest")

    def live(self) -> set[str]:
        """Ids of tasks that are not over."""
        return {task.id for task in self.store.tasks.values() if not task.state.terminal}

    async def settle(self, *, sound: bool = True) -> None:
        """Time passes, everybody who holds something ends it, and one more worker takes the rest.

        Without `sound` a key was lost, which dead entries may hide from the sweep until they are skipped.
        """
        await self.sweep_until_quiet()
        assert self.live() <= set(await self.board.jobs()), "after a sweep every live task is queued"
        if sound:
            await self.board.read()
        for worker in self.running:
            await self.look(worker)
            for task_id in list(self.running[worker]):
                await self.complete(worker, task_id)
        worker = self.start_worker()
        for _ in range(100):
            await self.board.expire_leases()
            await self.board.make_due()
            await self.sweep_until_quiet()
            await self.claim(worker, free=100)
            while self.running[worker]:
                for task_id in list(self.running[worker]):
                    await self.complete(worker, task_id)
                await self.claim(worker, free=100)
            if sound:
                await self.board.read()
            if not self.live() and not (await self.board.jobs() or await self.board.lines()):
                break
        await self.board.read()
        assert not self.live(), "every task comes to its end"
        assert await self.queue.depth() == 0, "and leaves the queue"
        assert self.completed == dict.fromkeys(self.store.tasks, 1), "each was completed once"

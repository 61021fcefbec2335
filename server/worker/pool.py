"""The worker: slots, the claim loop, the heartbeat of what it runs, and an orderly stop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any

import structlog
from msgspec import Struct
from msgspec.structs import replace

from server.domain.errors import StoreUnavailable
from server.domain.fairness import caller_cap, pool_limit
from server.domain.routing import pool_code
from server.domain.task import Task
from server.metrics import Metrics
from server.ports import Claimed, Claims, Entry, Lane, Pool, QueueUnavailable, WorkQueue
from server.providers.contract import Provider
from server.worker.beat import Beat
from server.worker.cancel import Cancel
from server.worker.ends import Ends
from server.worker.execution import Execution, Holder

IDLE_WAIT_S = 2.0
CANCEL_S = 10.0
"""What a cancelled task has to record its attempt."""
REDIS_RETRY_S = 0.5
HELD_BACK_S = 0.25
"""A worker that has its fill of one pool looks so often for work of the others. It takes no wake-up: that may
be for work which only somebody else can take."""


class _Held(Struct):
    """A task this worker runs."""

    worker: str
    """The id it was claimed under: after a verdict the process goes on under another one."""
    pool: str
    work: asyncio.Task[None]
    cancel: Cancel
    claimed: Claimed
    entry: Entry | None = None
    again: tuple[Claimed, str] | None = None
    """It was claimed once more while this run was ending: run it again then."""


def pools_of(providers: Iterable[Provider]) -> tuple[Pool, ...]:
    """One pool and one lane per provider. Raises ValueError when two providers' queues would share a name."""
    pools = tuple(
        Pool(code=pool_code(p.name), lanes=(Lane(name=p.name, limit=p.capacity),)) for p in providers
    )
    if len({pool.code for pool in pools}) < len(pools):
        raise ValueError("two providers begin with the same two letters, which name their queues")
    return pools


class WorkerPool:
    """Runs up to `concurrency` tasks at once. A slot first, then the task: nothing waits in a slot."""

    def __init__(
        self,
        *,
        queue: WorkQueue,
        execution: Execution,
        beat: Beat,
        pools: tuple[Pool, ...],
        concurrency: int,
        lease_s: float,
        cancels: Callable[[Sequence[str]], Awaitable[Collection[str]]],
        metrics: Metrics,
        live_slots: Callable[[], int] = lambda: 0,
    ) -> None:
        """`live_slots` says how many slots all workers have, as far as known; never less than these."""
        self._queue = queue
        self._execution = execution
        self._beat = beat
        self._pools = pools
        self._concurrency = concurrency
        self._lease_s = lease_s
        self._cancels = cancels
        self._metrics = metrics
        self._live_slots = live_slots
        self._held: dict[str, _Held] = {}
        self._ends = Ends(queue)
        self._unheard = False
        """Whether a claim may have taken tasks that this process does not know of."""
        self._stirred = asyncio.Event()
        """Set when a task has ended here, and at a stop."""
        self._stopping = asyncio.Event()
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Claim and run until `stop`; side tasks that die end the worker instead of dying silently."""
        slots = self._metrics.worker_slots
        slots.labels("busy").set_function(lambda: len(self._held))
        slots.labels("free").set_function(lambda: self._concurrency - len(self._held))
        try:
            async with asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(self._renew(), name="lease-heartbeat"),
                    group.create_task(self._look_for_cancels(), name="look-for-cancels"),
                ]
                await self._claim_until_stopped()
                await self._wait_for_held()
                for task in beside:
                    task.cancel()
        except BaseException:  # nothing may run on against stores that are about to close
            self._stopping.set()
            await self.cancel_held()
            raise

    def stop(self) -> None:
        """Claim nothing more; `run` returns when what is held has ended or was cancelled."""
        self._stopping.set()
        self._stirred.set()

    def cancel(self, task_ids: Sequence[str]) -> None:
        """The cancel of these tasks was asked for: those that run here end."""
        for task_id in task_ids:
            if (held := self._held.get(task_id)) is not None:
                held.cancel.ask()

    async def cancel_held(self) -> None:
        """The grace is over: cancel what still runs; each attempt is recorded as it stands."""
        works = [held.work for held in self._held.values()]
        for work in works:
            work.cancel()  # once: a second one would cut short the record of the attempt
        if works:
            _, stuck = await asyncio.wait(works, timeout=CANCEL_S)
            await asyncio.sleep(0)  # lets the done callbacks run
            if stuck:
                self._log.error("tasks did not let go in time", tasks=sorted(w.get_name() for w in stuck))
        await self._ends.tell(again=False)

    async def _claim_until_stopped(self) -> None:
        while not self._stopping.is_set():
            self._stirred.clear()
            free = self._concurrency - len(self._held)
            if free <= 0:
                await self._stirred.wait()
                continue
            if not self._beat.fresh:
                await self._ends.tell()
                await self._wait_for_end(self._lease_s / 6)
                continue
            worker, pools = self._beat.id, self._open_pools()
            try:
                claims = await self._claim(worker, free, pools)
                found = await self._execution.look_up(claims.tasks)
                if claims.tasks and self._stopping.is_set():
                    await self._keep_only_held(worker)
                    break
                for claimed in claims.tasks:
                    self._start(claimed, worker, found.get(claimed.task_id))
                if not claims.tasks and not self._stopping.is_set():
                    due_s = IDLE_WAIT_S if claims.next_due_ms is None else claims.next_due_ms / 1000
                    if len(pools) < len(self._pools):
                        await self._wait_for_end(min(HELD_BACK_S, max(0.001, due_s)))
                    else:
                        await self._wait_for_work(min(IDLE_WAIT_S, max(0.001, due_s)))
            except QueueUnavailable as error:
                self._log.warning("Redis is away; nothing can be claimed", error=str(error))
                await self._pause(REDIS_RETRY_S)

    async def _claim(self, worker: str, free: int, pools: Sequence[Pool]) -> Claims:
        """Claim, and tell the queue in the same step what has ended."""
        if self._ends.of_others(worker):
            await self._ends.tell()
        if self._unheard and (returned := await self._keep_only_held(worker)):
            self._log.warning("claims whose answer was lost are given back", tasks=returned)
        self._unheard = True
        async with self._ends.told(worker) as over:
            claims = await self._queue.claim(
                worker=worker,
                free=free,
                pools=pools,
                lease_ms=round(self._lease_s * 1000),
                caller_cap=caller_cap(max(self._concurrency, self._live_slots())),
                over=over,
            )
        self._unheard = False
        return claims

    async def _keep_only_held(self, worker: str) -> int:
        """Give back what the queue says that this worker holds and that does not run here; how many."""
        known = [*self._held, *self._ends.of(worker)]
        return await self._queue.keep_only(worker=worker, task_ids=known)

    def _open_pools(self) -> list[Pool]:
        """The pools that this worker has not its fill of, and how much more it takes of each."""
        limit = pool_limit(self._concurrency, pools=len(self._pools))
        busy = Counter(held.pool for held in self._held.values())
        return [
            replace(pool, most=limit - busy[pool.code]) for pool in self._pools if busy[pool.code] < limit
        ]

    async def _wait_for_end(self, timeout_s: float) -> None:
        """Until a task held here ends, the time is over, or a stop is asked for."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._stirred.wait()
        except TimeoutError:
            pass

    async def _wait_for_work(self, timeout_s: float) -> None:
        """Until there is work, the time is over, or a stop is asked for; the queue hears what ends."""
        waiting = asyncio.create_task(self._queue.wait_for_work(timeout_s=timeout_s), name="wait-for-work")
        try:
            while not waiting.done() and not self._stopping.is_set():
                stirred = asyncio.create_task(self._stirred.wait(), name="wait-for-end")
                try:
                    await asyncio.wait({waiting, stirred}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    stirred.cancel()
                self._stirred.clear()
                await self._ends.tell()
            if waiting.done():
                waiting.result()
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _start(self, claimed: Claimed, worker: str, task: Task | None = None) -> None:
        task_id = claimed.task_id
        running = self._held.get(task_id)
        if running is not None:  # it runs here already: just ending, or under this worker's former id
            running.again = (claimed, worker)
            return

        def hold(entry: Entry | None) -> None:
            held = self._held.get(task_id)
            if held is not None:
                held.entry = entry

        def over() -> None:
            hold(None)
            self._ends.add(worker, task_id)

        def may_call() -> bool:
            return not self._stopping.is_set() and self._beat.fresh and self._beat.id == worker

        cancel = Cancel()
        holder = Holder(
            worker=worker,
            hold=hold,
            over=over,
            may_call=may_call,
            cancel=cancel,
        )
        run: Coroutine[Any, Any, None] = self._execution.run(claimed, holder, task)
        work = asyncio.create_task(run, name=f"task-{task_id}")
        self._held[task_id] = _Held(
            worker=worker, pool=claimed.pool, work=work, cancel=cancel, claimed=claimed
        )
        work.add_done_callback(lambda done: self._ended(task_id, done))

    def _ended(self, task_id: str, work: asyncio.Task[None]) -> None:
        held = self._held.pop(task_id)
        again = held.again
        self._stirred.set()
        if not work.cancelled() and (error := work.exception()) is not None:
            # One task that trips over a bug must not end the others. Nobody takes it from a worker that
            # lives: after a lease this one looks at it again, as at a lost worker's task.
            self._metrics.task_crashes.inc()
            self._log.error("a task ran into a bug; it is tried again", task_id=task_id, exc_info=error)
            asyncio.get_running_loop().call_later(self._lease_s, self._resume, held)
        elif again is not None and not self._stopping.is_set():
            self._start(*again)

    def _resume(self, held: _Held) -> None:
        """Once more, unless the worker stops or holds the task again by now."""
        if not self._stopping.is_set() and held.claimed.task_id not in self._held:
            self._start(held.claimed, held.worker)

    async def _renew(self) -> None:
        """Prolong the leases of what runs here, every third of a lease."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                for worker in {held.worker for held in self._held.values()}:
                    async with self._ends.telling:
                        await self._queue.renew(
                            worker=worker,
                            entries=[
                                held.entry
                                for held in self._held.values()
                                if held.worker == worker and held.entry is not None
                            ],
                            lease_ms=round(self._lease_s * 1000),
                        )
            except QueueUnavailable as error:
                self._log.warning("Redis is away; leases are not prolonged", error=str(error))

    async def _look_for_cancels(self) -> None:
        """Find the cancels not heard of, every third of a lease; the store may take its time to answer."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            if self._held:
                try:
                    self.cancel(list(await self._cancels(list(self._held))))
                except StoreUnavailable:
                    pass  # what is held is held on to, and the next look comes soon

    async def _wait_for_held(self) -> None:
        while self._held or self._ends:
            await self._ends.tell(again=False)
            if self._held:
                works = [held.work for held in self._held.values()]
                await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0)  # lets the done callbacks run

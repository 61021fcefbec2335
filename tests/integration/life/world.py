"""A whole deployment in one event loop: real store, queue, outputs, sweep and executions, struck at will."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace
from redis.asyncio import Redis
from ulid import ULID

from server.domain import life
from server.domain.catalogue import Catalogue
from server.domain.errors import StoreUnavailable
from server.domain.task import Task, TaskState
from server.metrics import Metrics
from server.ports import Entry, Lane, Pool, QueueUnavailable, WorkQueue, now_ms
from server.providers.contract import ProviderError
from server.queue.connection import open_client
from server.queue.keys import QueueKeys
from server.queue.sweep import Sweep
from server.queue.task_queue import RedisTaskQueue
from server.store.outputs import FilesystemOutputStore, output_key, result_key
from server.store.sqlite import SqliteTaskStore
from server.worker.attempt import Budget
from server.worker.cancel import Cancel
from server.worker.execution import Execution
from tests.executions import run_claimed
from tests.fakes_store import make_task
from tests.faults import Faults, faulty
from tests.integration.life.counter import SalesCounter
from tests.integration.queue.board import Board
from tests.waiting import until

PATIENCE_S = 20.0
LEASE_MS = 600_000
TTL_MS = 3_600_000
POOL = Pool(code="lo", lanes=(Lane(name="local", limit=100),))


@dataclass(slots=True, eq=False)
class Node:
    """One worker process: it may be cut off from everything at once, as a kill does."""

    id: str
    execution: Execution
    queue: WorkQueue
    faults: tuple[Faults, ...]
    works: dict[asyncio.Task[None], tuple[str, Cancel]] = field(default_factory=dict)
    lost: bool = False
    gone: bool = False
    """Killed, or stopped."""


class Deployment:
    """What the machine acts upon."""

    def __init__(self, redis: Redis, keys: QueueKeys) -> None:
        self.redis = redis
        self.keys = keys
        self.board = Board(redis, keys)
        self.counter = SalesCounter()
        self.nodes: list[Node] = []
        self.accepted: dict[str, Task] = {}
        self.time_shift_ms = 0
        self.caller_cap = 0
        """Most tasks that one user has running at once; 0 = any number."""
        self.store: SqliteTaskStore
        self.queue: RedisTaskQueue
        self.outputs: FilesystemOutputStore
        self.sweep: Sweep
        self._metrics = Metrics(app="test", version="0", role="worker")
        self._stack = AsyncExitStack()

    @classmethod
    async def start(cls, directory: Path, redis_url: str, prefix: str) -> Deployment:
        """An empty one, with nobody in it."""
        stack = AsyncExitStack()
        redis = await stack.enter_async_context(open_client(redis_url, timeout_s=PATIENCE_S))
        await redis.flushall()
        deployment = cls(redis, QueueKeys(prefix))
        deployment._stack = stack
        deployment.store = await SqliteTaskStore.open(directory / "tasks.db", timeout_s=PATIENCE_S)
        stack.push_async_callback(deployment.store.aclose)
        deployment.outputs = await FilesystemOutputStore.open(directory / "outputs")
        stack.push_async_callback(deployment.outputs.aclose)
        deployment.queue = RedisTaskQueue(redis_url, prefix=prefix, timeout_s=PATIENCE_S)
        stack.push_async_callback(deployment.queue.aclose)
        deployment.sweep = Sweep(
            deployment.queue,
            deployment.store,
            lease_ms=LEASE_MS,
            clock=deployment.now_ms,
            walk_interval_ms=0,
            page=2,
            pages_per_step=1,
        )
        return deployment

    async def aclose(self) -> None:
        """Everybody is gone, everything is closed."""
        for node in self.nodes:
            await self.kill(node)
        await self._stack.aclose()

    def now_ms(self) -> int:
        """The clock of everybody but Redis."""
        return now_ms() + self.time_shift_ms

    # --- callers --------------------------------------------------------------------------------------

    async def submit(self, *, images: int, max_paid: int, enqueue: bool) -> str:
        """Accept a task; without `enqueue` the API died between store and queue."""
        now = self.now_ms()
        task = make_task(
            str(ULID()),
            create_time_ms=now,
            update_time_ms=now,
            ttl_time_ms=now + TTL_MS,
            max_paid_attempts=max_paid,
            user_id=f"user {len(self.accepted) % 2}",
            request=replace(make_task("any").request, sequence=images > 1, max_images=images),
        )
        assert await self.store.insert(task)
        self.accepted[task.id] = task
        if enqueue:
            await self.queue.enqueue([Entry.of(task)])
        return task.id

    async def cancel(self, task_id: str) -> None:
        """What the API does, heard by the worker at once."""
        task = await self.read(task_id)
        if task.state is TaskState.PENDING:
            if await self.store.write(life.cancel_pending(task, self.now_ms())):
                await self.queue.discard([task_id])
        elif task.state is TaskState.PROCESSING and not task.cancel_requested:
            await self.store.write(life.request_cancel(task, self.now_ms()))
            for node in self.nodes:
                for held_id, cancel in node.works.values():
                    if held_id == task_id:
                        cancel.ask()
        await self.come_to_rest()

    async def read(self, task_id: str) -> Task:
        """The task; every accepted one can be found."""
        task = await self.store.get(task_id)
        assert task is not None, "an accepted task cannot be found"
        return task

    # --- workers --------------------------------------------------------------------------------------

    async def add_node(self) -> Node:
        """One more worker."""
        worker = f"w{len(self.nodes):07}"
        store, store_faults = faulty(self.store, lambda: StoreUnavailable("cut off"))
        queue, queue_faults = faulty(self.queue, lambda: QueueUnavailable("cut off"))
        outputs, output_faults = faulty(self.outputs, lambda: StoreUnavailable("cut off"))
        execution = Execution(
            store=store,
            queue=queue,
            outputs=outputs,
            providers={self.counter.name: self.counter},
            route=Catalogue(()).route,
            new_key=output_key,
            result_key=result_key,
            budget=Budget(image_timeout_s=3_600, max_retries=2, lease_ms=LEASE_MS),
            metrics=self._metrics,
            now_ms=self.now_ms,
        )
        await self.store.register_worker(worker, host="h", pid=1)
        node = Node(worker, execution, queue, (store_faults, queue_faults, output_faults))
        self.nodes.append(node)
        return node

    async def claim(self, node: Node, free: int) -> None:
        """Take tasks, and run them until they stand still."""
        claims = await self.queue.claim(
            worker=node.id, free=free, pools=[POOL], lease_ms=LEASE_MS, caller_cap=self.caller_cap
        )
        held = {task_id for task_id, _ in node.works.values()}
        for claimed in claims.tasks:
            if claimed.task_id not in held:  # it ignores ids that it already runs
                cancel = Cancel()
                work = asyncio.create_task(
                    run_claimed(node.execution, claimed, worker=node.id, queue=node.queue, cancel=cancel)
                )
                node.works[work] = (claimed.task_id, cancel)
        await self.come_to_rest()

    async def declare_lost(self, node: Node) -> None:
        """The store's verdict; the node may go on, not knowing."""
        if not node.lost:
            node.lost = await self.store.declare_lost(node.id, beat=0)

    async def kill(self, node: Node) -> None:
        """Nothing of it reaches anybody any more."""
        node.gone = True
        for faults in node.faults:
            faults.away = True
        for work in node.works:
            work.cancel()
        if node.works:
            await asyncio.wait(node.works)
        node.works.clear()

    async def stop(self, node: Node) -> None:
        """A stop whose grace is over at once (rule W5): what surely bought nothing is given back."""
        node.gone = True
        for work in node.works:
            work.cancel()
        if node.works:
            await asyncio.wait(node.works)
        node.works.clear()
        await self.store.remove_worker(node.id)

    async def come_to_rest(self) -> None:
        """Until every piece of work stands still at the counter, or is over."""

        def at_rest() -> bool:
            for node in self.nodes:
                for work in [work for work in node.works if work.done()]:
                    work.result()
                    del node.works[work]
            works = sum(len(node.works) for node in self.nodes)
            return works == sum(call.standing for call in self.counter.open)

        await until(at_rest, within_s=PATIENCE_S, what="rest")

    async def step_call(self, choice: int, fail: Callable[[bool], ProviderError | None]) -> None:
        """One of the open calls takes its next stage, or fails."""
        call = self.counter.open[choice % len(self.counter.open)]
        await call.go_on(fail(call.asking))
        await self.come_to_rest()

    async def finish_calls(self, task_id: str) -> None:
        """The provider delivers everything that is being asked of it for this task."""
        while places := [n for n, call in enumerate(self.counter.open) if call.task_id == task_id]:
            await self.step_call(places[0], lambda _: None)

    # --- time -----------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Redis forgets everything."""
        await self.redis.flushall()

    async def sweep_until_quiet(self) -> None:
        """Whole walks of the sweep, until one finds nothing."""
        quiet = 0
        for _ in range(300):
            quiet = 0 if (await self.sweep.step()).more else quiet + 1
            if quiet > 2 + len(self.accepted):
                return
        raise AssertionError("the sweep does not come to rest")

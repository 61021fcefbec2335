"""One worker's world: a real store, queue and output store, each of which can be made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec.structs import replace
from redis.asyncio import Redis
from ulid import ULID

from server.domain.catalogue import Parameters, Route
from server.domain.errors import Reason, StoreUnavailable
from server.domain.money import Price
from server.domain.request import ImageRequest
from server.domain.task import StoredImage, Task, TaskState
from server.metrics import Metrics
from server.ports import (
    Claimed,
    Entry,
    Lane,
    OutputStore,
    Pool,
    QueueUnavailable,
    TaskStore,
    WorkQueue,
    now_ms,
)
from server.providers.contract import MadeImage, Provider
from server.queue.connection import open_client
from server.queue.keys import Job, QueueKeys
from server.queue.sweep import Sweep
from server.queue.task_queue import RedisTaskQueue
from server.store.outputs import FilesystemOutputStore, output_key, result_key
from server.store.sqlite import SqliteTaskStore
from server.worker.attempt import Budget
from server.worker.cancel import Cancel
from server.worker.execution import Execution
from server.worker.outputs import verify_image
from tests.executions import run_claimed
from tests.fakes_store import make_task
from tests.faults import Faults, faulty
from tests.waiting import until

LEASE_MS = 15_000
PATIENCE_S = 5.0
"""Longer than the service waits for its stores: a busy machine is no outage."""
POOL = Pool(code="lo", lanes=(Lane(name="local", limit=1_000),))
ME = "worker-1"
OTHER = "worker-2"


WHOLE_SEQUENCES = Parameters(groups=True)


class Bench:
    """What is around an Execution, and how tests look at it."""

    def __init__(
        self,
        *,
        store: SqliteTaskStore,
        queue: RedisTaskQueue,
        outputs: FilesystemOutputStore,
        redis: Redis,
        keys: QueueKeys,
    ) -> None:
        self.real_queue = queue
        self.store: TaskStore
        self.store, self.store_faults = faulty(store, lambda: StoreUnavailable("The store is asleep."))
        self.queue: WorkQueue
        self.queue, self.queue_faults = faulty(queue, lambda: QueueUnavailable("Redis is asleep."))
        self.outputs: OutputStore
        self.outputs, self.output_faults = faulty(outputs, lambda: StoreUnavailable("Outputs are asleep."))
        self.metrics = Metrics(app="test", version="0", role="worker")
        self.time_shift_ms = 0
        self.keys = keys
        self.accepted: list[str] = []
        self._redis = redis

    def now_ms(self) -> int:
        """The worker's clock: the real one, moved by `time_shift_ms`."""
        return now_ms() + self.time_shift_ms

    def execution(
        self,
        *providers: Provider,
        image_timeout_s: float = 10.0,
        max_retries: int = 3,
        parameters: Parameters = WHOLE_SEQUENCES,
        price: Price | None = None,
    ) -> Execution:
        """An Execution with these providers, each of which makes every model in this way, at this price."""

        def route(model: str, provider: str) -> Route:
            return Route(
                provider=provider, upstream_model=f"{model}-at-{provider}", parameters=parameters, price=price
            )

        return Execution(
            store=self.store,
            queue=self.queue,
            outputs=self.outputs,
            providers={p.name: p for p in providers},
            route=route,
            new_key=output_key,
            result_key=result_key,
            budget=Budget(image_timeout_s=image_timeout_s, max_retries=max_retries, lease_ms=LEASE_MS),
            metrics=self.metrics,
            now_ms=self.now_ms,
        )

    # --- tasks -----------------------------------------------------------------------------------

    async def accept(self, *, images: int = 1, ttl_ms: int = 3_600_000, **changes: object) -> Task:
        """A task in store and queue; `changes` are fields of Task, `images` > 1 makes it a sequence."""
        present = now_ms()
        values: dict[str, object] = {
            "create_time_ms": present,
            "update_time_ms": present,
            "ttl_time_ms": present + ttl_ms,
            "request": _request(images),
        }
        task = make_task(str(ULID()), **{**values, **changes})
        assert await self.store.insert(task)
        await self.queue.enqueue([Entry.of(task)])
        self.accepted.append(task.id)
        return task

    async def task(self, task_id: str) -> Task:
        """The task as the store has it; the store may be asleep for everybody else."""
        away, self.store_faults.away = self.store_faults.away, False
        try:
            task = await self.store.get(task_id)
        finally:
            self.store_faults.away = away
        assert task is not None
        return task

    # --- the queue -------------------------------------------------------------------------------

    async def keep(self, made: MadeImage, *, task_id: str, attempt: int) -> StoredImage:
        """Verify an image and store its bytes, as an attempt does."""
        image = await verify_image(made, task_id=task_id, attempt=attempt, new_key=output_key)
        await self.outputs.put(image.key, made.data, mime_type=image.mime_type)
        return image

    async def claim(self, *, worker: str = ME, lease_ms: int = LEASE_MS) -> Claimed:
        """The next task, which is due within a second."""
        async with asyncio.timeout(5):
            while True:
                claims = await self.real_queue.claim(worker=worker, free=1, pools=[POOL], lease_ms=lease_ms)
                if claims.tasks:
                    return claims.tasks[0]
                assert claims.next_due_ms is not None, "nothing is queued"
                assert claims.next_due_ms <= 1_000, "nothing is due soon"
                await asyncio.sleep(claims.next_due_ms / 1000 + 0.001)

    async def run(
        self,
        execution: Execution,
        *,
        worker: str = ME,
        may_call: Callable[[], bool] = lambda: True,
    ) -> Task:
        """Claim the next task and take it as far as it goes; the task afterwards."""
        claimed = await self.claim(worker=worker)
        await run_claimed(execution, claimed, worker=worker, queue=self.queue, may_call=may_call)
        return await self.task(claimed.task_id)

    def start(
        self,
        execution: Execution,
        claimed: Claimed,
        *,
        worker: str = ME,
        may_call: Callable[[], bool] = lambda: True,
        cancel: Cancel | None = None,
    ) -> asyncio.Task[None]:
        """Run a claimed task in the background."""
        work = run_claimed(
            execution, claimed, worker=worker, queue=self.queue, may_call=may_call, cancel=cancel
        )
        return asyncio.create_task(work, name=f"task-{claimed.task_id}")

    async def place(self, task_id: str) -> str:
        """Where the queue has the task: `ready`, `delayed`, `leased to <worker>` or `gone`."""
        value = await self._redis.hget(self.keys.named("jobs"), task_id)
        if value is None:
            return "gone"
        job = Job.decode(str(value))
        return {"r": "ready", "d": "delayed", "l": f"leased to {job.token}"}[job.flag]

    async def due_in_ms(self, task_id: str) -> int:
        """In how many milliseconds the delayed task is due."""
        due = await self._redis.zscore(self.keys.named("delayed"), task_id)
        assert due is not None, "the task is not delayed"
        return round(due) - now_ms()

    async def flush(self) -> None:
        """Redis forgets this queue."""
        async for key in self._redis.scan_iter(match=self.keys.prefix + "*"):
            await self._redis.delete(key)

    async def all_ended(self) -> bool:
        """Whether every task that was accepted is over."""
        self.store_faults.wake()
        return all([(await self.task(task_id)).state.terminal for task_id in self.accepted])

    def sweep(self) -> Sweep:
        """A sweep over store and queue."""
        return Sweep(self.real_queue, self.store, lease_ms=LEASE_MS, clock=self.now_ms)

    # --- metrics ---------------------------------------------------------------------------------

    def count(self, name: str, **labels: str) -> float:
        """The value of one series; 0 when nothing was counted yet."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def stale_writes(self) -> float:
        return self.count("imagegen_stale_writes_total")

    def finished(self, state: TaskState) -> float:
        return self.count("imagegen_tasks_finished_total", outcome=state.value)

    def failures(self, reason: Reason, provider: str = "local") -> float:
        return self.count("imagegen_attempt_failures_total", provider=provider, reason=reason.value)

    def attempts(self, outcome: str, provider: str = "local") -> float:
        return self.count("imagegen_provider_requests_total", provider=provider, outcome=outcome)


async def refused(faults: Faults, method: str, *, times: int = 2) -> None:
    """The port is asked for the method so many times more."""
    before = faults.calls[method]
    await until(lambda: faults.calls[method] >= before + times, within_s=5, what=f"{times} tries of {method}")


def _request(images: int) -> ImageRequest:
    return replace(make_task("any").request, sequence=images > 1, max_images=images)


@asynccontextmanager
async def running_bench(directory: Path, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    """A world of its own in this directory and behind this prefix."""
    async with AsyncExitStack() as stack:
        store = await SqliteTaskStore.open(directory / "tasks.db", timeout_s=PATIENCE_S)
        stack.push_async_callback(store.aclose)
        outputs = await FilesystemOutputStore.open(directory / "outputs")
        stack.push_async_callback(outputs.aclose)
        queue = await RedisTaskQueue.connect(redis_url, prefix=prefix, timeout_s=PATIENCE_S)
        stack.push_async_callback(queue.aclose)
        redis = open_client(redis_url, timeout_s=PATIENCE_S)
        stack.push_async_callback(redis.aclose)
        yield Bench(store=store, queue=queue, outputs=outputs, redis=redis, keys=QueueKeys(prefix))

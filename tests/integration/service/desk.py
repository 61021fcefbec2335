"""The use cases over a real store, queue and output store, each of which can be made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from server.domain.admission import Defaults, Draft
from server.domain.errors import StoreUnavailable
from server.domain.request import MAX_REFERENCE_BYTES
from server.domain.routing import Routing
from server.domain.task import LiveTask, Task
from server.downloads import Downloader, reach
from server.metrics import Metrics
from server.ports import Downloads, OutputStore, QueueUnavailable, TaskEvents, TaskStore, now_ms
from server.providers.catalogue import load_catalogue
from server.queue.events import RedisTaskEvents
from server.queue.task_queue import RedisTaskQueue
from server.service.cancels import Cancels
from server.service.line import Line
from server.service.references import References
from server.service.submits import Submission, Submits
from server.service.tasks import Tasks
from server.service.waits import Waits
from server.service.withdrawals import Withdrawals
from server.store.outputs import FilesystemOutputStore, reference_key
from server.store.sqlite import SqliteTaskStore
from tests.faults import faulty

PATIENCE_S = 5.0
"""Longer than the service waits for its stores: a busy machine is no outage."""
CALLER = "ann"
CATALOGUE = load_catalogue()
GOOD = Draft(prompt="a cat", model="local-canvas", size="64x64")
FINGERPRINT = "f" * 64


class SilentEvents:
    """Events that never come; `connected` says what they claim about themselves."""

    def __init__(self, *, connected: bool) -> None:
        self.connected = connected
        self.times_connected = 1
        self.looks = 0
        """How often somebody wanted to know whether they were away meanwhile."""

    @property
    def connections(self) -> int:
        """See TaskEvents."""
        self.looks += 1
        return self.times_connected

    async def listen(self, on_change: Callable[[Sequence[str]], None]) -> None:
        """See TaskEvents."""
        await asyncio.Event().wait()


class Desk:
    """The use cases, and what is behind them."""

    def __init__(
        self,
        *,
        store: SqliteTaskStore,
        outputs: FilesystemOutputStore,
        queue: RedisTaskQueue,
        events: TaskEvents,
        downloads: Downloads,
        queue_max_depth: int,
    ) -> None:
        self.store: TaskStore
        self.store, self.store_faults = faulty(store, lambda: StoreUnavailable("The store is asleep."))
        self.outputs: OutputStore
        self.outputs, self.output_faults = faulty(outputs, lambda: StoreUnavailable("Outputs are asleep."))
        self.real_queue = queue
        self.queue, self.queue_faults = faulty(queue, lambda: QueueUnavailable("Redis is asleep."))
        self.catalogue = CATALOGUE
        self.metrics = Metrics(
            app="test", version="0", role="api", models=[model.id for model in self.catalogue.models]
        )
        self.line = Line(self.queue)
        self.events = events
        self.time_shift_ms = 0
        self.waits = Waits(store=self.store, events=events, metrics=self.metrics)
        self.references = References(
            store=self.store,
            outputs=self.outputs,
            downloads=downloads,
            reference_key=reference_key,
        )
        self.tasks = Tasks(store=self.store, waits=self.waits, metrics=self.metrics, now_ms=self._now_ms)
        self.submits = Submits(
            store=self.store,
            references=self.references,
            line=self.line,
            withdrawals=Withdrawals(store=self.store, queue=self.queue, now_ms=self._now_ms),
            tasks=self.tasks,
            catalogue=self.catalogue,
            routing=Routing(configured=frozenset({"local"}), stand_in=True),
            defaults=Defaults(model="local-canvas", size="2K", max_paid_attempts=2),
            metrics=self.metrics,
            queue_max_depth=queue_max_depth,
            now_ms=self._now_ms,
        )
        self.cancels = Cancels(
            tasks=self.tasks,
            store=self.store,
            queue=self.queue,
            metrics=self.metrics,
            now_ms=self._now_ms,
        )

    def _now_ms(self) -> int:
        return now_ms() + self.time_shift_ms

    async def submit(
        self, *, caller: str = CALLER, fingerprint: str = FINGERPRINT, draft: Draft = GOOD, **changes: object
    ) -> Task:
        """Submit a good request; `changes` are fields of Draft."""
        asked = replace(draft, **changes)
        return await self.submits.submit(Submission(draft=asked, caller=caller, fingerprint=fingerprint))

    async def live(self) -> Sequence[LiveTask]:
        """Every task that is not over, as the store has it."""
        return await self.store.live_page(after="", limit=1_000)

    def submitted(self, model: str = "local-canvas") -> float:
        """How many tasks were counted as accepted."""
        return (
            self.metrics.registry.get_sample_value("imagegen_tasks_submitted_total", {"model": model}) or 0.0
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The line and the waits run in the background."""
        background = [
            asyncio.create_task(self.line.run(), name="line"),
            asyncio.create_task(self.waits.listen(), name="waits"),
        ]
        try:
            yield
            for task in background:
                assert not task.done(), f"{task.get_name()} has ended"
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)


@asynccontextmanager
async def open_desk(
    directory: Path,
    redis_url: str,
    prefix: str,
    *,
    events: TaskEvents | None = None,
    queue_max_depth: int = 100_000,
) -> AsyncIterator[Desk]:
    """A desk in this directory and behind this prefix; without `events` those of Redis."""
    async with AsyncExitStack() as stack:
        store = await SqliteTaskStore.open(directory / "tasks.db", timeout_s=PATIENCE_S)
        stack.push_async_callback(store.aclose)
        outputs = await FilesystemOutputStore.open(directory / "outputs")
        stack.push_async_callback(outputs.aclose)
        downloads = Downloader(reach(allow_private=True), max_bytes=MAX_REFERENCE_BYTES)
        stack.push_async_callback(downloads.aclose)
        queue = RedisTaskQueue(redis_url, prefix=prefix, timeout_s=PATIENCE_S)
        stack.push_async_callback(queue.aclose)
        yield Desk(
            store=store,
            outputs=outputs,
            queue=queue,
            events=events or RedisTaskEvents(redis_url, prefix=prefix),
            downloads=downloads,
            queue_max_depth=queue_max_depth,
        )

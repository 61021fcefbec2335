"""One claimed task: read it, mark the attempt, make the images, store them, record the end.

The order is the promise: no call without a mark in the store, no COMPLETED before the bytes are kept, no
end in the queue before the end in the store. Every write is conditional on the attempt; a worker that was
overtaken changes nothing and lets go.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from server.domain import life, verdicts
from server.domain.errors import Reason, StoreUnavailable, TaskError
from server.domain.life import Write
from server.domain.request import ReferenceKind
from server.domain.task import AttemptOutcome, StoredImage, Task, TaskState
from server.domain.verdicts import Failure
from server.metrics import Metrics
from server.ports import Claimed, Entry, OutputStore, QueueUnavailable, TaskStore, WorkQueue
from server.providers.contract import Generation, MadeImage, Provider, ProviderError, Sent
from server.worker.failures import nothing_made, understand
from server.worker.outputs import store_image

T = TypeVar("T")
STORE_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one attempt may take, and how often it may be repeated."""

    image_timeout_s: float
    max_retries: int
    lease_ms: int


class Fenced(Exception):
    """The store refused a write: a successor has the task, or it is over."""


class Execution:
    """Runs claimed tasks; holds no state of any of them."""

    def __init__(
        self,
        *,
        store: TaskStore,
        queue: WorkQueue,
        outputs: OutputStore,
        providers: Mapping[str, Provider],
        upstream_model: Callable[[str, str], str],
        new_key: Callable[[str, int, int, str], str],
        budget: Budget,
        metrics: Metrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._queue = queue
        self._outputs = outputs
        self._providers = providers
        self._upstream_model = upstream_model
        self._new_key = new_key
        self._budget = budget
        self._metrics = metrics
        self._now_ms = now_ms
        self._random = random.Random()
        self._log = structlog.get_logger(__name__)

    async def run(
        self, claimed: Claimed, *, worker: str, hold: Callable[[Entry], None], may_call: Callable[[], bool]
    ) -> None:
        """Take the claimed task as far as it goes now; returns when this worker has let go of it.

        `hold` is told the queue entry as soon as it is known, so that the lease is prolonged with it.
        `may_call` is asked before an attempt is marked and again before it is sent: while it says no (the
        worker stops, or its beat is stale) the task is given back. On cancellation (the grace of a stop is
        over) the attempt is recorded as it stands.
        """
        task_id = claimed.task_id
        while True:
            task = await self._persist(lambda: self._store.get(task_id))
            if task is None or task.state.terminal:
                await self._leave(worker, task_id)
                return
            hold(replace(_entry(task), lane=claimed.lane))
            if await self._step(task, worker, may_call):
                return

    async def _step(self, task: Task, worker: str, may_call: Callable[[], bool]) -> bool:
        """Decide on what the store says; False when the store has moved on meanwhile: read again."""
        now = self._now_ms()
        if task.state is TaskState.PENDING:
            if task.cancel_requested:
                return await self._end(task, life.cancel_pending(task, now), worker)
            if life.expired(task, now):
                return await self._end(task, life.expire(task, now), worker)
            if task.not_before_ms > now:
                await self._give_back(task, worker, delay_ms=task.not_before_ms - now)
                return True
        else:
            if task.owner != worker and not await self._lost(task.owner):
                await self._hand_over(task, worker)
                return True
            verdict = verdicts.lost_worker(task, now)
            if verdict is not None:
                return await self._end(task, verdict, worker)
        provider = self._providers.get(task.provider)
        if provider is None:
            self._log.error("no such provider in this worker", provider=task.provider, task_id=task.id)
            await self._give_back(task, worker, delay_ms=self._budget.lease_ms)
            return True
        if not may_call():
            await self._give_back(task, worker, delay_ms=0)
            return True
        write, marked = life.mark(task, worker=worker, provider=provider.name, paid=provider.paid, now_ms=now)
        try:
            won = await self._mark(write, marked)
        except asyncio.CancelledError:  # nothing was sent; the next claim finds out whether it was marked
            await self._give_back(task, worker, delay_ms=0)
            raise
        if not won:
            return False
        if task.start_time_ms == 0:
            self._metrics.task_wait.observe((now - task.create_time_ms) / 1000)
        if may_call():
            await self._attempt(marked, provider, worker)
        else:
            if not await self._persist(lambda: self._store.write(verdicts.after_drain(marked, now))):
                self._stale(marked, worker)
            await self._give_back(marked, worker, delay_ms=0)
        return True

    async def _mark(self, write: Write, marked: Task) -> bool:
        """Whether the mark is in the store, also when only the store's word on it was lost."""
        if await self._persist(lambda: self._store.write(write)):
            return True
        task = await self._persist(lambda: self._store.get(marked.id))
        mine = (marked.state, marked.attempt, marked.owner)
        return task is not None and (task.state, task.attempt, task.owner) == mine

    async def _attempt(self, task: Task, provider: Provider, worker: str) -> None:
        started = time.perf_counter()
        images: dict[int, StoredImage] = dict(task.images)
        delay_ms: int | None = None
        try:
            write = await self._generate(task, provider, images)
        except Fenced:
            self._stale(task, worker)
            await self._give_back(task, worker, delay_ms=0)
            return
        except asyncio.CancelledError:
            await self._record_stop(task, provider, images, worker)
            raise
        except Exception as error:
            write, delay_ms = self._judge(task, provider, images, self._understood(error, provider))
        outcome = str(write.set[f"attempts.{task.attempt}.outcome"])
        self._metrics.provider_requests.labels(provider.name, outcome).inc()
        self._metrics.provider_duration.labels(provider.name).observe(time.perf_counter() - started)
        if delay_ms is None:
            if not await self._end(task, write, worker):
                self._stale(task, worker)
                await self._give_back(task, worker, delay_ms=0)
        else:
            if not await self._persist(lambda: self._store.write(write)):
                self._stale(task, worker)
            await self._give_back(task, worker, delay_ms=delay_ms)

    async def _generate(self, task: Task, provider: Provider, images: dict[int, StoredImage]) -> Write:
        """Call the provider; every image is kept, and of a sequence shown, as it arrives."""

        async def keep(made: MadeImage) -> None:
            async with keeping:  # a provider may have several images at once
                # The time to keep an image is not the provider's: while a store is away the result is held.
                left_s = (bound.when() or 0.0) - loop.time()
                bound.reschedule(None)
                stored = await self._persist(
                    lambda: store_image(
                        self._outputs, made, task_id=task.id, attempt=task.attempt, new_key=self._new_key
                    )
                )
                images[stored.index] = stored
                if task.images_wanted > 1:
                    await self._write_own(life.add_image(task, stored, self._now_ms()))
                    await self._announce(task.id)
                bound.reschedule(loop.time() + left_s)

        loop, keeping = asyncio.get_running_loop(), asyncio.Lock()
        generation = Generation(
            task_id=task.id,
            upstream_model=self._upstream_model(task.model, provider.name),
            request=task.request,
            references=await self._references(task),
            indexes=life.missing_images(task),
        )
        timeout_s = self._budget.image_timeout_s
        async with asyncio.timeout(timeout_s) as bound:
            generated = await provider.generate(generation, timeout_s=timeout_s, progress=keep)
        for failed in generated.failures:
            await self._write_own(life.add_failure(task, failed.index, failed.error, self._now_ms()))
        if not images:
            error = generated.failures[0].error if generated.failures else nothing_made()
            self._metrics.attempt_failures.labels(provider.name, error.reason.value).inc()
            refused = life.fail(task, error, self._now_ms(), outcome=AttemptOutcome.REJECTED)
            return life.without_call(refused, task)
        return self._complete(task, images)

    def _complete(self, task: Task, images: Mapping[int, StoredImage]) -> Write:
        """The end of a task that has its images; those of a sequence are in the store already."""
        fresh = [image for index, image in images.items() if index not in task.images]
        return life.complete_with(task, fresh if task.images_wanted == 1 else (), self._now_ms())

    def _judge(
        self, task: Task, provider: Provider, images: Mapping[int, StoredImage], failure: Failure
    ) -> tuple[Write, int | None]:
        """What becomes of a failed attempt, as `verdicts.after_failure`; all images there is no failure."""
        made = replace(task, images=images)
        if not life.missing_images(made):
            return self._complete(task, images), None
        self._metrics.attempt_failures.labels(provider.name, failure.error.reason.value).inc()
        return verdicts.after_failure(
            made,
            failure,
            now_ms=self._now_ms(),
            max_retries=self._budget.max_retries,
            jitter=self._random.random(),
        )

    def _understood(self, error: Exception, provider: Provider) -> Failure:
        failure = understand(error, paid=provider.paid, timeout_s=self._budget.image_timeout_s)
        if failure.error.reason is Reason.INTERNAL_ERROR:  # its text is for the log alone
            self._log.error("unexpected error in an attempt", provider=provider.name, exc_info=error)
        return failure

    async def _references(self, task: Task) -> tuple[bytes, ...]:
        found: list[bytes] = []
        for reference in task.request.references:
            if reference.kind is not ReferenceKind.STORED:
                continue  # links are the provider's to read
            key = reference.value
            stored = await self._persist(lambda key=key: self._outputs.get(key))  # type: ignore[misc]
            if stored is None:
                raise ProviderError(
                    "A reference image of the request is no longer stored. Send it again with a new request.",
                    sent=Sent.NOT_SENT,
                    reason=Reason.REFERENCE_UNAVAILABLE,
                    retryable=False,
                )
            found.append(stored.data)
        return tuple(found)

    async def _record_stop(
        self, task: Task, provider: Provider, images: Mapping[int, StoredImage], worker: str
    ) -> None:
        """The grace is over while a call is under way: in doubt if it is paid, else given back."""
        delay_ms: int | None = 0
        if provider.paid or not life.missing_images(replace(task, images=images)):
            error = TaskError(
                reason=Reason.DRAINING, message="The worker was stopped during the call.", retryable=True
            )
            failure = Failure(outcome=AttemptOutcome.IN_DOUBT, error=error, paid=True)
            write, delay_ms = self._judge(task, provider, images, failure)
        else:
            write = verdicts.after_drain(task, self._now_ms())
        try:
            won = await self._store.write(write)
        except StoreUnavailable as error_:
            self._log.warning("the stop could not be recorded", task_id=task.id, error=str(error_))
            return
        if won and delay_ms is None:
            await self._leave(worker, task.id)
        else:
            await self._give_back(task, worker, delay_ms=delay_ms or 0)

    # --- the store ------------------------------------------------------------------------------------

    async def _persist(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Repeat until the store answers: what was made is held, never dropped."""
        tries = 0
        while True:
            try:
                return await operation()
            except StoreUnavailable as error:
                pause = STORE_RETRY_S[min(tries, len(STORE_RETRY_S) - 1)]
                tries += 1
                self._log.warning("the store is away; holding on", error=str(error), retry_s=pause)
                await asyncio.sleep(pause)

    async def _write_own(self, write: Write) -> None:
        if not await self._persist(lambda: self._store.write(write)):
            raise Fenced(write.task_id)

    async def _end(self, task: Task, write: Write, worker: str) -> bool:
        """Write the task's end and take it out of the queue; False when the store refused."""
        if not await self._persist(lambda: self._store.write(write)):
            return False
        self._metrics.tasks_finished.labels(str(write.set["state"])).inc()
        self._metrics.task_duration.observe((self._now_ms() - task.create_time_ms) / 1000)
        await self._leave(worker, task.id)
        return True

    async def _lost(self, worker: str) -> bool:
        """Whether the store says that this worker is lost; a missing row counts as lost."""
        rows = await self._persist(self._store.workers)
        return all(row.id != worker or row.lost for row in rows)

    def _stale(self, task: Task, worker: str) -> None:
        self._metrics.stale_writes.inc()
        self._log.warning(
            "the store refused a write of an overtaken attempt",
            task_id=task.id,
            attempt=task.attempt,
            worker=worker,
        )

    # --- the queue: a step that Redis does not take is repaired by the sweep ----------------------------

    async def _leave(self, worker: str, task_id: str) -> None:
        await self._tell(self._queue.finish(worker=worker, task_ids=(task_id,)))

    async def _give_back(self, task: Task, worker: str, *, delay_ms: int) -> None:
        entry = replace(_entry(task), delay_ms=delay_ms)
        await self._tell(self._queue.release(worker=worker, entries=(entry,)))

    async def _hand_over(self, task: Task, worker: str) -> None:
        await self._tell(
            self._queue.hand_over(
                entry=_entry(task), worker=worker, owner=task.owner, lease_ms=self._budget.lease_ms
            )
        )

    async def _announce(self, task_id: str) -> None:
        await self._tell(self._queue.announce((task_id,)))

    async def _tell(self, step: Awaitable[None]) -> None:
        try:
            await step
        except QueueUnavailable as error:
            self._log.warning("Redis is away; the sweep will put the queue right", error=str(error))


def _entry(task: Task) -> Entry:
    return Entry(task_id=task.id, pool=task.pool, priority=task.priority, caller=task.caller)

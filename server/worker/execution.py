"""One claimed task: read it, mark the attempt, have it made, record the end.

The order is the promise: no call without a mark in the store, no COMPLETED before the bytes are kept, no
end in the queue before the end in the store. Every write is conditional on the attempt; a worker that was
overtaken changes nothing and lets go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence

import structlog
from msgspec import Struct
from msgspec.structs import replace

from server.domain import life, purchases, verdicts, writes
from server.domain.catalogue import Route
from server.domain.errors import StoreUnavailable, TaskError
from server.domain.task import Task, TaskState
from server.domain.writes import Write
from server.metrics import Metrics
from server.ports import Claimed, Entry, OutputStore, TaskStore, WorkQueue
from server.providers.contract import Provider
from server.worker.accounts import count_calls, count_cost, images_in
from server.worker.attempt import Attempt, Budget, End, Tools
from server.worker.cancel import Cancel, CancelAsked
from server.worker.failures import reference_gone
from server.worker.holding import until_kept
from server.worker.queue_steps import QueueSteps
from server.worker.record import Fenced
from server.worker.results import find_results


class Holder(Struct, frozen=True, kw_only=True):
    """Who runs a claimed task, and how the two reach each other."""

    worker: str
    hold: Callable[[Entry], None]
    """Told the queue entry as soon as it is known, so that the lease is prolonged with it."""
    over: Callable[[], None]
    """Told that the store calls the task over: it can leave the queue (rule W4)."""
    may_call: Callable[[], bool]
    """Asked before an attempt is marked and before every call: while it says no (the worker stops, or its
    beat is stale) the task is given back."""
    cancel: Cancel


class Execution:
    """Runs claimed tasks; holds no state of any of them."""

    def __init__(
        self,
        *,
        store: TaskStore,
        queue: WorkQueue,
        outputs: OutputStore,
        providers: Mapping[str, Provider],
        route: Callable[[str, str], Route],
        new_key: Callable[[str, int, int, str], str],
        result_key: Callable[[str, int, int], str],
        budget: Budget,
        metrics: Metrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._queue = QueueSteps(queue, lease_ms=budget.lease_ms)
        self._outputs = outputs
        self._providers = providers
        self._route = route
        self._lease_ms = budget.lease_ms
        self._metrics = metrics
        self._now_ms = now_ms
        self._tools = Tools(
            store=store,
            outputs=outputs,
            announce=self._queue.announce,
            new_key=new_key,
            result_key=result_key,
            budget=budget,
            metrics=metrics,
            now_ms=now_ms,
        )
        self._log = structlog.get_logger(__name__)

    async def look_up(self, claims: Sequence[Claimed]) -> Mapping[str, Task]:
        """What the store says of tasks that were claimed together; those it leaves out `run` reads itself."""
        if len(claims) < 2:  # nothing is together, and `run` holds on while the store is away
            return {}
        try:
            return await self._store.get_many([claimed.task_id for claimed in claims])
        except StoreUnavailable:
            return {}
        except Exception as error:  # one row that cannot be read is for its own task's run to trip over
            self._log.error("tasks cannot be read together; each is read by itself", exc_info=error)
            return {}

    async def run(self, claimed: Claimed, holder: Holder, task: Task | None = None) -> None:
        """Take the claimed task as far as it goes now; returns when it is over, or given back.

        `task`: as it was looked up after the claim. On cancellation (the grace of a stop is over) the attempt
        is recorded as it stands.
        """
        task_id = claimed.task_id
        while True:
            if task is None:
                task = await until_kept(lambda: self._store.get(task_id))
            if task is None or task.state.terminal:
                holder.over()
                return
            holder.hold(Entry.of(task, lane=claimed.lane))
            if await self._step(task, holder):
                return
            task = None

    async def _step(self, task: Task, holder: Holder) -> bool:
        """Decide on what the store says; False when that, or the time, has moved on meanwhile: read again."""
        now, worker = self._now_ms(), holder.worker
        if task.state is TaskState.PENDING:
            if task.cancel_requested:
                return await self._end(task, life.cancel_pending(task, now), holder)
            if life.expired(task, now):
                return await self._end(task, life.expire(task, now), holder)
            if task.not_before_ms > now:
                await self._queue.give_back(task, worker, delay_ms=task.not_before_ms - now)
                return True
        elif task.owner != worker and not await self._lost(task.owner):
            await self._queue.hand_over(task, worker)
            return True
        found = await find_results(self._outputs, task, self._tools.result_key)
        if found:
            self._metrics.results_recovered.labels("file").inc(len(found))
            task = replace(task, images={**task.images, **{image.index: image for image in found}})
        if task.state is TaskState.PROCESSING:
            verdict = verdicts.lost_worker(task, now)
            if verdict is not None:
                return await self._end(task, writes.with_images(verdict, found), holder)
        provider = self._providers.get(task.provider)
        if provider is None:
            self._log.error("no such provider in this worker", provider=task.provider, task_id=task.id)
            await self._queue.give_back(task, worker, delay_ms=self._lease_ms)
            return True
        route = self._route(task.model, provider.name)
        groups = provider.groups and route.parameters.groups
        steps = purchases.plan(task, groups=groups, now_ms=now)
        references = await self._references(task) if any(not step.receipt for step in steps) else ()
        if isinstance(references, TaskError) or not steps:
            error = (
                references if isinstance(references, TaskError) else writes.outcome_unknown(writes.NO_ANSWER)
            )
            pending = task.state is TaskState.PENDING
            end = life.end_waiting(task, error, now) if pending else life.end_lost(task, error, now)
            return await self._end(task, writes.with_images(end, found), holder)
        decided_ms, now = now, self._now_ms()
        if _expired_between(task, decided_ms, now):  # one of the stores was away
            return False
        if not holder.may_call():
            await self._queue.give_back(task, worker, delay_ms=0)
            return True
        write, marked = life.mark(
            task,
            worker=worker,
            provider=provider.name,
            paid=provider.paid,
            now_ms=now,
            groups=groups,
            price=route.price,
        )
        if not await self._marked(writes.with_images(write, found), task, marked, worker):
            return False
        count_cost(self._metrics, task, found)
        if task.start_time_ms == 0:
            self._metrics.task_wait.observe((now - task.create_time_ms) / 1000)
        begun_ms = self._now_ms()
        late = _expired_between(task, now, begun_ms)
        if holder.may_call() and not late:
            attempt = Attempt(self._tools, marked, steps, provider, route, references, holder.may_call)
            await self._make(attempt, holder)
        else:
            back = verdicts.after_drain(marked, begun_ms, error=writes.expiry() if late else None)
            if not await until_kept(lambda: self._store.write(back)):
                self._stale(marked, worker)
            await self._queue.give_back(marked, worker, delay_ms=0)
        return True

    async def _marked(self, write: Write, task: Task, marked: Task, worker: str) -> bool:
        """Whether the mark is in the store, also when only the store's word on it was lost."""
        try:
            won = await until_kept(lambda: self._store.write(write))
            if not won and not _is_mine(await until_kept(lambda: self._store.get(marked.id)), marked):
                return False
        except asyncio.CancelledError:  # nothing was sent, and if the mark took place the store shall know
            with contextlib.suppress(StoreUnavailable):
                if _is_mine(await self._store.get(marked.id), marked):
                    await self._store.write(verdicts.after_drain(marked, self._now_ms()))
            await self._queue.give_back(task, worker, delay_ms=0)
            raise
        if task.state is TaskState.PROCESSING:
            count_calls(self._metrics, task, write)
        return True

    async def _make(self, attempt: Attempt, holder: Holder) -> None:
        """Make the attempt and record its end; stopped, record once more what there is, then go."""
        end: End | None = None
        try:
            try:
                end = await holder.cancel.during(attempt.run())
            except CancelAsked:
                end = attempt.cancelled()
            won = await until_kept(lambda write=end.write: self._store.write(write))  # type: ignore[misc]
            won = won or await self._landed(attempt.task, end.write)
        except Fenced:
            won = False
        except asyncio.CancelledError:
            await self._record_stop(attempt.task, end or attempt.stopped(), holder)
            raise
        if end is None or not won:
            self._stale(attempt.task, holder.worker)
            await self._queue.give_back(attempt.task, holder.worker, delay_ms=0)
        else:
            await self._let_go(attempt.task, end, holder)

    async def _landed(self, task: Task, end: Write) -> bool:
        """Whether a refused end is in the store all the same: only the store's word on it was lost."""
        seen = await until_kept(lambda: self._store.get(task.id))
        mine = seen.attempts.get(task.attempt) if seen is not None and seen.attempt == task.attempt else None
        written = end.set.get(f"attempts.{task.attempt}.end_time_ms")
        return mine is not None and mine.worker == task.owner and 0 < mine.end_time_ms == written

    async def _record_stop(self, task: Task, end: End, holder: Holder) -> None:
        """One last try: a result in hand is written down, a call under way is recorded as what it is."""
        try:
            won = await self._store.write(end.write)
        except StoreUnavailable as error:
            self._log.warning("the stop could not be recorded", task_id=task.id, error=str(error))
            return
        if won:
            await self._let_go(task, end, holder)
        else:  # refused, or written before the stop came: whoever claims it next reads which
            await self._queue.give_back(task, holder.worker, delay_ms=0)

    async def _references(self, task: Task) -> tuple[bytes, ...] | TaskError:
        """The reference images' bytes, read before anything is marked; the error when one is gone."""
        found: list[bytes] = []
        for place, key in enumerate(task.request.references):
            stored = await until_kept(lambda key=key: self._outputs.get(key))  # type: ignore[misc]
            if stored is None:
                return reference_gone(place)
            found.append(stored.data)
        return tuple(found)

    async def _end(self, task: Task, write: Write, holder: Holder) -> bool:
        """Write the task's end; False when the store refused."""
        if not await until_kept(lambda: self._store.write(write)):
            return False
        if task.state is TaskState.PROCESSING:
            count_calls(self._metrics, task, write)
        count_cost(self._metrics, task, images_in(write))
        self._over(task, write, holder)
        return True

    async def _let_go(self, task: Task, end: End, holder: Holder) -> None:
        """The attempt's end is in the store."""
        count_calls(self._metrics, task, end.write)
        count_cost(self._metrics, task, images_in(end.write))  # those shown before were counted as they came
        if end.delay_ms is None:
            self._over(task, end.write, holder)
        else:
            await self._queue.give_back(task, holder.worker, delay_ms=end.delay_ms)

    def _over(self, task: Task, write: Write, holder: Holder) -> None:
        self._metrics.tasks_finished.labels(str(write.set["state"])).inc()
        self._metrics.task_duration.observe((self._now_ms() - task.create_time_ms) / 1000)
        holder.over()

    async def _lost(self, worker: str) -> bool:
        """Whether the store says that this worker is lost; a missing row counts as lost."""
        rows = await until_kept(self._store.workers)
        return all(row.id != worker or row.lost for row in rows)

    def _stale(self, task: Task, worker: str) -> None:
        self._metrics.stale_writes.inc()
        self._log.warning(
            "the store refused a write of an overtaken attempt",
            task_id=task.id,
            attempt=task.attempt,
            worker=worker,
        )


def _expired_between(task: Task, earlier_ms: int, later_ms: int) -> bool:
    """Whether an attempt that was decided on at the earlier time may not begin at the later one."""
    return earlier_ms < task.ttl_time_ms <= later_ms


def _is_mine(seen: Task | None, marked: Task) -> bool:
    """Whether the task is in the attempt that this worker has marked, and not in another's of that number."""
    return seen is not None and (seen.state, seen.attempt, seen.owner) == (
        marked.state,
        marked.attempt,
        marked.owner,
    )

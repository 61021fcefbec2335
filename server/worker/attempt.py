"""One attempt: what is bought already is fetched, the rest is bought; images are kept as they arrive."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import structlog
from msgspec import Struct

from server.domain import attempt_writes, life, verdicts
from server.domain.catalogue import Route
from server.domain.errors import Reason, TaskError
from server.domain.purchases import Step
from server.domain.task import AttemptOutcome, Task
from server.domain.verdicts import Failure
from server.domain.writes import Write
from server.metrics import Metrics
from server.ports import OutputStore, TaskStore
from server.providers.contract import Generation, ImageFailed, MadeImage, Provider, ProviderError
from server.worker.accounts import count_cost
from server.worker.failures import nothing_made, understand
from server.worker.holding import until_kept
from server.worker.outputs import verify_image
from server.worker.record import Fenced, Record
from server.worker.results import keep_result

_log = structlog.get_logger(__name__)


class Budget(Struct, frozen=True, kw_only=True):
    """What one attempt may take, and how often it may be repeated."""

    image_timeout_s: float
    max_retries: int
    lease_ms: int


class End(Struct, frozen=True, kw_only=True, gc=False):
    """How an attempt ends: the write that says so, and when the task is due again."""

    write: Write
    outcome: AttemptOutcome
    delay_ms: int | None = None
    """None: the task is over."""


class LetGo(Exception):
    """The worker may start no further call: it stops, or its beat is stale."""


class Tools(Struct, frozen=True, kw_only=True):
    """What every attempt of a worker works with."""

    store: TaskStore
    outputs: OutputStore
    announce: Callable[[str], Awaitable[None]]
    """Tells who waits for a task that it has a new image."""
    new_key: Callable[[str, int, int, str], str]
    result_key: Callable[[str, int, int], str]
    budget: Budget
    metrics: Metrics
    now_ms: Callable[[], int]


class Attempt:
    """The marked attempt of one task, and what has come of it so far."""

    def __init__(
        self,
        tools: Tools,
        task: Task,
        steps: Sequence[Step],
        provider: Provider,
        route: Route,
        references: tuple[bytes, ...],
        may_call: Callable[[], bool],
    ) -> None:
        """`route`: how the provider makes the model's images."""
        self._tools = tools
        self._record = Record(tools.store, task)
        self._steps = steps
        self._provider = provider
        self._route = route
        self._groups = provider.groups and route.parameters.groups
        self._references = references
        self._may_call = may_call
        self._bought = False
        """Whether the provider has said what the present step bought."""
        self._asked = False
        """Whether the provider was asked for anything."""
        self._failures: list[TaskError] = []
        """Why images failed that did, each on its own account."""
        self._keeping = asyncio.Lock()
        self._pauses = 0
        self._left_s = 0.0
        self._bound = asyncio.timeout(None)
        """The present step's: each has a whole IMAGE_TIMEOUT."""

    async def run(self) -> End:
        """Take the steps, the first of which the mark has opened. Raises Fenced."""
        started = time.perf_counter()
        try:
            end = await self._take_steps()
        except Fenced:
            raise
        except LetGo:
            return self._given_back()
        except Exception as error:
            end = self._failed(error)
        metrics, name = self._tools.metrics, self._provider.name
        metrics.provider_requests.labels(name, end.outcome.value).inc()
        metrics.provider_duration.labels(name).observe(time.perf_counter() - started)
        return end

    def stopped(self) -> End:
        """The grace of a stop is over: a paid call without an answer is in doubt, the rest is given back."""
        if self._record.made.missing_images and not self._record.may_owe:
            return self._given_back()
        error = TaskError(
            reason=Reason.DRAINING, message="The worker was stopped during the call.", retryable=True
        )
        return self._after(Failure(outcome=AttemptOutcome.IN_DOUBT, error=error, paid=True))

    def cancelled(self) -> End:
        """The task's cancel was asked for: it ends with what there is. With all its images it is complete."""
        made = self._record.made
        if not made.missing_images:
            return self._all_told()
        write = attempt_writes.cancel_running(made, self._tools.now_ms())
        if not self._asked or self._record.opening:
            write = attempt_writes.without_call(write, made)
        return End(write=self._record.ending(write), outcome=AttemptOutcome.CANCELLED)

    # --- the steps ----------------------------------------------------------------------------------

    async def _take_steps(self) -> End:
        unfetched: list[Exception] = []
        for place, step in enumerate(self._steps):
            if place > 0 and not step.receipt:
                await self._open_call(step)
            try:
                async with asyncio.timeout(self._tools.budget.image_timeout_s) as self._bound:
                    await self._take(step)
            except (ProviderError, TimeoutError) as failure:
                if not step.receipt:
                    raise
                unfetched.append(failure)  # which keeps nothing else from being fetched or bought
        if unfetched:
            self._bought = True
            raise max(unfetched, key=_hope)
        made = self._record.made
        if made.images:
            return self._completed()
        error = self._failures[0] if self._failures else nothing_made()
        self._count_failure(error)
        return self._refused(error)

    async def _open_call(self, step: Step) -> None:
        """Write the next purchase down."""
        if not self._may_call():
            raise LetGo
        now = self._tools.now_ms()
        call = life.new_call(self.task, step.indexes, paid=self._provider.paid, now_ms=now)
        await self._record.open_call(call, now)

    async def _take(self, step: Step) -> None:
        """Fetch, or buy, the images of the step."""
        self._bought = bool(step.receipt)
        generation = Generation(
            task_id=self.task.id,
            upstream_model=self._route.upstream_model,
            parameters=self._route.parameters,
            request=self.task.request,
            references=self._references,
            indexes=step.indexes,
        )
        self._asked = True
        try:
            await self._provider.generate(
                generation,
                timeout_s=self._tools.budget.image_timeout_s,
                progress=self._take_in,
                receipt=self._keep_receipt,
                resume=step.receipt,
            )
        except ProviderError as error:
            if error.reason not in _ONE_IMAGES_OWN or self._groups or self.task.images_wanted == 1:
                raise
            refusal = understand(error, paid=self._provider.paid, timeout_s=0).error
            for index in step.indexes:
                await self._keep_failure(ImageFailed(index=index, error=refusal), refused=True)
        else:
            if step.receipt:
                self._tools.metrics.results_recovered.labels("receipt").inc()

    # --- what comes ---------------------------------------------------------------------------------

    async def _keep_receipt(self, receipt: str, /, *, so_far: tuple[int, ...] = ()) -> None:
        """The provider has said what it made: nothing of that is bought again from here on."""
        self._bought = not so_far
        async with self._own_time():
            await self._record.add_receipt(receipt, self._tools.now_ms(), so_far=so_far)

    async def _take_in(self, image: MadeImage | ImageFailed) -> None:
        """What the provider hands over, and who waits for the task hears of it."""
        if isinstance(image, ImageFailed):
            await self._keep_failure(image)
        else:
            await self._keep(image)

    async def _keep(self, made: MadeImage) -> None:
        async with self._keeping, self._own_time():  # a provider may have several images at once
            task, tools = self.task, self._tools
            image = await verify_image(made, task_id=task.id, attempt=task.attempt, new_key=tools.new_key)
            await until_kept(lambda: tools.outputs.put(image.key, made.data, mime_type=image.mime_type))
            if self._provider.paid:
                await keep_result(tools.outputs, tools.result_key(task.id, task.attempt, image.index), image)
            several = task.images_wanted > 1  # callers see an image of a sequence at once
            await self._record.add_image(image, tools.now_ms(), shown=several)
            if several:
                count_cost(tools.metrics, self.task, [image])
                await tools.announce(task.id)

    async def _keep_failure(self, failed: ImageFailed, *, refused: bool = False) -> None:
        self._failures.append(failed.error)
        if refused and self._provider.paid:
            self._tools.metrics.paid_calls.labels(self._provider.name, "refused").inc()
        async with self._own_time():
            await self._record.add_failure(failed.index, failed.error, self._tools.now_ms(), refused=refused)
            if self.task.images_wanted > 1:
                await self._tools.announce(self.task.id)

    @asynccontextmanager
    async def _own_time(self) -> AsyncIterator[None]:
        """Time that is not the provider's: while a store is away the result is held.

        What comes as the step's time ends is taken in all the same.
        """
        now = asyncio.get_running_loop().time
        if self._pauses == 0 and not self._bound.expired():
            self._left_s = (self._bound.when() or now()) - now()
            self._bound.reschedule(None)
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if self._pauses == 0 and not self._bound.expired():
                self._bound.reschedule(now() + self._left_s)

    # --- how it ends --------------------------------------------------------------------------------

    def _all_told(self) -> End:
        """Of every image it is known what became of it."""
        made = self._record.made
        return self._completed() if made.images else self._refused(next(iter(made.failures.values())))

    def _refused(self, error: TaskError) -> End:
        """Nothing was made, and the call that made nothing goes."""
        made = self._record.made
        write = attempt_writes.fail(made, error, self._tools.now_ms(), outcome=AttemptOutcome.REJECTED)
        write = attempt_writes.without_call(write, made)
        return End(write=self._record.ending(write), outcome=AttemptOutcome.REJECTED)

    def _completed(self) -> End:
        write = attempt_writes.complete(self.task, self._tools.now_ms())
        return End(write=self._record.ending(write), outcome=AttemptOutcome.SUCCEEDED)

    def _given_back(self) -> End:
        back = verdicts.after_drain(self._record.made, self._tools.now_ms())
        outcome = AttemptOutcome(str(back.set[f"attempts.{back.attempt}.outcome"]))
        return End(write=self._record.ending(back), outcome=outcome, delay_ms=0)

    def _failed(self, error: Exception) -> End:
        failure = understand(
            error, paid=self._provider.paid, timeout_s=self._tools.budget.image_timeout_s, bought=self._bought
        )
        if failure.error.reason is Reason.INTERNAL_ERROR:  # its text is for the log alone
            _log.error("unexpected error in an attempt", provider=self._provider.name, exc_info=error)
        return self._after(failure)

    def _after(self, failure: Failure) -> End:
        """What becomes of a failed attempt; with all its images there it is no failure."""
        made = self._record.made
        if not made.missing_images:
            return self._all_told()
        self._count_failure(failure.error)
        write, delay_ms = verdicts.after_failure(
            made,
            failure,
            now_ms=self._tools.now_ms(),
            max_retries=self._tools.budget.max_retries,
            jitter=random.random(),
        )
        return End(write=self._record.ending(write), outcome=failure.outcome, delay_ms=delay_ms)

    def _count_failure(self, error: TaskError) -> None:
        self._tools.metrics.attempt_failures.labels(self._provider.name, error.reason.value).inc()

    @property
    def task(self) -> Task:
        """The task as this attempt has written it so far."""
        return self._record.task


_ONE_IMAGES_OWN = frozenset({Reason.CONTENT_POLICY_INPUT, Reason.CONTENT_POLICY_OUTPUT})
"""Where each image has a call of its own, a refusal for one of these ends that image and no other."""


def _hope(failure: Exception) -> tuple[bool, bool]:
    return failure.hope if isinstance(failure, ProviderError) else (True, True)

"""One call to a provider: its images are verified and kept as they arrive, its end is understood."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from server.domain import life, verdicts
from server.domain.errors import Reason, TaskError
from server.domain.life import Write
from server.domain.task import AttemptOutcome, StoredImage, Task
from server.domain.verdicts import Failure
from server.metrics import Metrics
from server.ports import OutputStore, TaskStore
from server.providers.contract import Generation, MadeImage, Provider
from server.worker.failures import nothing_made, understand
from server.worker.holding import until_kept
from server.worker.outputs import verify_image


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one attempt may take, and how often it may be repeated."""

    image_timeout_s: float
    max_retries: int
    lease_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How an attempt ends: the write that says so, and when the task is due again."""

    write: Write
    outcome: AttemptOutcome
    delay_ms: int | None = None
    """None: the task is over."""


class Fenced(Exception):
    """The store refused a write: a successor has the task, or it is over."""


class Attempts:
    """Makes calls; holds no state of any of them."""

    def __init__(
        self,
        *,
        store: TaskStore,
        outputs: OutputStore,
        announce: Callable[[str], Awaitable[None]],
        upstream_model: Callable[[str, str], str],
        new_key: Callable[[str, int, int, str], str],
        budget: Budget,
        metrics: Metrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._outputs = outputs
        self._announce = announce
        self._upstream_model = upstream_model
        self._new_key = new_key
        self._budget = budget
        self._metrics = metrics
        self._now_ms = now_ms
        self._random = random.Random()
        self._log = structlog.get_logger(__name__)

    async def call(
        self,
        task: Task,
        provider: Provider,
        references: tuple[bytes, ...],
        images: dict[int, StoredImage],
    ) -> End:
        """Call the provider for the missing images; `images` gains each one that is kept. Raises Fenced."""
        started = time.perf_counter()
        try:
            end = await self._generate(task, provider, references, images)
        except Fenced:
            raise
        except Exception as error:
            failure = understand(error, paid=provider.paid, timeout_s=self._budget.image_timeout_s)
            if failure.error.reason is Reason.INTERNAL_ERROR:  # its text is for the log alone
                self._log.error("unexpected error in an attempt", provider=provider.name, exc_info=error)
            end = self._after(failure, task, provider, images)
        self._metrics.provider_requests.labels(provider.name, end.outcome.value).inc()
        self._metrics.provider_duration.labels(provider.name).observe(time.perf_counter() - started)
        return end

    def stopped(self, task: Task, provider: Provider, images: Mapping[int, StoredImage]) -> End:
        """The grace of a stop is over during the call: in doubt if it is paid, else given back."""
        if provider.paid or not life.missing_images(replace(task, images=images)):
            error = TaskError(
                reason=Reason.DRAINING, message="The worker was stopped during the call.", retryable=True
            )
            failure = Failure(outcome=AttemptOutcome.IN_DOUBT, error=error, paid=True)
            return self._after(failure, task, provider, images)
        back = verdicts.after_drain(task, self._now_ms())
        return End(
            write=life.with_images(back, _fresh(task, images)), outcome=AttemptOutcome.NOT_SENT, delay_ms=0
        )

    async def _generate(
        self,
        task: Task,
        provider: Provider,
        references: tuple[bytes, ...],
        images: dict[int, StoredImage],
    ) -> End:
        async def keep(made: MadeImage) -> None:
            async with keeping:  # a provider may have several images at once
                # The time to keep an image is not the provider's: while a store is away the result is held.
                left_s = (bound.when() or 0.0) - loop.time()
                bound.reschedule(None)
                stored = await verify_image(
                    made, task_id=task.id, attempt=task.attempt, new_key=self._new_key
                )
                await until_kept(lambda: self._outputs.put(stored.key, made.data, mime_type=stored.mime_type))
                images[stored.index] = stored
                if task.images_wanted > 1:
                    await self._show(task, stored)
                bound.reschedule(loop.time() + left_s)

        loop, keeping = asyncio.get_running_loop(), asyncio.Lock()
        generation = Generation(
            task_id=task.id,
            upstream_model=self._upstream_model(task.model, provider.name),
            request=task.request,
            references=references,
            indexes=life.missing_images(task),
        )
        timeout_s = self._budget.image_timeout_s
        async with asyncio.timeout(timeout_s) as bound:
            generated = await provider.generate(
                generation, timeout_s=timeout_s, progress=keep, receipt=self._keep_receipt
            )
        for failed in generated.failures:
            await self._write_own(life.add_failure(task, failed.index, failed.error, self._now_ms()))
        if images:
            return self._completed(task, images)
        error = generated.failures[0].error if generated.failures else nothing_made()
        self._metrics.attempt_failures.labels(provider.name, error.reason.value).inc()
        refused = life.fail(task, error, self._now_ms(), outcome=AttemptOutcome.REJECTED)
        return End(write=life.without_call(refused, task), outcome=AttemptOutcome.REJECTED)

    async def _keep_receipt(self, receipt: str) -> None:
        raise AssertionError(f"no provider here gives receipts yet, this one gave {len(receipt)} characters")

    def _completed(self, task: Task, images: Mapping[int, StoredImage]) -> End:
        write = life.complete_with(task, _fresh(task, images), self._now_ms())
        return End(write=write, outcome=AttemptOutcome.SUCCEEDED)

    def _after(
        self, failure: Failure, task: Task, provider: Provider, images: Mapping[int, StoredImage]
    ) -> End:
        """What becomes of a failed attempt; with all its images there it is no failure."""
        made = replace(task, images=images)
        if not life.missing_images(made):
            return self._completed(task, images)
        self._metrics.attempt_failures.labels(provider.name, failure.error.reason.value).inc()
        write, delay_ms = verdicts.after_failure(
            made,
            failure,
            now_ms=self._now_ms(),
            max_retries=self._budget.max_retries,
            jitter=self._random.random(),
        )
        return End(
            write=life.with_images(write, _fresh(task, images)), outcome=failure.outcome, delay_ms=delay_ms
        )

    async def _show(self, task: Task, image: StoredImage) -> None:
        """Let callers see an image of a sequence at once."""
        await self._write_own(life.add_image(task, image, self._now_ms()))
        await self._announce(task.id)

    async def _write_own(self, write: Write) -> None:
        if not await until_kept(lambda: self._store.write(write)):
            raise Fenced(write.task_id)


def _fresh(task: Task, images: Mapping[int, StoredImage]) -> list[StoredImage]:
    """The images that came with this attempt: every end of it keeps them, shown already or not."""
    return [image for index, image in sorted(images.items()) if index not in task.images]

"""The use case of making a task.

Accepted means durable: the request's bytes, the record of its request_id and the task itself are in the
stores before a caller learns the task's id. The queue is told afterwards.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from functools import partial

import structlog
from msgspec import Struct
from msgspec.structs import replace
from ulid import ULID

from server.domain.admission import Admitted, Defaults, Draft, admit
from server.domain.catalogue import Catalogue
from server.domain.errors import (
    Draining,
    InvalidRequest,
    QueueFull,
    RequestIdReused,
    ServiceError,
    StoreUnavailable,
)
from server.domain.request import MAX_ID_CHARS
from server.domain.routing import Routing, pool_code
from server.domain.task import Task, TaskState, TaskType
from server.metrics import Metrics
from server.ports import Entry, RequestIdRow, TaskStore
from server.service.line import Line
from server.service.references import LINKS_S, References
from server.service.tasks import Tasks
from server.service.withdrawals import Withdrawals
from server.stopping import Held

QUEUE_FULL_RETRY_S = 5.0


class Submission(Struct, frozen=True, kw_only=True):
    """One submit call."""

    draft: Draft
    caller: str
    fingerprint: str
    """SHA-256 over the fields as sent: what must be the same under the same request_id; empty without one."""
    links_timeout_s: float = LINKS_S
    """The most that reading the links of reference images may take."""


class Submits:
    """Accepts tasks, free of transport."""

    def __init__(
        self,
        *,
        store: TaskStore,
        references: References,
        line: Line,
        withdrawals: Withdrawals,
        tasks: Tasks,
        catalogue: Catalogue,
        routing: Routing,
        defaults: Defaults,
        metrics: Metrics,
        queue_max_depth: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._references = references
        self._line = line
        self._withdrawals = withdrawals
        self._tasks = tasks
        self._catalogue = catalogue
        self._routing = routing
        self._defaults = defaults
        self._metrics = metrics
        self._queue_max_depth = queue_max_depth
        self._now_ms = now_ms
        self._refusing = False
        self._log = structlog.get_logger(__name__)
        self._submitting = Held()

    async def submit(self, submission: Submission) -> Task:
        """Accept a task, or return the one that this request_id has made already.

        Raises the domain's errors; when it raises StoreUnavailable without a task id, nothing is known to
        have been accepted and the same request_id may be sent again. The caller may vanish at any time: what
        was begun is finished in a task of its own.
        """
        if self._refusing:
            raise Draining("This server is shutting down; send the request again.", retry_after_s=1.0)
        work = self._submitting.start(self._submit(submission), name="submit")
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(self._submitted_unseen)
            raise

    def _submitted_unseen(self, work: asyncio.Task[Task]) -> None:
        error = None if work.cancelled() else work.exception()
        if error is not None and not isinstance(error, ServiceError):
            self._log.error("unexpected error in a submit whose caller has vanished", exc_info=error)

    def refuse(self) -> None:
        """From now on submits are refused, as safe to send elsewhere."""
        self._refusing = True

    async def drain(self) -> None:
        """Wait for submits that are under way, and for what has to be withdrawn after a failed one."""
        await self._submitting.drain()
        await self._withdrawals.drain()

    async def _submit(self, submission: Submission) -> Task:
        draft = submission.draft
        key = ""
        if 0 < len(draft.request_id) <= MAX_ID_CHARS:
            key = _request_key(submission.caller, draft.request_id)
            row = await self._store.find_request_id(key)
            if row is not None:
                _same_request(row, submission)
                earlier = await self._store.get(row.task_id)
                if earlier is not None:
                    return earlier
        admitted = await self._admitted(draft)
        rules, misshapen = admitted.model.reference_rules, admitted.misshapen
        earlier_outputs = await self._references.earlier(draft, submission.caller, rules, misshapen)
        if self._line.depth >= self._queue_max_depth:
            if misshapen:  # however few tasks wait later, it will not do
                raise InvalidRequest(list(misshapen.values()))
            raise QueueFull(
                f"{self._queue_max_depth:,} tasks wait already. Nothing was accepted; try again in a moment.",
                metadata={"max_depth": str(self._queue_max_depth)},
                retry_after_s=QUEUE_FULL_RETRY_S,
            )
        references = await self._references.keep(
            draft,
            submission.caller,
            earlier_outputs,
            rules=rules,
            misshapen=misshapen,
            links_timeout_s=submission.links_timeout_s,
        )
        task = self._new_task(submission, admitted, references)
        if key:
            mine = RequestIdRow(task_id=task.id, fingerprint=submission.fingerprint)
            row = await self._store.claim_request_id(key, mine)
            _same_request(row, submission)
            task = replace(task, id=row.task_id)
        if await self._inserted(task, repeatable=bool(key)):
            self._metrics.tasks_submitted.labels(task.model).inc()
        else:  # another submit of the same request_id was first
            task = await self._tasks.get(task.id)
        if not task.state.terminal:
            self._line.put(Entry.of(task))
        return task

    async def _admitted(self, draft: Draft) -> Admitted:
        """See `admit`."""
        admitting = partial(
            admit,
            draft,
            catalogue=self._catalogue,
            routing=self._routing,
            defaults=self._defaults,
            seed=random.getrandbits(31),
            look=self._references.fault,
        )
        if any(reference.kind == "data" for reference in draft.references):
            return await asyncio.to_thread(admitting)  # pictures are looked at off the loop
        return admitting()

    async def _inserted(self, task: Task, *, repeatable: bool) -> bool:
        """As `TaskStore.insert`. A task that may have come into the store unacknowledged must not run:
        without a request_id no repeat would find it, so it is withdrawn as soon as the store answers."""
        try:
            return await self._store.insert(task)
        except StoreUnavailable:
            if not repeatable:
                self._withdrawals.begin(task.id)
            raise

    def _new_task(self, submission: Submission, admitted: Admitted, references: tuple[str, ...]) -> Task:
        draft = submission.draft
        now = self._now_ms()
        return Task(
            id=str(ULID()),
            caller=submission.caller,
            type=TaskType.IMAGE,
            state=TaskState.PENDING,
            priority=draft.priority,
            pool=pool_code(admitted.route.provider),
            provider=admitted.route.provider,
            model=admitted.model.id,
            user_id=draft.user_id,
            request_id=draft.request_id,
            labels=draft.labels,
            request=replace(admitted.request, references=references) if references else admitted.request,
            max_paid_attempts=admitted.max_paid_attempts,
            revision=1,
            create_time_ms=now,
            update_time_ms=now,
            ttl_time_ms=now + admitted.ttl_ms,
        )


def _request_key(caller: str, request_id: str) -> str:
    return hashlib.sha256(f"{len(caller)}:{caller}{request_id}".encode()).hexdigest()


def _same_request(row: RequestIdRow, submission: Submission) -> None:
    if row.fingerprint != submission.fingerprint:
        raise RequestIdReused(
            f"request_id {submission.draft.request_id!r} was used before with a different request "
            f"(task {row.task_id}). Use a new request_id for a new request.",
            metadata={"request_id": submission.draft.request_id},
            task_id=row.task_id,
        )

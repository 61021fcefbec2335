"""A claimed task that runs without a pool around it: what is over leaves the queue when the run has ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from server.ports import Claimed, QueueUnavailable, WorkQueue
from server.worker.cancel import Cancel
from server.worker.execution import Execution, Holder


async def run_claimed(
    execution: Execution,
    claimed: Claimed,
    *,
    worker: str,
    queue: WorkQueue,
    may_call: Callable[[], bool] = lambda: True,
    cancel: Cancel | None = None,
) -> None:
    """Take the task as far as it goes, and tell the queue if it is over, as a pool does."""
    over: list[str] = []
    holder = Holder(
        worker=worker,
        hold=lambda _: None,
        over=lambda: over.append(claimed.task_id),
        may_call=may_call,
        cancel=cancel or Cancel(),
    )
    try:
        await execution.run(claimed, holder)
    finally:
        with suppress(QueueUnavailable):
            await queue.finish(worker=worker, task_ids=over)

"""What became of paid calls and what pictures cost, for the metrics: told from the writes that took place."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from server.domain import costs
from server.domain.task import CallState, StoredImage, Task
from server.domain.writes import Write, outside
from server.metrics import Metrics


def count_calls(metrics: Metrics, task: Task, write: Write) -> None:
    """Count the paid calls of the task's newest attempt, which this write has ended."""
    attempt = task.attempts[task.attempt]
    for number, call in attempt.calls.items():
        path = f"attempts.{attempt.number}.calls.{number}"
        if not call.paid:
            continue
        if not outside(write.unset, [path]):
            end = "refused"
        else:
            ended = replace(call, state=CallState(str(write.set.get(f"{path}.state", call.state.value))))
            end = "charged" if ended.state is CallState.DONE and not ended.in_doubt else "in_doubt"
        metrics.paid_calls.labels(attempt.provider, end).inc()


def images_in(write: Write) -> list[StoredImage]:
    """The pictures that the write brings into its task."""
    return [value for value in write.set.values() if isinstance(value, StoredImage)]


def count_cost(metrics: Metrics, task: Task, fresh: Iterable[StoredImage]) -> None:
    """Count what these pictures cost, which a write that took place has brought into the task."""
    images = {image.index: image for image in fresh}
    if not images:
        return
    payers = costs.payers(replace(task, images=images))
    for index in images:
        attempt = task.attempts.get(payers.get(index, 0))
        if attempt is not None and attempt.price is not None:
            labels = (attempt.provider, task.model, attempt.price.currency)
            metrics.cost.labels(*labels).inc(attempt.price.micros_per_image / 1_000_000)

"""What became of paid calls, for the metrics: told from the write that ended their attempt."""

from __future__ import annotations

from server.domain.task import CallState, Task
from server.domain.writes import Write
from server.metrics import Metrics


def count_calls(metrics: Metrics, task: Task, write: Write) -> None:
    """Count the paid calls of the task's newest attempt, which this write has ended."""
    attempt = task.attempts[task.attempt]
    for number, call in attempt.calls.items():
        path = f"attempts.{attempt.number}.calls.{number}"
        if not call.paid:
            continue
        if any(path == gone or path.startswith(f"{gone}.") for gone in write.unset):
            end = "refused"
        elif write.set.get(f"{path}.state", call.state.value) == CallState.DONE.value:
            end = "charged"
        else:
            end = "in_doubt"
        metrics.paid_calls.labels(attempt.provider, end).inc()

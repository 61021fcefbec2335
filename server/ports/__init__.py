"""What the core needs from outside: the store, the queue, the outputs, what links lead to, and a clock.

`service`, `api` and `worker` know these protocols and never an implementation.
"""

from server.ports.clock import now_ms
from server.ports.downloads import DownloadFailed, Downloads
from server.ports.outputs import OutputStore, StoredObject
from server.ports.queue import (
    Claimed,
    Claims,
    Entry,
    Held,
    Lane,
    Pool,
    QueueStats,
    QueueUnavailable,
    SubmitQueue,
    TaskEvents,
    WorkQueue,
)
from server.ports.store import RequestIdRow, TaskStore, WorkerRow

__all__ = [
    "Claimed",
    "Claims",
    "DownloadFailed",
    "Downloads",
    "Entry",
    "Held",
    "Lane",
    "OutputStore",
    "Pool",
    "QueueStats",
    "QueueUnavailable",
    "RequestIdRow",
    "StoredObject",
    "SubmitQueue",
    "TaskEvents",
    "TaskStore",
    "WorkQueue",
    "WorkerRow",
    "now_ms",
]

"""The task: one promise made to a caller, from acceptance to its one end.

    PENDING ──claim──> PROCESSING ──> COMPLETED | FAILED | CANCELLED
       ▲                   │
       └── retry, lost worker, no capacity
    PENDING ──> FAILED (its ttl ended, or nobody can make it) | CANCELLED
    PENDING ──> COMPLETED (the same, with images stored)

Values only: how a task may change is in `life`, how it is kept is in `server.store`.
All times are whole milliseconds since the Unix epoch, UTC; 0 means "not yet".
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from server.domain.errors import TaskError
from server.domain.fairness import queue_caller
from server.domain.money import Price
from server.domain.request import ImageRequest


class TaskState(StrEnum):
    """Where a task stands; the three last ones are terminal and never change."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        """Whether the task is over."""
        return self not in LIVE_STATES


LIVE_STATES = frozenset({TaskState.PENDING, TaskState.PROCESSING})


class TaskType(StrEnum):
    """What a task makes."""

    IMAGE = "IMAGE"


class Priority(StrEnum):
    """How soon a task is claimed; of ten claims six go to CRITICAL, three to DEFAULT, one to LOW."""

    CRITICAL = "CRITICAL"
    DEFAULT = "DEFAULT"
    LOW = "LOW"


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "SUCCEEDED"
    NOT_SENT = "NOT_SENT"
    """Surely nothing reached the provider."""
    REJECTED = "REJECTED"
    """The provider answered with a refusal: nothing was made or billed."""
    IN_DOUBT = "IN_DOUBT"
    """The provider may have made, and billed, something that never reached us."""
    CANCELLED = "CANCELLED"


class CallState(StrEnum):
    """What is known of one purchase. A refused call's row is removed again."""

    OPEN = "OPEN"
    DONE = "DONE"
    IN_DOUBT = "IN_DOUBT"


class Call(Struct, frozen=True, kw_only=True, gc=False):
    """One request to a provider, written to the store before it is sent."""

    state: CallState
    paid: bool
    """Whether the provider charges for it."""
    sent_time_ms: int
    indexes: tuple[int, ...] = ()
    """The images it was to make; empty = every image of the task."""
    receipt: str = ""
    """What the provider said it made, in its own words: enough to fetch it. Empty = nothing yet."""
    so_far: tuple[int, ...] = ()
    """The images that the receipt names while the provider may still make more; empty = it names all."""

    @property
    def in_doubt(self) -> bool:
        """Whether it is over and nobody knows whether it was charged for more than its receipt names."""
        return self.state is CallState.IN_DOUBT or (self.state is CallState.DONE and bool(self.so_far))


class Attempt(Struct, frozen=True, kw_only=True, gc=False):
    """One claim of the task that reached the store: the fence behind which its worker writes."""

    number: int
    provider: str
    worker: str
    start_time_ms: int
    end_time_ms: int = 0
    outcome: AttemptOutcome | None = None
    """None while the attempt is open."""
    error: TaskError | None = None
    calls: Mapping[int, Call] = field(default_factory=dict)
    price: Price | None = None
    """What the provider charged when the attempt began; None: not known."""

    @property
    def sent_time_ms(self) -> int:
        """When the first call was written down, just before it was sent; 0 if there was none."""
        return min((call.sent_time_ms for call in self.calls.values()), default=0)

    @property
    def paid(self) -> bool:
        """Whether the attempt holds a call that was charged; one in doubt is not known to be."""
        return any(call.paid and call.state is CallState.DONE for call in self.calls.values())


class StoredImage(Struct, frozen=True, kw_only=True, gc=False):
    """One finished image, verified and held in the output store."""

    index: int
    key: str
    """Where the output store keeps it; the last part of its link."""
    width_px: int
    height_px: int
    mime_type: str
    size_bytes: int
    sha256: str
    seed: int


class Counts(Struct, frozen=True, kw_only=True, gc=False):
    """What has been used up of the task's budgets."""

    waits: int = 0
    """Times it was handed back for want of capacity: bounded by the ttl alone."""
    errors: int = 0
    """Retryable failures: bounded by IMAGE_MAX_RETRIES."""
    lost: int = 0
    """Workers lost before a paid call: bounded by `life.MAX_LOST_WORKERS`."""
    fetches: int = 0
    """Failed fetches of what is bought: bounded by time alone."""
    unlikely: int = 0
    """Of these, those that will hardly ever succeed."""


class Task(Struct, frozen=True, kw_only=True, gc=False):
    """A task as the store holds it."""

    id: str
    """A ULID: 26 characters, ordered by the time it was minted."""
    caller: str
    """Who submitted it, as authenticated; `anonymous` until callers have identities."""
    type: TaskType
    state: TaskState
    priority: Priority
    pool: str
    """The two characters that name the queue it waits in."""
    provider: str
    model: str
    user_id: str
    request_id: str
    labels: Mapping[str, str]
    request: ImageRequest
    max_paid_attempts: int
    revision: int
    create_time_ms: int
    update_time_ms: int
    ttl_time_ms: int
    """From then on no new attempt starts: a waiting task ends FAILED / TASK_EXPIRED."""
    start_time_ms: int = 0
    end_time_ms: int = 0
    attempt: int = 0
    """Number of the newest attempt: the fence every write after a claim is conditional on."""
    owner: str = ""
    """The worker of the newest attempt."""
    not_before_ms: int = 0
    cancel_requested: bool = False
    counts: Counts = field(default_factory=Counts)
    attempts: Mapping[int, Attempt] = field(default_factory=dict)
    """By number, in ascending order, as are each attempt's calls."""
    images: Mapping[int, StoredImage] = field(default_factory=dict)
    failures: Mapping[int, TaskError] = field(default_factory=dict)
    error: TaskError | None = None

    @property
    def images_wanted(self) -> int:
        """How many images were asked for: an upper bound for a sequence."""
        return self.request.max_images

    @property
    def missing_images(self) -> tuple[int, ...]:
        """The wanted images, by index, that are neither stored nor failed for good."""
        wanted, images, failures = range(self.images_wanted), self.images, self.failures
        if not images and not failures:
            return tuple(wanted)
        return tuple([i for i in wanted if i not in images and i not in failures])

    @property
    def queue_caller(self) -> str:
        """Whom the queue counts it for, when it shares its room among callers."""
        return queue_caller(user_id=self.user_id, caller=self.caller)


class LiveTask(Struct, frozen=True, kw_only=True, gc=False):
    """What the sweep needs of a task: a few fields, whatever else a newer version has written into it."""

    id: str
    caller: str
    user_id: str
    state: TaskState
    priority: Priority
    pool: str
    owner: str
    not_before_ms: int
    ttl_time_ms: int

    @property
    def queue_caller(self) -> str:
        """As of `Task`."""
        return queue_caller(user_id=self.user_id, caller=self.caller)

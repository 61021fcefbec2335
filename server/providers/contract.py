"""What every provider offers, and how it says what went wrong.

A provider turns one valid request into images. It keeps no task state, retries nothing and reads no
environment: budgets, retries and records belong to the worker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Protocol

from msgspec import Struct, field

from server.domain.catalogue import Parameters
from server.domain.errors import Reason, TaskError
from server.domain.request import ImageRequest


class Generation(Struct, frozen=True, kw_only=True, gc=False):
    """What is to be made: a valid request, the reference bytes it names, and the images still wanted."""

    task_id: str
    upstream_model: str
    """The model's name at the provider."""
    parameters: Parameters = field(default_factory=Parameters)
    """Which optional fields the model honours there."""
    request: ImageRequest
    references: tuple[bytes, ...]
    indexes: tuple[int, ...]
    """The images to make, by their 0-based place in the sequence; made ones are left out."""


class MadeImage(Struct, frozen=True, kw_only=True):
    """One image as it came from the provider, not yet verified or stored."""

    index: int
    data: bytes
    seed: int
    """Negative where the provider does not tell."""


class ImageFailed(Struct, frozen=True, kw_only=True):
    """One image of a sequence that the provider refused or could not make, while others go on."""

    index: int
    error: TaskError


Progress = Callable[[MadeImage | ImageFailed], Awaitable[None]]
"""Called once per image, as soon as it is there or has failed; when it returns that is stored."""


class Receipt(Protocol):
    """Keeps what the provider says it sold, before any of it is fetched.

    When it returns the receipt is stored, and whatever happens then nothing that it names is bought again.
    """

    async def __call__(self, receipt: str, /, *, so_far: tuple[int, ...] = ()) -> None:
        """`receipt` is what `resume` takes, and takes the place of an earlier one of the same call.

        `so_far`: the images it names while the call may still make more; empty: the call is answered.
        May be called while an earlier call of it, or of `progress`, is under way.
        """
        ...


class Sent(Enum):
    """What is known of the request when a call fails: it decides what a retry may cost."""

    NOT_SENT = "not sent"
    """Nothing reached the provider: a retry costs nothing."""
    REJECTED = "rejected"
    """The provider answered with a refusal before it named anything: nothing was made or is charged."""
    IN_DOUBT = "in doubt"
    """It may have been accepted and charged: only `max_paid_attempts` permits another call."""


class ProviderError(Exception):
    """A call failed. `retryable`: may the same request succeed later? `retry_after_s`: not before when?

    `no_capacity`: the provider was busy (429, concurrency); waiting costs no attempt, only ttl.
    `metadata`: what a program needs beside the reason, by the keys of `task.v1.ErrorReason`.
    `unlikely`: a retry will hardly succeed: what is bought is fetched again for minutes, not for an hour.
    """

    def __init__(
        self,
        message: str,
        *,
        sent: Sent,
        reason: Reason,
        retryable: bool,
        retry_after_s: float | None = None,
        no_capacity: bool = False,
        unlikely: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.metadata = dict(metadata or {})
        self.message = message
        self.sent = sent
        self.reason = reason
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.no_capacity = no_capacity
        self.unlikely = unlikely

    @property
    def hope(self) -> tuple[bool, bool]:
        """Orders failures by how likely a repetition succeeds."""
        return self.retryable, not self.unlikely


class Provider(Protocol):
    """One vendor, or a stand-in for one."""

    @property
    def name(self) -> str:
        """As it stands in routes, answers, metrics: `local`, `ark`, …"""
        ...

    @property
    def paid(self) -> bool:
        """Whether its calls are charged for."""
        ...

    @property
    def capacity(self) -> int:
        """How many calls it takes at once, over all workers."""
        ...

    @property
    def groups(self) -> bool:
        """Whether one call makes all images of a sequence where the model can (`Parameters.groups`); else
        `generate` is given one index at a time."""
        ...

    async def generate(
        self,
        generation: Generation,
        *,
        timeout_s: float,
        progress: Progress,
        receipt: Receipt,
        resume: str = "",
    ) -> None:
        """Make the images and hand each to `progress` as it arrives, one at a time.

        Returns when all that the call made was handed over; a model may make fewer images than asked for.

        `timeout_s` bounds the whole call. `resume` is the receipt of an earlier call (an upstream task id,
        result links): with it only what that call bought is fetched, and nothing is bought. Raises
        ProviderError, and nothing else, when the provider fails.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections and threads."""
        ...

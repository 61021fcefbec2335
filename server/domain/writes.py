"""The one way in which a task changes: a conditional write, and what all of them share.

A write names the state and the attempt it expects, and changes nothing unless both still hold. So a
worker that was overtaken, however late it comes back, cannot touch its successor's work, and a
terminal state never changes. What builds on a reading of a running attempt also names the revision it has
read: nothing that was written since is passed over, and no copy of a write takes place a second time.
Paths of `Write.set` follow the stored document (`server.store.documents`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from server.domain import purchases
from server.domain.errors import Reason, TaskError
from server.domain.task import (
    Attempt,
    Call,
    CallState,
    Counts,
    StoredImage,
    Task,
    TaskState,
)

Value = str | int | bool | None | tuple[int, ...] | TaskError | Counts | Attempt | Call | StoredImage
"""What a write may put at a path: the store knows how to keep each of these."""

NO_ANSWER = "The provider's whole answer to a paid call never arrived"


class Write(Struct, frozen=True, kw_only=True, gc=False):
    """One conditional change of one task; the store raises `revision` with it."""

    task_id: str
    state: TaskState
    """The write happens only while the task is in this state …"""
    attempt: int
    """… and this is its newest attempt …"""
    revision: int | None = None
    """… and nothing was written since this revision; None: whatever was."""
    token_slot: int | str
    """The attempt number, or who else writes, under which the store keeps the token that proves who won."""
    set: Mapping[str, Value] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    forgotten_slot: int | None = None
    """A token slot that nobody writes to any more."""


def with_images(write: Write, images: Sequence[StoredImage]) -> Write:
    """The same write, which also keeps these images: whatever ends an attempt loses none that is stored."""
    if not images:
        return write
    return replace(write, set={**{f"images.{image.index}": image for image in images}, **write.set})


def without(write: Write, removed: Sequence[str]) -> Write:
    """The same write, which then also removes what stands at these paths."""
    if not removed:
        return write
    kept = {path: write.set[path] for path in outside(removed, write.set)}
    return replace(write, set=kept, unset=(*outside(removed, write.unset), *removed))


def merged(first: Write, then: Write) -> Write:
    """One write that does what both do, one after the other, under the conditions of `then`."""
    kept = {path: first.set[path] for path in outside(then.unset, first.set)}
    unset = [path for path in outside(then.unset, first.unset) if path not in then.set]
    return replace(then, set={**kept, **then.set}, unset=(*unset, *then.unset))


def outside(removed: Sequence[str], paths: Iterable[str]) -> list[str]:
    """Those of the paths at which something still stands once these are removed, each with all below it."""
    below = tuple([f"{path}." for path in removed])
    return [path for path in paths if path not in removed and not path.startswith(below)]


def expiry() -> TaskError:
    """The error of a task that waited longer than its ttl."""
    return TaskError(
        reason=Reason.TASK_EXPIRED,
        message="The task's ttl ran out before an attempt could finish it. Submit it again, with a longer "
        "options.ttl if it may wait longer.",
        retryable=True,
    )


def outcome_unknown(what: str) -> TaskError:
    """The error of what may have been bought and must not be bought again; `what` happened to the call."""
    return TaskError(
        reason=Reason.OUTCOME_UNKNOWN,
        message=f"{what}, and max_paid_attempts allows no further one. The provider may have made and "
        "charged the image. Submit again to accept another charge.",
    )


def cancelled() -> TaskError:
    return TaskError(reason=Reason.TASK_CANCELLED, message="The task was cancelled.")


def end(
    task: Task,
    now_ms: int,
    *,
    state: TaskState,
    error: TaskError | None,
    closing: Mapping[str, Value] | None = None,
) -> Write:
    changes: dict[str, Value] = {
        **(closing or {}),
        "state": state.value,
        "end_time_ms": now_ms,
        "update_time_ms": now_ms,
    }
    if error is not None:
        changes["error"] = error
    return Write(
        task_id=task.id, state=task.state, attempt=task.attempt, token_slot=task.attempt, set=changes
    )


def end_in_failure(task: Task, error: TaskError, now_ms: int, *, closing: Mapping[str, Value]) -> Write:
    """Without any image FAILED; with some COMPLETED, and each missing one carries the error."""
    if not task.images:
        return end(task, now_ms, state=TaskState.FAILED, error=error, closing=closing)
    ended = end(task, now_ms, state=TaskState.COMPLETED, error=None, closing=closing)
    return replace(ended, set={**ended.set, **{f"failures.{i}": error for i in task.missing_images}})


def closed(task: Task, call: Call) -> Call:
    """The call once nobody waits for its answer any more."""
    if call.state is not CallState.OPEN:
        return call
    known = purchases.delivered(task, call)
    return replace(call, state=CallState.DONE if known else CallState.IN_DOUBT)

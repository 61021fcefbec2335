"""Messages ⇄ domain: nothing is decided here, only said in the other language."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Container, Mapping

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.timestamp_pb2 import Timestamp
from image.v1 import image_service_pb2, image_source_pb2
from msgspec.structs import replace
from task.v1 import attempt_pb2, image_pb2, task_error_pb2, task_pb2

from server.api.status import code_number
from server.domain import costs
from server.domain.admission import Draft, DraftReference
from server.domain.errors import Reason, TaskError, TaskFailed, Violation
from server.domain.money import Cost
from server.domain.purchases import paid_or_open_calls
from server.domain.request import OutputFormat
from server.domain.task import Attempt, AttemptOutcome, Priority, StoredImage, Task, TaskState
from server.links import Link

SubmitRequest = image_service_pb2.GenerateImageRequest | image_service_pb2.GenerateSequentialImagesRequest
Mint = Callable[[str], Link]
"""Makes a link to an output from its key."""

_PRIORITIES = {
    task_pb2.TASK_PRIORITY_UNSPECIFIED: Priority.DEFAULT,
    task_pb2.TASK_PRIORITY_CRITICAL: Priority.CRITICAL,
    task_pb2.TASK_PRIORITY_DEFAULT: Priority.DEFAULT,
    task_pb2.TASK_PRIORITY_LOW: Priority.LOW,
}
_FORMATS = {
    image_service_pb2.OUTPUT_FORMAT_UNSPECIFIED: None,
    image_service_pb2.OUTPUT_FORMAT_PNG: OutputFormat.PNG,
    image_service_pb2.OUTPUT_FORMAT_JPEG: OutputFormat.JPEG,
    image_service_pb2.OUTPUT_FORMAT_WEBP: OutputFormat.WEBP,
}
# Values by name, as messages take them.
_STATES = {state: f"TASK_STATE_{state}" for state in TaskState}
_PRIORITY_NAMES = {priority: f"TASK_PRIORITY_{priority}" for priority in Priority}
_OUTCOMES = {outcome: f"ATTEMPT_OUTCOME_{outcome}" for outcome in AttemptOutcome}
_REASONS = {reason: f"ERROR_REASON_{reason}" for reason in Reason}


# --- requests -----------------------------------------------------------------------------------------


def draft(request: SubmitRequest) -> Draft:
    """What was sent, unknown enum numbers noted as violations."""
    options = request.options
    violations: list[Violation] = []
    for name, number, wrapper in (
        ("output_format", request.output_format, image_service_pb2.OutputFormat),
        ("response_format", request.response_format, image_service_pb2.ResponseFormat),
        ("options.priority", options.priority, task_pb2.TaskPriority),
    ):
        unknown = unknown_enum(name, number, wrapper)
        if unknown is not None:
            violations.append(unknown)
    sequence = isinstance(request, image_service_pb2.GenerateSequentialImagesRequest)
    return Draft(
        prompt=request.prompt,
        model=request.model,
        size=request.size,
        watermark=request.watermark,
        seed=request.seed if request.HasField("seed") else None,
        guidance_scale=request.guidance_scale if request.HasField("guidance_scale") else None,
        references=tuple(_reference(r) for r in request.reference_images),
        quality=request.quality,
        output_format=_FORMATS.get(request.output_format),
        provider=request.provider,
        negative_prompt=request.negative_prompt,
        request_id=request.request_id,
        user_id=request.user_id,
        priority=_PRIORITIES.get(options.priority, Priority.DEFAULT),
        ttl_ms=options.ttl.ToMilliseconds() if options.HasField("ttl") else None,
        labels=dict(options.labels),
        max_paid_attempts=options.max_paid_attempts if options.HasField("max_paid_attempts") else None,
        sequence=sequence,
        max_images=request.max_images
        if isinstance(request, image_service_pb2.GenerateSequentialImagesRequest)
        else 0,
        violations=tuple(violations),
    )


def unknown_enum(name: str, number: int, wrapper: EnumTypeWrapper) -> Violation | None:
    """A violation that lists the known values, if this number is none of them."""
    if number in wrapper.DESCRIPTOR.values_by_number:
        return None
    known = ", ".join(f"{k} ({v})" for k, v in wrapper.items())
    return Violation(field=name, description=f"{number} is not a known value; known: {known}")


def _reference(source: image_source_pb2.ImageSource) -> DraftReference:
    kind = source.WhichOneof("source") or ""
    return DraftReference(
        kind=kind,
        url=source.url,
        data=source.data,
        task_id=source.output.task_id if kind == "output" else "",
        index=source.output.index if kind == "output" else 0,
    )


def fingerprint(request: SubmitRequest) -> str:
    """SHA-256 of the fields as sent, without request_id and ttl, plus the rpc's family."""
    bare = copy.deepcopy(request)
    bare.ClearField("request_id")
    if bare.HasField("options"):
        bare.options.ClearField("ttl")
        if not bare.options.ByteSize():
            bare.ClearField("options")
    family = request.DESCRIPTOR.name.encode()
    return hashlib.sha256(family + b"\0" + bare.SerializeToString(deterministic=True)).hexdigest()


# --- answers ------------------------------------------------------------------------------------------


def task(source: Task, mint: Mint, *, attempts: bool = True) -> task_pb2.Task:
    """The whole task; `attempts=False` for the BASIC view."""
    spent = costs.by_attempt(source)
    message = task_pb2.Task(
        task_id=source.id,
        type=task_pb2.TASK_TYPE_IMAGE,
        state=_STATES[source.state],
        priority=_PRIORITY_NAMES[source.priority],
        provider=source.provider,
        model=source.model,
        user_id=source.user_id,
        request_id=source.request_id,
        prompt=source.request.prompt,
        labels=source.labels,
        revision=source.revision,
        create_time=_time(source.create_time_ms),
        start_time=_time(source.start_time_ms),
        update_time=_time(source.update_time_ms),
        end_time=_time(source.end_time_ms),
        progress=progress(source),
        cancel_requested=source.cancel_requested,
        cost=cost(costs.total(spent.values())),
    )
    if attempts:
        message.attempts.extend(
            _attempt(source, a, spent.get(number)) for number, a in sorted(source.attempts.items())
        )
    if source.state is TaskState.FAILED:
        message.error.CopyFrom(task_error(_end_error(source)))
    elif source.images or source.failures or source.state is TaskState.COMPLETED:
        message.image.images.extend(images(source, mint))
        message.image.failures.extend(failures(source))
    return message


def progress(source: Task) -> task_pb2.Progress:
    """How many images are there, of how many."""
    return task_pb2.Progress(images_done=len(source.images), images_wanted=source.images_wanted)


def images(source: Task, mint: Mint) -> list[image_pb2.Image]:
    """The stored images in order of index."""
    return [image(i, mint) for _, i in sorted(source.images.items())]


def image(source: StoredImage, mint: Mint) -> image_pb2.Image:
    """One stored image."""
    minted = mint(source.key)
    return image_pb2.Image(
        index=source.index,
        url=minted.url,
        url_expire_time=_time(minted.expire_time_ms),
        width_px=source.width_px,
        height_px=source.height_px,
        mime_type=source.mime_type,
        size_bytes=source.size_bytes,
        sha256=source.sha256,
        seed=source.seed if source.seed >= 0 else None,
    )


def failures(source: Task, *, besides: Container[int] = ()) -> list[image_pb2.ImageFailure]:
    """The images that could not be made, in order of index, but for those at the indexes `besides`."""
    return [
        image_pb2.ImageFailure(index=index, error=task_error(_with_facts(error, source)))
        for index, error in sorted(source.failures.items())
        if index not in besides
    ]


def task_error(source: TaskError) -> task_error_pb2.TaskError:
    """Why something failed."""
    return task_error_pb2.TaskError(
        reason=_REASONS[source.reason],
        message=source.message,
        code=code_number(source.reason),
        retryable=source.retryable,
        metadata=source.metadata,
    )


def generated(source: Task, mint: Mint) -> image_service_pb2.GenerateImageResponse:
    """The answer of a synchronous call to a task that is over. Raises TaskFailed if it has no image."""
    if source.state is not TaskState.COMPLETED:
        raise TaskFailed(source.id, _end_error(source))
    return image_service_pb2.GenerateImageResponse(
        task_id=source.id,
        images=images(source, mint),
        failures=failures(source),
        model=source.model,
        provider=source.provider,
        usage=task_pb2.Usage(
            images=len(source.images),
            paid_calls=paid_or_open_calls(source),
            cost=cost(costs.total(costs.by_attempt(source).values())),
        ),
        create_time=_time(source.create_time_ms),
    )


def accepted(source: Task) -> image_service_pb2.GenerateImageAsyncResponse:
    """The answer of an asynchronous submit."""
    return image_service_pb2.GenerateImageAsyncResponse(
        task_id=source.id, state=_STATES[source.state], provider=source.provider, model=source.model
    )


def end_error(source: Task) -> TaskFailed:
    """The error of a task that ended without an image."""
    return TaskFailed(source.id, _end_error(source))


def _end_error(source: Task) -> TaskError:
    error = source.error or TaskError(
        reason=Reason.INTERNAL_ERROR, message="The task ended without saying why."
    )
    return _with_facts(error, source)


def _with_facts(error: TaskError, source: Task, attempt: Attempt | None = None) -> TaskError:
    """The error of the task, of one of its images or of the attempt, with what its reason promises."""
    names = _FACTS.get(error.reason)
    if not names:
        return error
    facts = {
        "provider": attempt.provider if attempt else source.provider,
        "attempts": str(sum(not attempt or n <= attempt.number for n in source.attempts)),
        "max_paid_attempts": str(source.max_paid_attempts),
        "ttl_seconds": f"{(source.ttl_time_ms - source.create_time_ms) / 1000:g}",
    }
    return replace(error, metadata={**{name: facts[name] for name in names}, **error.metadata})


_FACTS: Mapping[Reason, tuple[str, ...]] = {
    Reason.PROVIDER_MISCONFIGURED: ("provider",),
    Reason.PROVIDER_UNAVAILABLE: ("provider", "attempts"),
    Reason.PROVIDER_REJECTED: ("provider",),
    Reason.PROVIDER_TIMEOUT: ("provider",),
    Reason.CONTENT_POLICY_INPUT: ("provider",),
    Reason.CONTENT_POLICY_OUTPUT: ("provider",),
    Reason.OUTPUT_FETCH_FAILED: ("provider",),
    Reason.OUTCOME_UNKNOWN: ("provider", "max_paid_attempts"),
    Reason.WORKER_LOST: ("attempts",),
    Reason.TASK_EXPIRED: ("ttl_seconds",),
}
"""What is known of a task and belongs to its errors' metadata, as `task.v1.ErrorReason` promises."""


def cost(source: Cost | None) -> task_pb2.Cost | None:
    """An amount of money; unset where it is not known."""
    if source is None:
        return None
    return task_pb2.Cost(currency=source.currency, amount_micros=source.amount_micros)


def _attempt(task: Task, source: Attempt, spent: Cost | None) -> attempt_pb2.Attempt:
    return attempt_pb2.Attempt(
        number=source.number,
        provider=source.provider,
        worker=source.worker,
        start_time=_time(source.start_time_ms),
        sent_time=_time(source.sent_time_ms),
        end_time=_time(source.end_time_ms),
        outcome=_OUTCOMES[source.outcome] if source.outcome else None,
        error=task_error(_with_facts(source.error, task, source)) if source.error else None,
        paid=source.paid,
        cost_micros=spent.amount_micros if spent is not None else None,
        cost_currency=spent.currency if spent is not None else "",
    )


def _time(time_ms: int) -> Timestamp | None:
    if not time_ms:
        return None
    return Timestamp(seconds=time_ms // 1000, nanos=time_ms % 1000 * 1_000_000)

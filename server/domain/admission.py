"""From what a caller sent to a request that is valid if it exists, with every violation found at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, field

from server.domain import request as limits
from server.domain.catalogue import Catalogue, Model, Route
from server.domain.errors import InvalidRequest, ServiceError, Violation
from server.domain.references import ReferenceRules
from server.domain.request import ImageRequest, OutputFormat, Size
from server.domain.routing import Routing
from server.domain.task import Priority

MAX_PAID_ATTEMPTS = 10

Wrong = Callable[[str, str], None]
"""Collects one violation: the field's proto path, and what is wrong and allowed."""


class DraftReference(Struct, frozen=True, kw_only=True):
    """A reference image as sent: exactly one of the three is meant to be set."""

    url: str = ""
    data: bytes = b""
    task_id: str = ""
    """With `index`: an output of an earlier task of the same caller."""
    index: int = 0
    kind: str = ""
    """`url`, `data`, `output`, or empty when none was set."""


Look = Callable[[DraftReference, ReferenceRules], str | None]
"""What is wrong with the head of a reference's bytes, or with the form of its link; None if nothing is."""


class Draft(Struct, frozen=True, kw_only=True):
    """A request as sent, before defaults and before any check."""

    prompt: str
    model: str = ""
    size: str = ""
    watermark: bool = False
    seed: int | None = None
    guidance_scale: float | None = None
    references: tuple[DraftReference, ...] = ()
    quality: str = ""
    output_format: OutputFormat | None = None
    provider: str = ""
    negative_prompt: str = ""
    request_id: str = ""
    user_id: str = ""
    priority: Priority = Priority.DEFAULT
    ttl_ms: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    max_paid_attempts: int | None = None
    sequence: bool = False
    max_images: int = 0
    violations: tuple[Violation, ...] = ()
    """What was found wrong while the message was read (unknown enum numbers)."""


class Defaults(Struct, frozen=True, kw_only=True):
    """What this deployment fills in."""

    model: str
    size: str
    max_paid_attempts: int


class Admitted(Struct, frozen=True, kw_only=True):
    """A request that is valid but for links of a wrong form; its references are still as sent."""

    model: Model
    route: Route
    request: ImageRequest
    ttl_ms: int
    max_paid_attempts: int
    misshapen: Mapping[int, Violation]
    """The links of a wrong form, by place among the references."""


def admit(
    draft: Draft, *, catalogue: Catalogue, routing: Routing, defaults: Defaults, seed: int, look: Look
) -> Admitted:
    """Check everything that shows without asking anybody. `seed` is used when the draft names none.

    Raises InvalidRequest with all violations; ModelNotFound or ProviderNotConfigured only for a request
    that is right in every other respect. Links of a wrong form alone are let through (`Admitted.misshapen`),
    to be told beside what only a look at the earlier outputs and behind the other links shows.
    """
    found = list(draft.violations)

    def wrong(name: str, description: str) -> None:
        found.append(Violation(field=name, description=description))

    _check_texts(draft, wrong)
    _check_numbers(draft, wrong)
    _check_options(draft, wrong)
    model: Model | None = None
    route: Route | None = None
    refused: ServiceError | None = None
    try:
        model = catalogue.find(draft.model.strip() or defaults.model)
        route = routing.choose(model, draft.provider.strip().lower())
    except InvalidRequest as error:
        found.extend(error.violations)
    except ServiceError as error:
        refused = error
    rules = model.reference_rules if model is not None else ReferenceRules()
    misshapen = _check_references(draft, rules, look, wrong)
    wanted = _wanted_images(draft, wrong)
    chosen = None
    if model is not None:
        if not draft.max_images:  # the default is nobody's wish
            wanted = min(wanted, model.max_images)
        chosen = _fit_to_model(draft, model, defaults, wanted, wrong)
        # Of one that cannot be reached, too, everything is said at once.
        _fit_to_route(draft, model, route or model.routes[0], wrong)
    if len(found) > len(misshapen) or (found and refused is not None):
        raise InvalidRequest(found)
    if refused is not None:
        raise refused
    if model is None or route is None or chosen is None:
        raise AssertionError("a request without violations has a model, a route and a size")
    size, label = chosen
    return Admitted(
        model=model,
        route=route,
        request=ImageRequest(
            prompt=draft.prompt,
            negative_prompt=draft.negative_prompt,
            size=size,
            size_label=label,
            watermark=draft.watermark,
            seed=seed if draft.seed is None or draft.seed < 0 else draft.seed,
            guidance_scale=draft.guidance_scale,
            quality=draft.quality,
            output_format=draft.output_format or route.parameters.output_formats[0],
            sequence=draft.sequence,
            max_images=wanted,
        ),
        ttl_ms=limits.DEFAULT_TTL_S * 1000 if draft.ttl_ms is None else draft.ttl_ms,
        max_paid_attempts=(
            defaults.max_paid_attempts if draft.max_paid_attempts is None else draft.max_paid_attempts
        ),
        misshapen=misshapen,
    )


def _check_texts(draft: Draft, wrong: Wrong) -> None:
    if not draft.prompt.strip():
        wrong("prompt", f"is required: 1 to {limits.MAX_PROMPT_CHARS:,} characters")
    for name, text, most in (
        ("prompt", draft.prompt, limits.MAX_PROMPT_CHARS),
        ("negative_prompt", draft.negative_prompt, limits.MAX_PROMPT_CHARS),
        ("request_id", draft.request_id, limits.MAX_ID_CHARS),
        ("user_id", draft.user_id, limits.MAX_ID_CHARS),
    ):
        if len(text) > most:
            wrong(name, f"has {len(text):,} characters, at most {most:,} are allowed")


def _check_numbers(draft: Draft, wrong: Wrong) -> None:
    if draft.seed is not None and draft.seed < limits.MIN_SEED:
        wrong("seed", f"is {draft.seed}; allowed: {limits.MIN_SEED} (random) to {limits.MAX_SEED:,}")
    low, high = limits.MIN_GUIDANCE_SCALE, limits.MAX_GUIDANCE_SCALE
    scale = draft.guidance_scale
    if scale is not None and not (math.isfinite(scale) and low <= scale <= high):
        wrong("guidance_scale", f"is {scale:g}; allowed: {low:g} to {high:g}, or unset")


def _check_options(draft: Draft, wrong: Wrong) -> None:
    if draft.ttl_ms is not None and not limits.MIN_TTL_S * 1000 <= draft.ttl_ms <= limits.MAX_TTL_S * 1000:
        sent = f"{draft.ttl_ms / 1000:,}".removesuffix(".0")
        wrong("options.ttl", f"is {sent} s; allowed: 1 s to {limits.MAX_TTL_S:,} s (7 days)")
    if draft.max_paid_attempts is not None and not 1 <= draft.max_paid_attempts <= MAX_PAID_ATTEMPTS:
        wrong("options.max_paid_attempts", f"is {draft.max_paid_attempts}; allowed: 1 to {MAX_PAID_ATTEMPTS}")
    if len(draft.labels) > limits.MAX_LABELS:
        wrong("options.labels", f"has {len(draft.labels)} labels, at most {limits.MAX_LABELS} are allowed")
        return
    for key, value in draft.labels.items():
        if not 1 <= len(key) <= limits.MAX_LABEL_CHARS or len(value) > limits.MAX_LABEL_CHARS:
            wrong(
                f"options.labels[{key[: limits.MAX_LABEL_CHARS]!r}]",
                f"keys have 1 to {limits.MAX_LABEL_CHARS} characters, values at most as many",
            )


def _check_references(
    draft: Draft, rules: ReferenceRules, look: Look, wrong: Wrong
) -> Mapping[int, Violation]:
    """Those of the violations that are links of a wrong form, by place."""
    misshapen: dict[int, Violation] = {}
    if len(draft.references) > limits.MAX_REFERENCES:
        wrong(
            "reference_images",
            f"has {len(draft.references)} images, at most {limits.MAX_REFERENCES} are allowed",
        )
        return misshapen
    for i, reference in enumerate(draft.references):
        path = f"reference_images[{i}]"
        if reference.kind == "data":
            size = len(reference.data)
            if not 0 < size <= limits.MAX_REFERENCE_BYTES:
                wrong(f"{path}.data", f"has {size:,} bytes; allowed: 1 to {limits.MAX_REFERENCE_BYTES:,}")
            elif fault := look(reference, rules):
                wrong(f"{path}.data", fault)
        elif reference.kind == "output":
            if not 1 <= len(reference.task_id) <= limits.MAX_ID_CHARS:
                wrong(f"{path}.output.task_id", f"must have 1 to {limits.MAX_ID_CHARS} characters")
            if not 0 <= reference.index < limits.MAX_IMAGES:
                wrong(f"{path}.output.index", f"is {reference.index}; allowed: 0 to {limits.MAX_IMAGES - 1}")
        elif reference.kind == "url":
            if not 1 <= len(reference.url) <= limits.MAX_LINK_CHARS:
                wrong(f"{path}.url", f"must have 1 to {limits.MAX_LINK_CHARS:,} characters")
            elif fault := look(reference, rules):
                wrong(f"{path}.url", fault)
                misshapen[i] = Violation(field=f"{path}.url", description=fault)
        else:
            wrong(path, "one of `data`, `output` or `url` must be set")
    return misshapen


def _wanted_images(draft: Draft, wrong: Wrong) -> int:
    if not draft.sequence:
        return 1
    if not 0 <= draft.max_images <= limits.MAX_IMAGES:
        wrong("max_images", f"is {draft.max_images}; allowed: 1 to {limits.MAX_IMAGES}, or 0 for the default")
        return 1
    room = max(1, limits.MAX_IMAGES - len(draft.references))
    wanted = draft.max_images or min(limits.DEFAULT_SEQUENCE_IMAGES, room)
    if wanted + len(draft.references) > limits.MAX_IMAGES:
        wrong(
            "max_images",
            f"{wanted} images and {len(draft.references)} references are more than "
            f"{limits.MAX_IMAGES} together",
        )
    return wanted


def _fit_to_model(
    draft: Draft, model: Model, defaults: Defaults, wanted: int, wrong: Wrong
) -> tuple[Size, str] | None:
    """The size to ask for, after checking what this model can honour."""
    if len(draft.references) > model.max_references:
        allowed = f"at most {model.max_references}" if model.max_references else "no"
        wrong("reference_images", f"{model.id} takes {allowed} reference images")
    if len(draft.references) < model.min_references:
        wrong("reference_images", f"{model.id} edits pictures: at least {model.min_references} must be sent")
    if wanted > model.max_images:
        wrong("max_images", f"{model.id} makes at most {model.max_images} images of one sequence")
    if draft.quality and draft.quality != "standard" and draft.quality not in model.qualities:
        wrong(
            "quality",
            f"{draft.quality[:64]!r} is not known to {model.id}; allowed: {', '.join(model.qualities)}",
        )
    if draft.size.strip():
        chosen = model.sizes.resolve(draft.size)
        if chosen is None:
            wrong("size", f"{draft.size[:64]!r} is not made by {model.id}; allowed: {model.sizes.describe()}")
        return chosen
    return model.sizes.resolve(defaults.size) or model.sizes.resolve(model.sizes.default)


def _fit_to_route(draft: Draft, model: Model, route: Route, wrong: Wrong) -> None:
    """Check the fields that a provider may lack; one that says "no preference" passes everywhere."""
    takes, at = route.parameters, f"{model.id} at {route.provider}"
    if not takes.seed and draft.seed is not None and draft.seed > 0:
        wrong("seed", f"is not taken by {at}; allowed: -1 (random), 0 or unset")
    if not takes.guidance_scale and draft.guidance_scale is not None:
        wrong("guidance_scale", f"is not taken by {at}; allowed: unset")
    if draft.watermark and not takes.watermark:
        wrong("watermark", f"is not put on by {at}; allowed: false")
    if draft.output_format is not None and draft.output_format not in takes.output_formats:
        names = ", ".join(f.name for f in takes.output_formats)
        wrong("output_format", f"{draft.output_format.name} is not made by {at}; allowed: {names}")


def check_task_id(task_id: str, *, others: Sequence[Violation] = ()) -> None:
    """Raise InvalidRequest for an id that no task can have, together with the request's other violations."""
    found = list(others)
    if not 1 <= len(task_id) <= limits.MAX_ID_CHARS:
        description = f"must have 1 to {limits.MAX_ID_CHARS} characters, has {len(task_id)}"
        found.append(Violation(field="task_id", description=description))
    if found:
        raise InvalidRequest(found)

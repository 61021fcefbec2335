"""Admission: every rule at and beyond its bound, and all violations at once."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from server.domain.admission import Draft, DraftReference, check_task_id
from server.domain.errors import InvalidRequest, ModelNotFound, ProviderNotConfigured, ServiceError, Violation
from server.domain.request import MAX_LINK_CHARS, MAX_REFERENCE_BYTES, OutputFormat
from tests.unit.domain.drafts import BYTES, DEFAULTS, GOOD, OUTPUT, admitted, draft


def violations(draft: Draft) -> list[Violation]:
    with pytest.raises(InvalidRequest) as caught:
        admitted(draft)
    return caught.value.violations


# --- rules -------------------------------------------------------------------------------------------

INSIDE: dict[str, Draft] = {
    "prompt of one character": draft(prompt="猫"),
    "longest prompt": draft(prompt="猫" * 4_000),
    "longest negative prompt": draft(negative_prompt="x" * 4_000),
    "longest ids": draft(request_id="r" * 128, user_id="u" * 128),
    "random seed": draft(seed=-1),
    "least seed": draft(seed=0),
    "greatest seed": draft(seed=2**31 - 1),
    "least guidance": draft(guidance_scale=1.0),
    "greatest guidance": draft(guidance_scale=10.0),
    "shortest ttl": draft(ttl_ms=1_000),
    "longest ttl": draft(ttl_ms=7 * 86_400_000),
    "one paid attempt": draft(max_paid_attempts=1),
    "most paid attempts": draft(max_paid_attempts=10),
    "most labels": draft(labels={f"{i:02}" + "k" * 61: "v" * 63 for i in range(16)}),
    "empty label value": draft(labels={"k": ""}),
    "most references": draft(references=(BYTES,) * 14),
    "longest link": draft(references=(DraftReference(kind="url", url="c" * MAX_LINK_CHARS),)),
    "largest reference": draft(references=(DraftReference(kind="data", data=bytes(MAX_REFERENCE_BYTES)),)),
    "last output": draft(references=(replace(OUTPUT, index=14),)),
    "fewest images": draft(sequence=True, max_images=1),
    "most images": draft(sequence=True, max_images=15),
    "images and references": draft(sequence=True, max_images=8, references=(BYTES,) * 7),
    "images that are no sequence": draft(max_images=99),
    "alias": draft(model=" canvas-1 "),
    "provider in capitals": draft(provider=" Local "),
    "quality without preference": draft(quality="standard"),
    "known quality": draft(model="sketch", quality="hd"),
    "known format": draft(model="sketch", output_format=OutputFormat.PNG),
    "most images of the model": draft(model="sketch", sequence=True, max_images=3),
    "most references of the model": draft(model="sketch", references=(BYTES, OUTPUT)),
    "no preference of a model that lacks the field": draft(
        model="plain", seed=-1, watermark=False, quality="standard", output_format=OutputFormat.JPEG
    ),
    "seed 0 of a model without seeds": draft(model="plain", seed=0),
    "a picture to edit": draft(model="editor", references=(BYTES,)),
    "size in small letters": draft(size=" 1k "),
    "size in pixels": draft(size=" 640x480 "),
}


@pytest.mark.parametrize("good", INSIDE.values(), ids=INSIDE)
def test_what_is_allowed(good: Draft) -> None:
    assert admitted(good).request.prompt == good.prompt


OUTSIDE: dict[str, tuple[Draft, str, str]] = {
    "no prompt": (draft(prompt=""), "prompt", "is required: 1 to 4,000 characters"),
    "blank prompt": (draft(prompt=" \n\t"), "prompt", "is required"),
    "long prompt": (draft(prompt="x" * 4_001), "prompt", "has 4,001 characters, at most 4,000"),
    "long negative prompt": (draft(negative_prompt="x" * 4_001), "negative_prompt", "at most 4,000"),
    "long request id": (draft(request_id="x" * 129), "request_id", "at most 128"),
    "long user id": (draft(user_id="x" * 129), "user_id", "at most 128"),
    "negative seed": (draft(seed=-2), "seed", "is -2; allowed: -1 (random) to 2,147,483,647"),
    "low guidance": (draft(guidance_scale=0.99), "guidance_scale", "is 0.99; allowed: 1 to 10, or unset"),
    "high guidance": (draft(guidance_scale=10.01), "guidance_scale", "allowed: 1 to 10"),
    "no number": (draft(guidance_scale=math.nan), "guidance_scale", "is nan"),
    "infinite guidance": (draft(guidance_scale=math.inf), "guidance_scale", "is inf"),
    "short ttl": (draft(ttl_ms=999), "options.ttl", "is 0.999 s; allowed: 1 s to 604,800 s (7 days)"),
    "no ttl": (draft(ttl_ms=0), "options.ttl", "is 0 s"),
    "long ttl": (draft(ttl_ms=7 * 86_400_000 + 1), "options.ttl", "allowed: 1 s to"),
    "no paid attempt": (draft(max_paid_attempts=0), "options.max_paid_attempts", "is 0; allowed: 1 to 10"),
    "many paid attempts": (draft(max_paid_attempts=11), "options.max_paid_attempts", "is 11"),
    "many labels": (draft(labels={str(i): "" for i in range(17)}), "options.labels", "has 17 labels"),
    "empty label": (draft(labels={"": "v"}), "options.labels['']", "keys have 1 to 63"),
    "long label": (draft(labels={"k" * 64: "v"}), f"options.labels['{'k' * 63}']", "keys have 1 to 63"),
    "long label value": (draft(labels={"k": "v" * 64}), "options.labels['k']", "values at most as many"),
    "many references": (draft(references=(BYTES,) * 15), "reference_images", "has 15 images, at most 14"),
    "empty reference": (
        draft(references=(BYTES, replace(BYTES, data=b""))),
        "reference_images[1].data",
        "has 0 bytes; allowed: 1 to 10,485,760",
    ),
    "large reference": (
        draft(references=(replace(BYTES, data=bytes(MAX_REFERENCE_BYTES + 1)),)),
        "reference_images[0].data",
        "has 10,485,761 bytes",
    ),
    "reference to no task": (
        draft(references=(replace(OUTPUT, task_id=""),)),
        "reference_images[0].output.task_id",
        "must have 1 to 128 characters",
    ),
    "reference to a long task id": (
        draft(references=(replace(OUTPUT, task_id="x" * 129),)),
        "reference_images[0].output.task_id",
        "must have 1 to 128 characters",
    ),
    "reference before the first": (
        draft(references=(replace(OUTPUT, index=-1),)),
        "reference_images[0].output.index",
        "is -1; allowed: 0 to 14",
    ),
    "reference after the last": (
        draft(references=(replace(OUTPUT, index=15),)),
        "reference_images[0].output.index",
        "is 15; allowed: 0 to 14",
    ),
    "reference by link": (
        draft(references=(DraftReference(kind="url", url="https://example.com/" + "c" * MAX_LINK_CHARS),)),
        "reference_images[0].url",
        "must have 1 to 4,096 characters",
    ),
    "reference to nothing": (draft(references=(DraftReference(),)), "reference_images[0]", "must be set"),
    "negative images": (draft(sequence=True, max_images=-1), "max_images", "is -1; allowed: 1 to 15, or 0"),
    "many images": (draft(sequence=True, max_images=16), "max_images", "is 16"),
    "images and references": (
        draft(sequence=True, max_images=8, references=(BYTES,) * 8),
        "max_images",
        "8 images and 8 references are more than 15 together",
    ),
    "references of a model without": (
        draft(model="blind", references=(BYTES,)),
        "reference_images",
        "blind takes no reference images",
    ),
    "more references than the model": (
        draft(model="sketch", references=(BYTES,) * 3),
        "reference_images",
        "sketch takes at most 2 reference images",
    ),
    "more images than the model": (
        draft(model="sketch", sequence=True, max_images=4),
        "max_images",
        "sketch makes at most 3 images",
    ),
    "seed of a model without": (
        draft(model="plain", seed=1),
        "seed",
        "is not taken by plain at local; allowed: -1 (random), 0 or unset",
    ),
    "guidance of a model without": (
        draft(model="plain", guidance_scale=2.5),
        "guidance_scale",
        "is not taken by plain at local; allowed: unset",
    ),
    "watermark of a model without": (
        draft(model="plain", watermark=True),
        "watermark",
        "is not put on by plain at local; allowed: false",
    ),
    "seed of a model out of reach": (draft(model="elsewhere", seed=1), "seed", "by elsewhere at ark"),
    "nothing to edit": (
        draft(model="editor"),
        "reference_images",
        "editor edits pictures: at least 1 must be sent",
    ),
    "unknown quality": (
        draft(model="sketch", quality="ultra"),
        "quality",
        "'ultra' is not known to sketch; allowed: standard, hd",
    ),
    "long quality": (draft(quality="q" * 100), "quality", f"{'q' * 64!r} is not known"),
    "unknown format": (
        draft(model="sketch", output_format=OutputFormat.WEBP),
        "output_format",
        "WEBP is not made by sketch at local; allowed: JPEG, PNG",
    ),
    "unknown size": (
        draft(size="0x0"),
        "size",
        "'0x0' is not made by canvas; allowed: 1K, 2K or WIDTHxHEIGHT",
    ),
    "huge size": (draft(size="99999x99999"), "size", "'99999x99999' is not made by canvas"),
    "long size": (draft(size="9" * 100), "size", f"{'9' * 64!r} is not made by canvas"),
    "size of another model": (draft(model="sketch", size="2K"), "size", "allowed: 256x256"),
    "unknown provider": (
        draft(provider="ark"),
        "provider",
        "'ark' does not serve canvas; allowed: empty, local",
    ),
}


@pytest.mark.parametrize(("bad", "field", "text"), OUTSIDE.values(), ids=OUTSIDE)
def test_what_is_not_allowed(bad: Draft, field: str, text: str) -> None:
    [violation] = violations(bad)
    assert violation.field == field
    assert text in violation.description


def test_all_violations_are_told_at_once() -> None:
    found = violations(
        Draft(
            prompt="",
            model="sketch",
            size="0x0",
            seed=-5,
            guidance_scale=0.0,
            references=(DraftReference(), replace(BYTES, data=b""), OUTPUT),
            quality="ultra",
            output_format=OutputFormat.WEBP,
            negative_prompt="x" * 4_001,
            request_id="x" * 129,
            user_id="x" * 129,
            ttl_ms=1,
            labels={"": ""},
            max_paid_attempts=11,
            sequence=True,
            max_images=16,
            violations=(Violation(field="options.priority", description="99 is not known"),),
        )
    )
    assert sorted(v.field for v in found) == sorted(
        [
            "options.priority",
            "prompt",
            "negative_prompt",
            "request_id",
            "user_id",
            "seed",
            "guidance_scale",
            "options.ttl",
            "options.max_paid_attempts",
            "options.labels['']",
            "reference_images[0]",
            "reference_images[1].data",
            "reference_images",
            "max_images",
            "quality",
            "output_format",
            "size",
        ]
    )


def test_the_text_of_the_error_holds_every_violation() -> None:
    with pytest.raises(InvalidRequest) as caught:
        admitted(draft(prompt="", seed=-5))
    assert caught.value.message.startswith("prompt: is required")
    assert "; seed: is -5" in caught.value.message


@pytest.mark.parametrize(
    ("bad", "kind"),
    [(draft(model="unknown"), ModelNotFound), (draft(model="elsewhere"), ProviderNotConfigured)],
    ids=["unknown model", "no provider"],
)
def test_violations_come_before_what_the_deployment_lacks(bad: Draft, kind: type[ServiceError]) -> None:
    """A caller mends the request first; then it learns that nobody could serve it."""
    assert [v.field for v in violations(replace(bad, seed=-5))] == ["seed"]
    with pytest.raises(kind):
        admitted(bad)


def test_what_a_model_cannot_do_is_told_although_nobody_serves_it() -> None:
    assert [v.field for v in violations(draft(model="elsewhere", size="65x65"))] == ["size"]


def test_an_unknown_default_model_is_the_deployments_fault() -> None:
    with pytest.raises(ModelNotFound):
        admitted(GOOD, defaults=replace(DEFAULTS, model="gone"))


# --- ids ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_id", ["x", "task_1234567890", "x" * 128, "猫"])
def test_any_short_text_may_be_an_id(task_id: str) -> None:
    check_task_id(task_id)


@pytest.mark.parametrize(("task_id", "length"), [("", 0), ("x" * 129, 129)])
def test_what_can_be_no_id(task_id: str, length: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_task_id(task_id)
    [violation] = caught.value.violations
    assert violation == Violation(field="task_id", description=f"must have 1 to 128 characters, has {length}")

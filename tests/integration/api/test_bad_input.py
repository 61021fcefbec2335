"""What callers may get wrong: refused with every fault named, nothing kept, the server unharmed."""

from __future__ import annotations

import math

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from image.v1.image_source_pb2 import ImageSource

from tests.integration.api.deployment import Deployment
from tests.integration.api.refusals import assert_invalid, refusals_of_submit
from tests.integration.api.requests import (
    DAY_S,
    MIB,
    SMALLEST_BYTES,
    SubmitRequest,
    data,
    image,
    labels,
    link,
    options,
    output,
    picture,
    sequence,
    ttl,
)
from tests.stack import Calls

pytestmark = [pytest.mark.xdist_group("api-queueing"), pytest.mark.usefixtures("unharmed")]

KEY_64 = "k" * 64
WITHOUT_LABELS = "doubao-seedream-3.0-t2i"
"""A model that takes sizes in pixels and no label."""
TINY = data(SMALLEST_BYTES)
NOBODYS = "01JD8ZK5T0N0V6Y3W2Q4R5S6T7"

INVALID: list[tuple[SubmitRequest, str, str]] = [
    # what is sent                                  the field                              what is allowed
    (image(prompt=""),                              "prompt",                              "1 to 4,000"),
    (image(prompt=" \n\t"),                         "prompt",                              "1 to 4,000"),
    (image(prompt="x" * 4_001),                     "prompt",                              "4,000"),
    (image(prompt="猫" * 4_001),                    "prompt",                              "4,000"),
    (image(negative_prompt="x" * 4_001),            "negative_prompt",                     "4,000"),
    (image(request_id="r" * 129),                   "request_id",                          "128"),
    (image(user_id="u" * 129),                      "user_id",                             "128"),
    (image(size="0x0"),                             "size",                                "1K, 2K, 4K"),
    (image(size="99999x99999"),                     "size",                                "64 to 4096"),
    (image(size="abc"),                             "size",                                "WIDTHxHEIGHT"),
    (image(size="1024x"),                           "size",                                "WIDTHxHEIGHT"),
    (image(size="-1024x1024"),                      "size",                                "WIDTHxHEIGHT"),
    (image(size="１０２４x１０２４"),               "size",                                "WIDTHxHEIGHT"),
    (image(size="4097x1024"),                       "size",                                "64 to 4096"),
    (image(size="64x2048"),                         "size",                                "1:16"),
    (image(model=WITHOUT_LABELS, size="4K"),        "size",                                "1024x1024"),
    (image(model="dall-e-3", size="1000x1000"),     "size",                                "1792x1024"),
    (image(seed=-5),                                "seed",                                "-1"),
    (image(seed=-(2**31)),                          "seed",                                "-1"),
    (image(guidance_scale=0.0),                     "guidance_scale",                      "1 to 10"),
    (image(guidance_scale=10.5),                    "guidance_scale",                      "1 to 10"),
    (image(guidance_scale=math.nan),                "guidance_scale",                      "1 to 10"),
    (image(guidance_scale=math.inf),                "guidance_scale",                      "1 to 10"),
    (image(guidance_scale=-math.inf),               "guidance_scale",                      "1 to 10"),
    (image(quality="ultra"),                        "quality",                             "standard"),
    (image(provider="acme"),                        "provider",                            "local"),
    (image(model="dall-e-3", size="", provider="ark"), "provider",                         "openai"),
    (image(output_format=99),                       "output_format",                       "FORMAT_WEBP"),
    (image(output_format=-1),                       "output_format",                       "FORMAT_WEBP"),
    (image(response_format=3),                      "response_format",                     "FORMAT_BYTES"),
    (image(options=options(priority=4)),            "options.priority",                    "PRIORITY_LOW"),
    (image(options=ttl(0)),                         "options.ttl",                         "1 s"),
    (image(options=ttl(0, 999_000_000)),            "options.ttl",                         "1 s"),
    (image(options=ttl(-3600)),                     "options.ttl",                         "1 s"),
    (image(options=ttl(8 * DAY_S)),                 "options.ttl",                         "7 days"),
    (image(options=ttl(7 * DAY_S, 1_000_000)),      "options.ttl",                         "7 days"),
    (image(options=ttl(2**63 - 1)),                 "options.ttl",                         "7 days"),
    (image(options=options(max_paid_attempts=0)),   "options.max_paid_attempts",           "1 to 10"),
    (image(options=options(max_paid_attempts=11)),  "options.max_paid_attempts",           "1 to 10"),
    (image(options=options(labels=labels(17))),     "options.labels",                      "16"),
    (image(options=options(labels={KEY_64: "v"})),  f"options.labels['{KEY_64[:63]}']",    "63"),
    (image(options=options(labels={"": "v"})),      "options.labels['']",                  "63"),
    (image(options=options(labels={"a": KEY_64})),  "options.labels['a']",                 "63"),
    (image(reference_images=[data(8)] * 15),        "reference_images",                    "14"),
    (image(reference_images=[TINY, data(0)]),       "reference_images[1].data",            "10,485,760"),
    (image(reference_images=[data(10 * MIB + 1)]),  "reference_images[0].data",            "10,485,760"),
    (image(reference_images=[ImageSource()]),       "reference_images[0]",                 "`data`"),
    (image(reference_images=[picture(14, 64)]),     "reference_images[0].data",            "at least 15"),
    (image(reference_images=[picture(16, 257)]),    "reference_images[0].data",            "16 times"),
    (image(reference_images=[picture(6_001, 6_000)]), "reference_images[0].data",          "36,000,000"),
    (image(reference_images=[ImageSource(data=b"no image at all")]), "reference_images[0].data", "PNG, JPEG"),
    (image(reference_images=[link("")]),            "reference_images[0].url",             "4,096"),
    (image(reference_images=[link("https://h/" + "x" * 4_087)]), "reference_images[0].url", "4,096"),
    (image(reference_images=[link("http://h/a.png")]), "reference_images[0].url",          "https://"),
    (image(reference_images=[link("https://127.0.0.1/a.png")]), "reference_images[0].url", "picture itself"),
    (image(reference_images=[output("")]),          "reference_images[0].output.task_id",  "128"),
    (image(reference_images=[output("t" * 129)]),   "reference_images[0].output.task_id",  "128"),
    (image(reference_images=[output("t", -1)]),     "reference_images[0].output.index",    "0 to 14"),
    (image(reference_images=[output("t", 15)]),     "reference_images[0].output.index",    "0 to 14"),
    (image(model="dall-e-3", size="", reference_images=[TINY]), "reference_images",        "no reference"),
    (sequence(max_images=16),                       "max_images",                          "1 to 15"),
    (sequence(max_images=-1),                       "max_images",                          "1 to 15"),
    (sequence(max_images=13, reference_images=[TINY] * 3), "max_images",                   "15"),
    (sequence(prompt=""),                           "prompt",                              "1 to 4,000"),
    (sequence(output_format=2**31 - 1),             "output_format",                       "FORMAT_PNG"),
    (sequence(seed=-5),                             "seed",                                "-1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "field", "allowed"), INVALID, ids=[f"{field}-{n}" for n, (_, field, _) in enumerate(INVALID)]
)
@pytest.mark.usefixtures("nothing_kept")
async def test_an_invalid_field_is_named(
    calls: Calls, request_: SubmitRequest, field: str, allowed: str
) -> None:
    for refusal in await refusals_of_submit(calls, request_):
        assert_invalid(refusal, {field: allowed})


@pytest.mark.usefixtures("nothing_kept")
async def test_several_invalid_fields_are_named_together(calls: Calls) -> None:
    request = sequence(prompt="", seed=-5, size="0x0", max_images=16)
    wanted = {"prompt": "1 to 4,000", "seed": "-1", "size": "1K, 2K, 4K", "max_images": "1 to 15"}
    for refusal in await refusals_of_submit(calls, request):
        assert_invalid(refusal, wanted)


@pytest.mark.usefixtures("nothing_kept")
async def test_all_violations_of_a_request_come_at_once(calls: Calls) -> None:
    request = sequence(
        prompt="",
        negative_prompt="x" * 4_001,
        size="0x0",
        seed=-5,
        guidance_scale=math.nan,
        quality="ultra",
        provider="acme",
        output_format=99,
        response_format=99,
        request_id="r" * 129,
        user_id="u" * 129,
        max_images=16,
        reference_images=[ImageSource()] * 14,
        options=options(
            priority=99,
            ttl=Duration(seconds=-1),
            max_paid_attempts=0,
            labels={f"key-{i}": "v" * 64 for i in range(16)},
        ),
    )
    wanted = {
        *("prompt", "negative_prompt", "size", "seed", "guidance_scale", "quality", "provider"),
        *("output_format", "response_format", "request_id", "user_id", "max_images"),
        *("options.priority", "options.ttl", "options.max_paid_attempts"),
        *(f"reference_images[{i}]" for i in range(14)),
        *(f"options.labels['key-{i}']" for i in range(16)),
    }
    for refusal in await refusals_of_submit(calls, request):
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.reason == "INVALID_FIELD"
        assert refusal.fields == wanted


def wide_labels(character: str) -> dict[str, str]:
    """16 labels, each with a key that is one character too long."""
    return {f"{i:02}{character * 62}": "" for i in range(16)}


# Clients refuse trailers of 8 KiB or more, and would then see RESOURCE_EXHAUSTED, which means "send it
# again": whatever a caller repeats at us has to be cut.
OVERLONG: dict[str, SubmitRequest] = {
    "model of 5,000 characters": image(model="m" * 5_000, prompt=""),
    "size of 5,000 characters": image(size="9" * 5_000),
    "size of 5,000 wide characters": image(size="猫" * 5_000),
    "provider of 5,000 wide characters": image(provider="猫" * 5_000),
    "quality of 5,000 wide characters": image(quality="\U0010ffff" * 5_000),
    "label key of 5,000 wide characters": image(options=options(labels={"\U0010ffff" * 5_000: ""})),
    "label value of 1 MiB": image(options=options(labels={"a": "v" * MIB})),
    "16 label keys of 64 wide characters": image(options=options(labels=wide_labels("猫"))),
    "16 label keys of 64 astral characters": image(options=options(labels=wide_labels("\U0001f408"))),
    "these and more": image(
        quality="猫" * 70, size="猫" * 70, provider="猫" * 70, options=options(labels=wide_labels("猫"))
    ),
    "2,000 wrong labels": image(options=options(labels={f"{i}-{KEY_64}": "" for i in range(2_000)})),
    "2,000 wrong references": image(reference_images=[ImageSource()] * 2_000),
    "prompt of 20 MiB": image(prompt="x" * (20 * MIB)),
}


@pytest.mark.parametrize("case", OVERLONG)
@pytest.mark.usefixtures("nothing_kept")
async def test_a_refusal_fits_into_trailers_whatever_was_sent(calls: Calls, case: str) -> None:
    for refusal in await refusals_of_submit(calls, OVERLONG[case]):
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.reason == "INVALID_FIELD"
        assert refusal.fields


@pytest.mark.usefixtures("nothing_kept")
async def test_every_one_of_16_wide_label_keys_is_named(calls: Calls) -> None:
    keys = wide_labels("猫")
    for refusal in await refusals_of_submit(calls, image(options=options(labels=keys))):
        assert refusal.fields == {f"options.labels['{key[:63]}']" for key in keys}


@pytest.mark.usefixtures("nothing_kept")
async def test_violations_that_find_no_room_are_counted(calls: Calls) -> None:
    for refusal in await refusals_of_submit(calls, OVERLONG["16 label keys of 64 astral characters"]):
        *named, (field, said) = refusal.violations
        assert 10 <= len(named) < 16
        assert field not in dict(named)
        assert said == f"… and {16 - len(named)} more violations"


@pytest.mark.parametrize("model", ["dall-e-9", "LOCAL-CANVAS", "猫", "m" * 5_000, "\U0010ffff" * 5_000])
@pytest.mark.usefixtures("nothing_kept")
async def test_unknown_model(calls: Calls, model: str) -> None:
    for refusal in await refusals_of_submit(calls, image(model=model)):
        assert refusal.code is grpc.StatusCode.NOT_FOUND
        assert refusal.reason == "MODEL_NOT_FOUND"
        assert refusal.metadata["model"] == model[:128]
        assert refusal.resource == ("model", model[:128])
        if len(model) <= 128:
            assert "local-canvas" in refusal.text, "it names the models there are"


@pytest.mark.usefixtures("nothing_kept")
async def test_an_unknown_model_does_not_hide_what_is_wrong_besides(calls: Calls) -> None:
    for refusal in await refusals_of_submit(calls, image(model="dall-e-9", prompt="", seed=-5)):
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.fields == {"prompt", "seed"}


async def test_a_reference_to_an_output_that_is_not_there(queueing: Deployment, calls: Calls) -> None:
    pending = (await calls.images.GenerateImageAsync(image())).task_id
    before = await queueing.settled()
    request = image(reference_images=[output(NOBODYS), data(1_000), output(pending, 3), output("\0.猫")])
    wanted = {
        "reference_images[0].output.task_id": NOBODYS,
        "reference_images[2].output.index": pending,
        "reference_images[3].output.task_id": "猫",
    }
    for refusal in await refusals_of_submit(calls, request):
        assert_invalid(refusal, wanted)
    assert queueing.kept() == before

"""What the events of Ark's stream come to: what was bought, and what the end means for the money."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from server.domain.errors import Reason
from server.providers.ark_receipt import Bought, refused, with_entry
from server.providers.ark_stream import MAX_EVENT_BYTES, read_stream
from server.providers.contract import ProviderError, Sent

POLICY = "OutputImageSensitiveContentDetected"


def event(kind: str, **fields: Any) -> bytes:
    """One frame of the stream."""
    name = kind if kind == "error" else f"image_generation.{kind}"
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()


def made(index: object, url: str | None = None) -> bytes:
    return event("partial_succeeded", image_index=index, url=url or f"https://tos.example/{index}")


def failed(index: object, code: str = POLICY) -> bytes:
    return event("partial_failed", image_index=index, error={"code": code, "message": "No."})


def completed(images: object = 0) -> bytes:
    return event("completed", usage={"generated_images": images})


DONE = b"data: [DONE]\n\n"


class Told(list[Bought]):
    """What a stream told, step by step, and the error that it ended with."""

    error: ProviderError | None = None

    @classmethod
    async def by(cls, frames: Sequence[bytes], *, indexes: Sequence[int] = (0, 1, 2)) -> Told:
        """By a stream of these frames."""

        async def pieces() -> AsyncIterator[bytes]:
            for frame in frames:
                yield frame

        told = cls()
        try:
            async for bought in read_stream(pieces(), indexes):
                told.append(bought)
        except ProviderError as error:
            told.error = error
        return told

    @property
    def made(self) -> list[int]:
        return sorted(self[-1].links) if self else []

    @property
    def failed(self) -> dict[int, Reason]:
        return {one.index: one.error.reason for one in self[-1].failures} if self else {}


@pytest.mark.parametrize(
    ("frames", "images", "failures"),
    [
        ([made(0), made(1), made(2)], [0, 1, 2], []),
        ([made(2), made(0), made(1), completed(3), DONE], [0, 1, 2], []),
        ([made(0), completed(1), DONE], [0], []),
        ([made(0), completed(), DONE], [0], []),
        ([made(0), event("completed")], [0], []),
        ([made(0), failed(1), made(2)], [0, 2], [1]),
        ([failed(0), failed(1), failed(2)], [], [0, 1, 2]),
        ([made(0), event("error", error={"code": "InputTextSensitiveContentDetected"})], [0], [1, 2]),
        ([failed(1), completed(0)], [], [1]),
        ([made(0), made(0, "https://tos.example/again"), completed(1)], [0], []),
        ([made(3), made(-1), made("0"), made(None), made(0), completed(1)], [0], []),
        ([made(0), event("partial_image", partial_image_index=0, b64_json="AAAA"), completed(1)], [0], []),
        ([made(0), event("newer", image_index=1), b"data: 7\n\n", completed(1)], [0], []),
        ([event("partial_succeeded", image_index=0), made(1), made(2)], [1, 2], [0]),
    ],
    ids=[
        "all of them",
        "in another order",
        "the model decided on fewer",
        "no count",
        "no usage",
        "one is stopped",
        "all are stopped",
        "the rest is refused",
        "fewer, and that one is stopped",
        "told twice",
        "not asked for",
        "previews",
        "newer than we are",
        "no link",
    ],
)
async def test_a_complete_stream_says_what_was_bought(
    frames: list[bytes], images: list[int], failures: list[int]
) -> None:
    told = await Told.by(frames)
    assert told.error is None
    assert (told.made, sorted(told.failed)) == (images, failures)
    assert [bought.complete for bought in told] == [False] * (len(told) - 1) + [True]
    if images:
        assert told[-1].links[images[0]] == f"https://tos.example/{images[0]}"


async def test_it_is_told_at_once_and_all_of_it_each_time() -> None:
    told = await Told.by([made(0), failed(1), made(2)])
    assert [sorted(bought.named) for bought in told] == [[0], [0, 1], [0, 1, 2]]


async def test_its_places_are_those_of_the_images_that_were_asked_for() -> None:
    told = await Told.by([made(0), failed(1)], indexes=(2, 5))
    assert (told.made, told.failed) == ([2], {5: Reason.CONTENT_POLICY_OUTPUT})


@pytest.mark.parametrize(
    ("frames", "images"),
    [
        ([], []),
        ([DONE], []),
        ([completed(0)], []),
        ([made(0), made(1)], [0, 1]),
        ([made(0), DONE], [0]),
        ([made(0), completed(2)], [0]),
        ([made(0), b"data: {\n\n"], [0]),
        ([made(0), b"data: " + b"x" * MAX_EVENT_BYTES], [0]),
        ([event("error", error={"code": "NewerThanTheTable"})], []),
        ([made(0), event("error")], [0]),
        ([made(0), event("error", error={"code": "InternalServiceError"})], [0]),
        ([made(0), event("error", error={"code": "ServerOverloaded"})], [0]),
    ],
    ids=[
        "nothing",
        "done and nothing",
        "completed and nothing",
        "cut off",
        "done but not completed",
        "one is missing that is charged",
        "unreadable",
        "endless",
        "an unknown error",
        "an error without a code",
        "an internal error half-way",
        "no capacity half-way",
    ],
)
async def test_a_stream_that_ends_otherwise_is_in_doubt(frames: list[bytes], images: list[int]) -> None:
    told = await Told.by(frames)
    assert told.error is not None
    assert (told.error.sent, told.error.retryable) == (Sent.IN_DOUBT, True)
    assert told.made == images, "what was told is known all the same"
    assert not any(bought.complete for bought in told)


def test_of_mixed_failures_alone_one_that_may_pass_is_the_refusal() -> None:
    """The others fail again, and cost nothing; a final one would end what may still come."""
    told = Bought(links={}, failures=())
    for index, code in enumerate(["OutputImageSensitiveContentDetected", "InternalServiceError"]):
        told = with_entry(told, index, {"error": {"code": code}})
    refusal = refused(told)
    assert refusal is not None
    assert (refusal.sent, refusal.reason) == (Sent.REJECTED, Reason.PROVIDER_UNAVAILABLE)


@pytest.mark.parametrize(
    ("code", "reason", "retryable"),
    [
        ("InternalServiceError", Reason.PROVIDER_UNAVAILABLE, True),
        ("ServerOverloaded", Reason.PROVIDER_UNAVAILABLE, True),
        ("InputTextSensitiveContentDetected", Reason.CONTENT_POLICY_INPUT, False),
        ("AccountOverdueError", Reason.PROVIDER_MISCONFIGURED, False),
    ],
)
async def test_an_error_in_arks_own_words_before_any_picture_is_a_refusal(
    code: str, reason: Reason, retryable: bool
) -> None:
    told = await Told.by([event("error", error={"code": code, "message": "No."})])
    assert told.error is not None
    assert (told.error.sent, told.error.reason, told.error.retryable) == (Sent.REJECTED, reason, retryable)
    assert told.made == []


async def test_an_internal_error_of_one_picture_is_the_error_of_all_after_it() -> None:
    told = await Told.by([made(0), failed(1, "InternalServiceError")])
    assert told.error is None
    assert (told.made, told.failed) == (
        [0],
        {1: Reason.PROVIDER_UNAVAILABLE, 2: Reason.PROVIDER_UNAVAILABLE},
    )
    assert told[-1].complete


async def test_an_internal_error_of_the_first_picture_is_a_refusal() -> None:
    told = await Told.by([failed(0, "InternalServiceError")])
    assert told.error is not None
    assert (told.error.sent, told.error.retryable) == (Sent.REJECTED, True)

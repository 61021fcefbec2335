"""Whatever is sent, valid or not, is answered with what it deserves: never UNKNOWN, never INTERNAL."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc
import grpc.aio
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from image.v1.image_service_pb2 import GenerateImageAsyncResponse, StreamSequentialImagesResponse

from tests.integration.api.deployment import Deployment, called
from tests.integration.api.generated_calls import GeneratedCall, generated_calls
from tests.integration.api.refusals import CALL_TIMEOUT_S, read_refusal
from tests.stack import Calls

pytestmark = [pytest.mark.xdist_group("api-queueing"), pytest.mark.usefixtures("unharmed")]

AT_ONCE = 6
EXAMPLES = 340
MIN_CALLS = 2_000

REASONS = {
    grpc.StatusCode.INVALID_ARGUMENT: {"INVALID_FIELD", "MALFORMED_REQUEST"},
    grpc.StatusCode.NOT_FOUND: {"MODEL_NOT_FOUND", "TASK_NOT_FOUND"},
    grpc.StatusCode.ALREADY_EXISTS: {"REQUEST_ID_REUSED"},
}
"""The only errors that a healthy server has for bad input, each with its details."""


async def answer(calls: Calls, call: GeneratedCall) -> tuple[str, str]:
    """The name of the code that a call ends with, and the id of the task that it was accepted as."""
    try:
        return "OK", await accepted_id(calls, call)
    except grpc.aio.AioRpcError as error:
        refusal = read_refusal(error)
        assert refusal.reason in REASONS.get(refusal.code, ()), f"{refusal} for {call}"
        assert bool(refusal.violations) == (refusal.reason == "INVALID_FIELD")
        return refusal.code.name, ""


async def accepted_id(calls: Calls, call: GeneratedCall) -> str:
    """The id of the task, from the first answer that comes."""
    if "Stream" in call.method:
        stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = calls.channel.unary_stream(call.method)
        events = stream(call.raw, timeout=CALL_TIMEOUT_S)
        async for first in events:
            events.cancel()
            return StreamSequentialImagesResponse.FromString(first).task_id
        raise AssertionError(f"a stream without a first message for {call}")
    unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = calls.channel.unary_unary(call.method)
    raw = await unary(call.raw, timeout=CALL_TIMEOUT_S)
    assert call.method.endswith("Async"), "nobody can read a task here: the ids sent are nobody's"
    return GenerateImageAsyncResponse.FromString(raw).task_id


async def answers(calls: Calls, batch: Sequence[GeneratedCall]) -> list[tuple[str, str]]:
    """All of the batch at once."""
    return await asyncio.gather(*(answer(calls, call) for call in batch))


@contextmanager
def connected(deployment: Deployment, runner: asyncio.Runner) -> Iterator[Calls]:
    """Stubs for a test that is not a coroutine itself."""
    opened = called(deployment)
    calls = runner.run(opened.__aenter__())
    try:
        yield calls
    finally:
        runner.run(opened.__aexit__(None, None, None))


@pytest.mark.long
def test_no_generated_call_is_answered_with_unknown_or_internal(queueing: Deployment) -> None:
    codes: Counter[str] = Counter()
    accepted: set[str] = set()
    before = queueing.kept()
    with asyncio.Runner() as runner, connected(queueing, runner) as calls:

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,  # the same calls in every run
            database=None,
            deadline=None,
            phases=(Phase.generate,),
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        )
        @given(st.lists(generated_calls(), min_size=AT_ONCE, max_size=AT_ONCE))
        def send(batch: list[GeneratedCall]) -> None:
            for code, task_id in runner.run(answers(calls, batch)):
                codes[code] += 1
                accepted.update({task_id} - {""})

        send()
        kept = runner.run(queueing.settled())

    assert codes.total() >= MIN_CALLS
    assert codes["OK"] >= MIN_CALLS / 10, codes
    assert codes["INVALID_ARGUMENT"] >= MIN_CALLS / 10, codes
    assert kept.tasks - before.tasks == accepted
    assert accepted <= kept.queued

"""Ark's error table, row by row, as a caller of the service and its operators meet it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import aiohttp
import grpc
import pytest
from image.v1.image_service_pb2 import GenerateImageRequest
from task.v1.attempt_pb2 import (
    ATTEMPT_OUTCOME_IN_DOUBT,
    ATTEMPT_OUTCOME_REJECTED,
    ATTEMPT_OUTCOME_SUCCEEDED,
)
from task.v1.task_pb2 import Task
from task.v1.task_service_pb2 import GetTaskRequest

from server.providers.ark_errors import TABLE as KNOWN
from tests.integration.api.refusals import refusal_of
from tests.stack import Calls, ServiceProcess
from tests.upstreams import ArkUpstream, CutAfterAccept, Gateway, Refusal
from tests.upstreams.faults import Fault

pytestmark = pytest.mark.xdist_group("ark-service")  # one service for all

OURS = "PROVIDER_MISCONFIGURED"

# What does not fit into a row's first line goes on in the next ones.
TABLE = """
HTTP | Ark's code                                            | again  | cost  | gRPC code, reason, message
-----+-------------------------------------------------------+--------+-------+-----------------------------
400  | MissingParameter MissingParameter.prompt              | never  | none  | ABORTED
     | InvalidParameter InvalidParameter.size                |        |       | PROVIDER_REJECTED
     | InvalidParameter.UnsupportedParameter                 |        |       | Change its parameters or its
     | InvalidArgumentError InvalidArgumentError.n           |        |       | reference images
     | InvalidImageURL.EmptyURL OutofContextError            |        |       |
     | InvalidImageURL.InvalidFormat                         |        |       |
400  | InvalidEndpoint.ClosedEndpoint                        | never  | none  | FAILED_PRECONDITION
     |                                                       |        |       | PROVIDER_MISCONFIGURED
     |                                                       |        |       | operators must activate it
     |                                                       |        |       | there
400  | InputTextSensitiveContentDetected                     | never  | none  | FAILED_PRECONDITION
     | InputImageSensitiveContentDetected                    |        |       | CONTENT_POLICY_INPUT
     | InputVideoSensitiveContentDetected                    |        |       | forbids the prompt or a
     | InputAudioSensitiveContentDetected                    |        |       | reference image
     | InputTextSensitiveContentDetected.PolicyViolation     |        |       |
     | InputImageSensitiveContentDetected.PrivacyInformation |        |       |
     | SensitiveContentDetected                              |        |       |
     | SensitiveContentDetected.SevereViolation              |        |       |
     | SensitiveContentDetected.Violence                     |        |       |
     | InputTextRiskDetection InputImageRiskDetection        |        |       |
400  | OutputTextSensitiveContentDetected                    | never  | none  | FAILED_PRECONDITION
     | OutputImageSensitiveContentDetected                   |        |       | CONTENT_POLICY_OUTPUT
     | OutputVideoSensitiveContentDetected                   |        |       | Change the prompt, or try
     | OutputImageSensitiveContentDetected.PolicyViolation   |        |       | another seed
     | OutputTextRiskDetection OutputImageRiskDetection      |        |       |
400  | ContentSecurityDetectionError                         | few    | none  | ABORTED
     |                                                       |        |       | PROVIDER_UNAVAILABLE
     |                                                       |        |       | Submit again later
401  | AuthenticationError                                   | never  | none  | FAILED_PRECONDITION
     |                                                       |        |       | PROVIDER_MISCONFIGURED
     |                                                       |        |       | operators must check
     |                                                       |        |       | IMAGE_API_KEY
401  | InvalidAccountStatus                                  | never  | none  | FAILED_PRECONDITION
     |                                                       |        |       | PROVIDER_MISCONFIGURED
     |                                                       |        |       | operators must check the
     |                                                       |        |       | account's state
403  | AccessDenied OperationDenied.PermissionDenied         | never  | none  | FAILED_PRECONDITION
     | OperationDenied.ServiceNotOpen                        |        |       | PROVIDER_MISCONFIGURED
     | OperationDenied.ServiceOverdue                        |        |       | operators must check the
     | OperationDenied.InvalidState AccountOverdueError      |        |       | account's state
404  | InvalidEndpointOrModel.NotFound                       | never  | none  | FAILED_PRECONDITION
     | InvalidEndpointOrModel.ModelIDAccessDisabled          |        |       | PROVIDER_MISCONFIGURED
     | ModelNotOpen UnsupportedModel NotFound.X              |        |       | operators must activate it
     |                                                       |        |       | there
429  | RateLimitExceeded.EndpointRPMExceeded                 | always | none  | OK
     | RateLimitExceeded.EndpointTPMExceeded                 |        |       |
     | ModelAccountRpmRateLimitExceeded                      |        |       |
     | ModelAccountTpmRateLimitExceeded                      |        |       |
     | ModelAccountIpmRateLimitExceeded                      |        |       |
     | APIAccountRpmRateLimitExceeded                        |        |       |
     | AccountRateLimitExceeded                              |        |       |
429  | ServerOverloaded RequestBurstTooFast                  | always | none  | OK
     | InflightBatchsizeExceeded                             |        |       |
429  | QuotaExceeded SetLimitExceeded                        | never  | none  | FAILED_PRECONDITION
     |                                                       |        |       | PROVIDER_MISCONFIGURED
     |                                                       |        |       | operators must raise it
500  | InternalServiceError                                  | few    | none  | ABORTED
     |                                                       |        |       | PROVIDER_UNAVAILABLE
     |                                                       |        |       | Submit again later
502  |                                                       | budget | doubt | ABORTED
     |                                                       |        |       | OUTCOME_UNKNOWN
     |                                                       |        |       | Submit again to accept
     |                                                       |        |       | another charge
503  |                                                       | budget | doubt | ABORTED
     |                                                       |        |       | OUTCOME_UNKNOWN
     |                                                       |        |       | Submit again to accept
     |                                                       |        |       | another charge
504  |                                                       | budget | doubt | ABORTED
     |                                                       |        |       | OUTCOME_UNKNOWN
     |                                                       |        |       | Submit again to accept
     |                                                       |        |       | another charge
cut  |                                                       | budget | doubt | ABORTED
     |                                                       |        |       | OUTCOME_UNKNOWN
     |                                                       |        |       | Submit again to accept
     |                                                       |        |       | another charge
"""
CALLS = {"never": 1, "few": 2, "always": 4, "budget": 2}
"""How often Ark is called: IMAGE_MAX_RETRIES is 1 here, max_paid_attempts 2, a busy Ark has room at last."""

BACK_WITHIN_S = 1.5
"""How long after the end of Retry-After the next call may come."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table."""

    http: str
    codes: tuple[str, ...]
    again: str
    cost: str
    ends: str
    """The gRPC code and the reason; the code alone where the call is answered."""
    advice: str

    @property
    def answered(self) -> bool:
        return self.ends == "OK"


def rows() -> list[Row]:
    """The table, read."""
    blocks: list[list[list[str]]] = []
    for line in TABLE.strip().splitlines()[2:]:
        cells = [cell.strip() for cell in line.split("|")]
        if cells[0]:
            blocks.append([])
        blocks[-1].append(cells)
    return [
        Row(
            http=block[0][0],
            codes=tuple(code for cells in block for code in cells[1].split()),
            again=block[0][2],
            cost=block[0][3],
            ends=" ".join(cells[4] for cells in block[:2]).strip(),
            advice=" ".join(cells[4] for cells in block[2:]).strip(),
        )
        for block in blocks
    ]


CASES = [pytest.param(row, code, id=f"{row.http} {code}") for row in rows() for code in row.codes or ("",)]


def faults(row: Row, code: str) -> list[Fault]:
    """What Ark meets the calls with; where the service never gives up it answers the one after them."""
    if row.http == "cut":
        return [CutAfterAccept()] * 2
    if not code:
        return [Gateway(int(row.http))] * 2
    at_once = Refusal(int(row.http), code, retry_after="0")
    return [at_once] * (CALLS[row.again] - row.answered)


@pytest.mark.parametrize(("row", "code"), CASES)
async def test_a_row_of_the_table(calls: Calls, ark: ArkUpstream, row: Row, code: str) -> None:
    prompt = f"row {row.http} {code}"
    ark.script(prompt, *faults(row, code))
    call = calls.images.GenerateImage(_one(prompt), timeout=30)
    if row.answered:
        task = await _task(calls, (await call).task_id)
        assert [a.outcome for a in task.attempts] == [ATTEMPT_OUTCOME_SUCCEEDED], "waiting is no attempt"
    else:
        refusal = await refusal_of(call)
        task = await _task(calls, refusal.metadata["task_id"])
        assert f"{refusal.code.name} {refusal.reason}" == row.ends
        assert row.advice in refusal.text
        assert "Request id" not in refusal.text, "the vendor's own text is not for callers"
        outcome = ATTEMPT_OUTCOME_REJECTED if row.cost == "none" else ATTEMPT_OUTCOME_IN_DOUBT
        assert [(a.outcome, a.paid) for a in task.attempts] == [(outcome, False)] * CALLS[row.again]
        assert all(a.HasField("sent_time") == (row.cost == "doubt") for a in task.attempts)
    assert ark.arrived[prompt] == CALLS[row.again]
    assert ark.billed[prompt] == (row.answered if row.cost == "none" else 2)


@pytest.mark.parametrize(("status", "codes"), [row[:2] for row in KNOWN])
def test_every_row_that_the_adapter_knows_stands_in_the_table(status: int, codes: str) -> None:
    tried = {code for row in rows() if row.http == str(status) for code in row.codes}
    assert any(re.fullmatch(rf"(?:{codes})(?:\..*)?", code) for code in tried)


async def test_no_call_is_made_before_retry_after_and_no_attempt_is_spent(
    calls: Calls, ark: ArkUpstream
) -> None:
    """By the vendor's clock: from each refusal to the arrival of the call that follows it.

    A worker wakes up to a tenth of a second after the end of a wait. Several waits that end within so long
    are late by different amounts: one that was cut a little short comes to light.
    """
    waits = {f"come back in {wait_s} seconds": wait_s for wait_s in (2.0, 2.02, 2.04, 2.06, 2.08)}
    for prompt, wait_s in waits.items():
        ark.script(prompt, Refusal(429, "ModelAccountIpmRateLimitExceeded", retry_after=f"{wait_s:g}"))
    answers = await asyncio.gather(
        *[calls.images.GenerateImage(_one(prompt), timeout=30) for prompt in waits]
    )
    for (prompt, wait_s), answer in zip(waits.items(), answers, strict=True):
        [refused], [_, came_back] = ark.refusal_times[prompt], ark.arrival_times[prompt]
        assert wait_s <= came_back - refused <= wait_s + BACK_WITHIN_S
        task = await _task(calls, answer.task_id)
        assert [(a.number, a.outcome, a.paid) for a in task.attempts] == [
            (2, ATTEMPT_OUTCOME_SUCCEEDED, True)
        ], "the first one bought nothing and is gone"
        assert (answer.usage.paid_calls, ark.billed[prompt]) == (1, 1)


async def test_operators_hear_of_a_bad_key_and_callers_are_not_blamed(
    calls: Calls, ark: ArkUpstream, worker: ServiceProcess
) -> None:
    before = await _misconfigured(worker)
    prompt = "a key that Ark does not know"
    ark.script(prompt, Refusal(401, "AuthenticationError"))
    refusal = await refusal_of(calls.images.GenerateImage(_one(prompt), timeout=30))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, OURS)
    assert await _misconfigured(worker) == before + 1
    assert "sk-any" not in refusal.text + worker.log()


def _one(prompt: str) -> GenerateImageRequest:
    return GenerateImageRequest(prompt=prompt, model="doubao-seedream-4-0-250828")


async def _task(calls: Calls, task_id: str) -> Task:
    return (await calls.tasks.GetTask(GetTaskRequest(task_id=task_id))).task


async def _misconfigured(worker: ServiceProcess) -> float:
    """What the worker's metrics say of failures that are its operators' fault."""
    series = 'imagegen_attempt_failures_total{provider="ark",reason="PROVIDER_MISCONFIGURED"} '
    async with aiohttp.ClientSession() as session, session.get(f"{worker.http}/metrics") as answer:
        [line] = [line for line in (await answer.text()).splitlines() if line.startswith(series)]
    return float(line.removeprefix(series))

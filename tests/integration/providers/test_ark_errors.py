"""What each way a call to Ark can fail says of the money, and what the loopback Ark says of it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import structlog
from structlog.testing import capture_logs

from server.domain.errors import Reason
from server.providers.ark import ArkProvider
from server.providers.ark_errors import MAX_RETRY_AFTER_S
from server.providers.contract import ProviderError, Sent
from server.providers.fetch import OutputFetcher
from tests.integration.providers.ark_calls import KEY, PROMPT, Call, order
from tests.upstreams import (
    ArkUpstream,
    CutAfterAccept,
    CutAfterBody,
    CutBeforeBody,
    CutMidResponse,
    Empty,
    Fault,
    Gateway,
    LinkFails,
    NeverAnswers,
    Refusal,
    Unreadable,
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault and what the provider makes of it."""

    fault: Fault
    sent: Sent = Sent.REJECTED
    reason: Reason
    retryable: bool = False
    no_capacity: bool = False
    retry_after_s: float | None = None
    billed: int = 0

    def __str__(self) -> str:
        return str(self.fault).replace("(", " ").replace(")", "")


def invalid(code: str) -> Case:
    return Case(fault=Refusal(400, code), reason=Reason.PROVIDER_REJECTED)


def policy(code: str, reason: Reason) -> Case:
    return Case(fault=Refusal(400, code), reason=reason)


def misconfigured(status: int, code: str) -> Case:
    return Case(fault=Refusal(status, code), reason=Reason.PROVIDER_MISCONFIGURED)


def busy(code: str, header: str | None = None, seconds: float | None = None) -> Case:
    return Case(
        fault=Refusal(429, code, retry_after=header),
        reason=Reason.PROVIDER_UNAVAILABLE,
        retryable=True,
        no_capacity=True,
        retry_after_s=seconds,
    )


def broken(status: int, code: str) -> Case:
    return Case(fault=Refusal(status, code), reason=Reason.PROVIDER_UNAVAILABLE, retryable=True)


def doubt(fault: Fault, *, billed: int) -> Case:
    return Case(
        fault=fault, sent=Sent.IN_DOUBT, reason=Reason.PROVIDER_UNAVAILABLE, retryable=True, billed=billed
    )


CASES = (
    # refused in Ark's own words: nothing was made
    invalid("MissingParameter"),
    invalid("MissingParameter.prompt"),
    invalid("InvalidParameter"),
    invalid("InvalidParameter.UnsupportedParameter"),
    invalid("InvalidArgumentError.size"),
    invalid("InvalidImageURL.EmptyURL"),
    invalid("InvalidImageURL.InvalidFormat"),
    invalid("OutofContextError"),
    invalid("NewerThanTheTable"),
    policy("InputTextSensitiveContentDetected", Reason.CONTENT_POLICY_INPUT),
    policy("InputImageSensitiveContentDetected.PolicyViolation", Reason.CONTENT_POLICY_INPUT),
    policy("InputImageSensitiveContentDetected.PrivacyInformation", Reason.CONTENT_POLICY_INPUT),
    policy("SensitiveContentDetected.SevereViolation", Reason.CONTENT_POLICY_INPUT),
    policy("InputTextRiskDetection", Reason.CONTENT_POLICY_INPUT),
    policy("OutputImageSensitiveContentDetected", Reason.CONTENT_POLICY_OUTPUT),
    policy("OutputImageRiskDetection", Reason.CONTENT_POLICY_OUTPUT),
    misconfigured(400, "InvalidEndpoint.ClosedEndpoint"),
    misconfigured(401, "AuthenticationError"),
    misconfigured(401, "InvalidAccountStatus"),
    misconfigured(403, "AccessDenied"),
    misconfigured(403, "OperationDenied.ServiceOverdue"),
    misconfigured(403, "OperationDenied.ServiceNotOpen"),
    misconfigured(403, "AccountOverdueError"),
    misconfigured(403, "NewerThanTheTable"),
    misconfigured(404, "InvalidEndpointOrModel.NotFound"),
    misconfigured(404, "InvalidEndpointOrModel.ModelIDAccessDisabled"),
    misconfigured(404, "ModelNotOpen"),
    misconfigured(404, "UnsupportedModel"),
    misconfigured(429, "QuotaExceeded"),
    misconfigured(429, "SetLimitExceeded"),
    broken(400, "ContentSecurityDetectionError"),
    broken(500, "InternalServiceError"),
    # no room
    busy("RateLimitExceeded.EndpointRPMExceeded"),
    busy("ModelAccountIpmRateLimitExceeded", "7", 7.0),
    busy("ModelAccountRpmRateLimitExceeded", "0", 0.0),
    busy("APIAccountRpmRateLimitExceeded", "1.5", 1.5),
    busy("AccountRateLimitExceeded", "86400", MAX_RETRY_AFTER_S),
    busy("ServerOverloaded", "-5", 0.0),
    busy("RequestBurstTooFast", "soon", None),
    busy("InflightBatchsizeExceeded", "nan", None),
    busy("InflightBatchsizeExceeded", "Mon, 01 Jan 2024 00:00:00 +9999999999999999", None),
    busy("NewerThanTheTable", "Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    busy("ServerOverloaded", "Fri, 01 Jan 2199 00:00:00 GMT", MAX_RETRY_AFTER_S),
    # nobody's word: it may have been charged
    doubt(CutBeforeBody(), billed=0),
    doubt(CutAfterBody(), billed=0),
    doubt(CutAfterAccept(), billed=1),
    doubt(CutMidResponse(), billed=1),
    doubt(Gateway(502, billed=False), billed=0),
    doubt(Gateway(502), billed=1),
    doubt(Gateway(503), billed=1),
    doubt(Gateway(504), billed=1),
    doubt(Gateway(404, billed=False), billed=0),
    doubt(Refusal(500, "NewerThanTheTable"), billed=0),
    doubt(Refusal(502, "InternalServiceError"), billed=0),
    doubt(Unreadable(billed=False), billed=0),
    doubt(Unreadable(), billed=1),
    doubt(Empty(), billed=1),
    Case(fault=NeverAnswers(), sent=Sent.IN_DOUBT, reason=Reason.PROVIDER_TIMEOUT, retryable=True, billed=1),
)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_failed_call_says_what_is_known_of_it(
    upstream: ArkUpstream, provider: ArkProvider, case: Case
) -> None:
    upstream.script(PROMPT, case.fault)
    call = Call()
    timeout_s = 1.0 if isinstance(case.fault, NeverAnswers) else 30.0
    error = await call.failure(provider, order(), timeout_s=timeout_s)
    assert (error.sent, error.reason, error.retryable) == (case.sent, case.reason, case.retryable)
    assert (error.no_capacity, error.retry_after_s) == (case.no_capacity, case.retry_after_s)
    assert upstream.billed[PROMPT] == case.billed
    assert call.steps == [], "nothing was handed over"
    _assert_ours(error, upstream)
    await call.make(provider, order())
    assert (call.failures, call.steps) == ([], ["receipt", "image 0"]), "the next call is a new one"


async def test_nothing_is_sent_twice(upstream: ArkUpstream, provider: ArkProvider) -> None:
    for fault in (CutAfterBody(), CutAfterAccept(), Refusal(500, "InternalServiceError"), Gateway(503)):
        upstream.script(PROMPT, fault)
        before = upstream.arrived[PROMPT]
        await Call().failure(provider, order())
        assert upstream.arrived[PROMPT] == before + 1


async def test_a_server_that_is_not_there_got_nothing(upstream: ArkUpstream, provider: ArkProvider) -> None:
    await upstream.refuse()
    error = await Call().failure(provider, order())
    assert (error.sent, error.reason) == (Sent.NOT_SENT, Reason.PROVIDER_UNAVAILABLE)
    assert error.retryable
    assert not error.no_capacity
    _assert_ours(error, upstream)
    await upstream.accept()
    await Call().make(provider, order())


@pytest.mark.parametrize(
    "base_url",
    ["https://127.0.0.1:{port}", "http://does-not-exist.invalid", "http://", "no address"],
    ids=["no TLS there", "no such name", "no host", "no URL"],
)
async def test_an_address_that_cannot_be_reached_got_nothing(upstream: ArkUpstream, base_url: str) -> None:
    port = upstream.base_url.rsplit(":", 1)[-1]
    provider = ArkProvider(
        api_key=KEY, base_url=base_url.format(port=port), fetcher=OutputFetcher(allow_private=True)
    )
    error = await Call().failure(provider, order())
    await provider.aclose()
    assert (error.sent, error.retryable) == (Sent.NOT_SENT, True)
    assert upstream.arrived.total() == 0


async def test_a_connection_that_does_not_come_about_in_time_got_nothing() -> None:
    """A listener whose queue is full lets connections hang: no handshake, no answer."""
    async with _full_listener() as address:
        provider = ArkProvider(api_key=KEY, base_url=address, fetcher=OutputFetcher(allow_private=True))
        error = await Call().failure(provider, order(), timeout_s=0.3)
        await provider.aclose()
    assert (error.sent, error.reason) == (Sent.NOT_SENT, Reason.PROVIDER_UNAVAILABLE)


async def test_a_redirect_is_not_followed(upstream: ArkUpstream) -> None:
    async with _redirecting_to(upstream) as address:
        provider = ArkProvider(api_key=KEY, base_url=address, fetcher=OutputFetcher(allow_private=True))
        error = await Call().failure(provider, order())
        await provider.aclose()
    assert error.sent is Sent.IN_DOUBT
    assert upstream.arrived.total() == 0


async def test_neither_key_nor_links_get_into_logs_or_errors(
    upstream: ArkUpstream, provider: ArkProvider
) -> None:
    call = Call()
    with capture_logs() as logs:
        for fault in (
            Refusal(401, "AuthenticationError"),
            Refusal(400, "Code with words\nand more"),
            CutAfterAccept(),
            CutMidResponse(),
            Unreadable(),
            LinkFails(503),
            LinkFails(404),
        ):
            upstream.script(PROMPT, fault)
            error = await call.failure(provider, order())
            _assert_ours(error, upstream)
            structlog.get_logger().error("the worker's own line", exc_info=error, error=repr(error))
    text = json.dumps(logs, default=repr)
    assert KEY not in text
    assert "X-Tos-Signature" not in text
    assert "/outputs/" not in text
    assert KEY not in repr(provider)
    assert any(line.get("code") == "AuthenticationError" for line in logs), "operators find the code"
    assert all(line["upstream_request_id"] for line in logs if line.get("code"))


def _assert_ours(error: ProviderError, upstream: ArkUpstream) -> None:
    """The text is ours, and says something; nothing it is chained to holds a secret."""
    assert error.message
    for foreign in (KEY, "Bearer", "Request id", "was refused", "<html", upstream.base_url, "X-Tos", "\n"):
        assert foreign not in error.message
    chained: BaseException | None = error
    while chained is not None:
        assert KEY not in repr(chained)
        assert "X-Tos" not in repr(chained)
        chained = chained.__cause__ or (None if chained.__suppress_context__ else chained.__context__)


@asynccontextmanager
async def _full_listener() -> AsyncIterator[str]:
    """A listening socket that accepts nothing, with its queue filled."""
    sockets = [socket.socket()]
    try:
        sockets[0].bind(("127.0.0.1", 0))
        sockets[0].listen(0)
        address = sockets[0].getsockname()
        for _ in range(4):
            sockets.append(socket.socket())
            sockets[-1].setblocking(False)
            sockets[-1].connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"
    finally:
        for one in sockets:
            one.close()


@asynccontextmanager
async def _redirecting_to(upstream: ArkUpstream) -> AsyncIterator[str]:
    """A server that sends every request on to the upstream."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        target = f"{upstream.base_url}/api/v3/images/generations"
        writer.write(f"HTTP/1.1 307 Moved\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()

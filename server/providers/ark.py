"""Volcengine Ark: images by one POST per call, results by links that are fetched as they become known.

What Ark has accepted it charges for, whatever becomes of the connection. So every failure says what is
known of that: not sent, refused by Ark's own words, or in doubt. Nothing is retried here.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import aiohttp
import structlog
from msgspec.structs import replace
from yarl import URL

from server.domain.errors import Reason
from server.downloads import CONNECT_S, read_at_most
from server.providers import ark_receipt, ark_request
from server.providers.ark_delivery import Delivery
from server.providers.ark_errors import in_doubt, meaning_of, refusal
from server.providers.ark_receipt import Bought
from server.providers.ark_stream import read_stream
from server.providers.contract import (
    Generation,
    Progress,
    ProviderError,
    Receipt,
    Sent,
)
from server.providers.fetch import OutputFetcher

NAME = "ark"
DEFAULT_CAPACITY = 100
DEFAULT_PATH = "/api/v3"
MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""An answer holds links and numbers: a few hundred bytes an image."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ArkProvider:
    """Ark's image models behind one API key."""

    name = NAME
    paid = True
    groups = True

    def __init__(
        self, *, api_key: str, base_url: str, fetcher: OutputFetcher, capacity: int = DEFAULT_CAPACITY
    ) -> None:
        """`base_url` gets `/api/v3` where it has no path. The fetcher is closed with the provider."""
        self.capacity = capacity
        url = URL(base_url)
        self._url = (url.with_path(DEFAULT_PATH) if url.path in ("", "/") else url) / "images" / "generations"
        self._headers = {"Authorization": f"Bearer {api_key.strip()}", "Content-Type": "application/json"}
        self._fetcher = fetcher
        self._session: aiohttp.ClientSession | None = None
        # Encoding takes several times the memory of the pictures for a moment: one request at a time, or a
        # batch that starts together runs the worker out of memory.
        self._encoding = asyncio.Lock()
        self._log = structlog.get_logger(__name__)

    async def generate(
        self,
        generation: Generation,
        *,
        timeout_s: float,
        progress: Progress,
        receipt: Receipt,
        resume: str = "",
    ) -> None:
        """See Provider. The time that `progress` and `receipt` take does not count against `timeout_s`."""
        if not generation.indexes:
            return
        delivery = Delivery(
            self._fetcher,
            indexes=generation.indexes,
            seed_of=lambda index: ark_request.seed_of(generation, index),
            timeout_s=timeout_s,
            progress=progress,
            receipt=None if resume else receipt,
        )
        answer = _noted(resume) if resume else self._buy(generation, timeout_s)
        await delivery.run(answer)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._fetcher.aclose()
        if self._session is not None:
            await self._session.close()
            self._session = None

    # --- buying ------------------------------------------------------------------------------------

    async def _buy(self, generation: Generation, timeout_s: float) -> AsyncGenerator[Bought, None]:
        """The one POST, and what its answer says was made: at once, or as the stream of a group goes on.

        Raises ProviderError for everything but an answer that says all of it.
        """
        if generation.references:  # up to tens of megabytes, and the loop has heartbeats to send
            async with self._encoding:
                body = await asyncio.to_thread(ark_request.encoded, generation)
        else:
            body = ark_request.encoded(generation)
        call = SimpleNamespace(connected=False)
        try:
            async with self._opened().post(
                self._url,
                data=io.BytesIO(body),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s, connect=min(CONNECT_S, timeout_s)),
                allow_redirects=False,
                trace_request_ctx=call,
            ) as response:
                if response.status == 200 and response.content_type == "text/event-stream":
                    answer = self._streamed(generation, response)
                else:
                    document = _document(await read_at_most(response, MAX_ANSWER_BYTES))
                    answer = _at_once(document, self._understand(generation, response, document))
                async with aclosing(answer):
                    async for told in answer:
                        if refusal := ark_receipt.refused(told):
                            raise refusal
                        if told.links:  # until then nothing is bought: it may yet be a refusal
                            yield told
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError, too
            if not call.connected:
                raise ProviderError(
                    "Ark could not be reached; nothing was sent.",
                    sent=Sent.NOT_SENT,
                    reason=Reason.PROVIDER_UNAVAILABLE,
                    retryable=True,
                ) from error
            self._log.warning(
                "a call to Ark broke off", task_id=generation.task_id, error=type(error).__name__
            )
            # Not chained: some of these hold the request's headers, and with them the key.
            if isinstance(error, TimeoutError):
                raise ProviderError(
                    f"Ark did not answer within {timeout_s:g} s.",
                    sent=Sent.IN_DOUBT,
                    reason=Reason.PROVIDER_TIMEOUT,
                    retryable=True,
                    metadata={"timeout_seconds": f"{timeout_s:g}"},
                ) from None
            raise in_doubt("The connection to Ark broke before its answer was there.") from None

    async def _streamed(
        self, generation: Generation, response: aiohttp.ClientResponse
    ) -> AsyncGenerator[Bought, None]:
        try:
            async for told in read_stream(response.content.iter_any(), generation.indexes):
                yield told
        except ProviderError as error:
            self._log.warning(
                "Ark's stream of a group ended early",
                task_id=generation.task_id,
                error=error.message,
                upstream_request_id=_request_id(response),
            )
            raise

    def _understand(
        self, generation: Generation, response: aiohttp.ClientResponse, answer: dict[str, Any]
    ) -> Bought:
        """What a complete HTTP answer says: what was bought, a refusal, or nothing that can be relied on."""
        error = answer.get("error")
        code = str(error.get("code") or "") if isinstance(error, dict) else ""
        data = answer.get("data")
        if response.status == 200 and isinstance(data, list):
            bought = ark_receipt.bought_from(data, generation.indexes)
            if bought is not None:
                return bought
        self._log.warning(
            "Ark did not make what was asked",
            task_id=generation.task_id,
            status=response.status,
            code=code[:80],
            upstream_request_id=_request_id(response),
        )
        if isinstance(error, dict):
            meaning = meaning_of(response.status, code)
            if meaning is not None:
                raise refusal(meaning, code, response.headers.get("Retry-After"))
        if response.status == 200:
            raise in_doubt("Ark's answer cannot be read, or says nothing of what was made.")
        raise in_doubt(f"Something before Ark answered HTTP {response.status} in its place.")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_end.append(_connected)
            self._session = aiohttp.ClientSession(
                # A fresh connection for every call: one that died while it was idle would leave the call
                # in doubt for nothing. No limit: the queue's lane and the worker's slots are the limit.
                connector=aiohttp.TCPConnector(force_close=True, limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[trace],
                trust_env=False,
            )
        return self._session


async def _at_once(answer: dict[str, Any], bought: Bought) -> AsyncGenerator[Bought, None]:
    """What an answer without a stream says."""
    if ark_receipt.charges_for_more(answer, bought):
        yield replace(bought, complete=False)
        raise in_doubt("Ark charged for images that its answer did not name.")
    yield bought


async def _noted(receipt: str) -> AsyncGenerator[Bought, None]:
    """What an earlier call bought, as its receipt says."""
    yield ark_receipt.read(receipt)


async def _connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    """From here on, TLS included, the request may reach Ark."""
    context.trace_request_ctx.connected = True


def _document(raw: bytes | None) -> dict[str, Any]:
    """The answer's JSON object; an empty one where it is none."""
    try:
        answer = json.loads(raw or b"")
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _request_id(response: aiohttp.ClientResponse) -> str:
    """By which the vendor finds the call; empty when it is not plain."""
    text = response.headers.get("X-Request-Id", "")
    return text if _REQUEST_ID.fullmatch(text) else ""

"""Synchronous calls seen on the wire, and deadlines long enough for a busy machine."""

from __future__ import annotations

import grpc.aio

from tests.integration.api.requests import SubmitRequest
from tests.stack import Calls

DEADLINE_S = 2.5
"""The shortest deadline before which the server keeps its full 250 ms: a machine stalls less long."""


def started(
    calls: Calls,
    request: SubmitRequest,
    metadata: tuple[tuple[str, str], ...] = (("early-task-id", "1"),),
    *,
    timeout_s: float = 30.0,
) -> grpc.aio.UnaryStreamCall[bytes, bytes]:
    """The synchronous call for this request, made as if a stream came back.

    Only so does grpc.aio show initial metadata before the end of a call.
    """
    rpc = type(request).__name__.removesuffix("Request")
    call: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
    call = calls.channel.unary_stream(f"/image.v1.ImageService/{rpc}")
    return call(request.SerializeToString(), metadata=metadata, timeout=timeout_s)


async def early_task_id(calls: Calls, request: SubmitRequest) -> str:
    """The task that the synchronous call waits for; the call is given up as soon as it is known."""
    call = started(calls, request)
    task_id = str(dict(await call.initial_metadata())["task-id"])
    call.cancel()
    return task_id

"""What surrounds every call: it is parsed, named, counted, and its errors are answered, here and only here.

grpc.aio parses requests before a handler runs and answers malformed ones with UNKNOWN and the exception's
name; any other exception leaks its text the same way. So handlers are re-wrapped to take raw bytes, and
nothing but this module aborts a call.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError

from server.api.status import INTERNAL_TEXT, describe
from server.domain.errors import InvalidRequest, Reason, ServiceError, Violation
from server.domain.request import MAX_REQUEST_BYTES
from server.metrics import Metrics

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

MAX_REQUEST_ID_CHARS = 128
ANONYMOUS = "anonymous"


class MalformedRequest(ServiceError):
    """The request's bytes are not the message this method takes."""

    reason = Reason.MALFORMED_REQUEST


class InternalError(ServiceError):
    """A bug of ours; the text says nothing of it, the log does."""


class Calls(grpc.aio.ServerInterceptor):
    """Wraps every method once and remembers the result."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._wrapped: dict[str, Handler] = {}
        self._conversations_ended = asyncio.Event()
        self._log = structlog.get_logger(__name__)

    def end_conversations(self) -> None:
        """End the calls in which the client may go on asking for ever (reflection): the server stops."""
        self._conversations_ended.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Hand out the wrapped handler of the method."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None  # UNIMPLEMENTED
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Handler) -> Handler:
        parse = _parser(method, handler)
        serialize = handler.response_serializer
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(method, parse, handler.unary_unary), response_serializer=serialize
            )
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(method, parse, handler.unary_stream), response_serializer=serialize
            )
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(
                self._both_streams(method, parse, handler.stream_stream), response_serializer=serialize
            )
        raise AssertionError(f"{method} is of a kind this server has no use for")

    def _unary(self, method: str, parse: Callable[[bytes], Any], behaviour: Any) -> Any:
        async def call(raw: bytes, context: Context) -> Any:
            watch = _Watch(self._metrics, method, _name_in_logs(context))
            try:
                answer = await behaviour(parse(raw), context)
            except BaseException as error:
                await self._abort(error, context, watch)
            watch.ended(grpc.StatusCode.OK)
            return answer

        return call

    def _stream(self, method: str, parse: Callable[[Any], Any], behaviour: Any) -> Any:
        async def call(raw: Any, context: Context) -> AsyncIterator[Any]:
            watch = _Watch(self._metrics, method, _name_in_logs(context))
            try:
                async for answer in behaviour(parse(raw), context):
                    yield answer
            except GeneratorExit:
                watch.ended(grpc.StatusCode.CANCELLED)
                raise
            except BaseException as error:
                await self._abort(error, context, watch)
            watch.ended(grpc.StatusCode.OK)

        return call

    def _both_streams(self, method: str, parse: Callable[[bytes], Any], behaviour: Any) -> Any:
        async def parsed(raw: AsyncIterator[bytes]) -> AsyncIterator[Any]:
            ended = asyncio.ensure_future(self._conversations_ended.wait())
            items = aiter(raw)
            try:
                while True:
                    item = asyncio.ensure_future(anext(items, None))
                    await asyncio.wait({item, ended}, return_when=asyncio.FIRST_COMPLETED)
                    if not item.done() or (received := item.result()) is None:
                        item.cancel()
                        return
                    yield parse(received)
            finally:
                ended.cancel()

        return self._stream(method, parsed, behaviour)

    async def _abort(self, error: BaseException, context: Context, watch: _Watch) -> NoReturn:
        """End the call with what the error means; never returns."""
        if isinstance(error, asyncio.CancelledError):
            watch.ended(grpc.StatusCode.CANCELLED)
            raise error
        if isinstance(error, grpc.aio.AbortError):  # a library's own servicer (reflection, health) aborted
            watch.ended(context.code())
            raise error
        if not isinstance(error, Exception):
            raise error
        if isinstance(error, ServiceError):
            meant = error
        else:
            self._log.error("unexpected error in a call", method=watch.method, exc_info=error)
            meant = InternalError(INTERNAL_TEXT)
        code, text, trailers = describe(meant)
        watch.ended(code)
        await context.abort(code, text, trailing_metadata=(*trailers, ("x-request-id", watch.request_id)))
        raise AssertionError("context.abort always raises")


class _Watch:
    """Counts one call when it ends, and knows its names."""

    __slots__ = ("_handled", "_seconds", "_start", "method", "request_id")

    def __init__(self, metrics: Metrics, method: str, request_id: str) -> None:
        self.method = method
        self.request_id = request_id
        self._handled = metrics.rpc_handled
        self._seconds = metrics.rpc_seconds.labels(method)
        self._start = time.perf_counter()

    def ended(self, code: grpc.StatusCode) -> None:
        self._handled.labels(self.method, code.name).inc()
        self._seconds.observe(time.perf_counter() - self._start)


def caller(context: Context) -> str:
    """Who calls: `anonymous` until callers have identities."""
    return ANONYMOUS


def _parser(method: str, handler: Handler) -> Callable[[bytes], Any]:
    """The handler's own parser, whose failure names the message that the method takes."""
    parse = handler.request_deserializer or bytes
    service, name = method.strip("/").rsplit("/", 1)
    try:
        message = (
            descriptor_pool.Default().FindServiceByName(service).methods_by_name[name].input_type.full_name
        )
    except KeyError:  # a service without descriptors
        message = ""

    def checked(raw: bytes) -> Any:
        if len(raw) > MAX_REQUEST_BYTES:
            size = f"the request has {len(raw):,} bytes; allowed: {MAX_REQUEST_BYTES >> 20} MiB in all"
            raise InvalidRequest([Violation(field="reference_images", description=size)])
        try:
            return parse(raw)
        except (DecodeError, UnicodeDecodeError, ValueError) as error:
            raise MalformedRequest(
                f"The request's bytes are no {message or 'message that this method takes'}. Check that "
                "strings are UTF-8 and that the stubs were generated from this service's protos.",
                metadata={"message": message},
            ) from error

    return checked


def _given_request_id(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "x-request-id" and isinstance(value, str) and 0 < len(value) <= MAX_REQUEST_ID_CHARS:
            # gRPC lets other text in, and ends a call with an INTERNAL of its own that would send it out.
            return value if value.isascii() and value.isprintable() else ""
    return ""


def _name_in_logs(context: Context) -> str:
    """The caller's `x-request-id`, else a new one: everything logged within the call carries it.

    Errors bring it back, and the caller's own every answer.
    """
    request_id = _given_request_id(context)
    if request_id:
        context.set_trailing_metadata((("x-request-id", request_id),))
    else:
        request_id = f"{random.getrandbits(96):024x}"  # a tenth of the time that a ULID takes
    structlog.contextvars.bind_contextvars(x_request_id=request_id)
    return request_id

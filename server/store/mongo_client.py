"""A MongoDB client as this service uses it: what is forced on it, and what its errors mean."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pymongo
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WriteError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from server.domain.errors import StoreUnavailable
from server.store.batching import unavailable
from server.store.fields import Document

Result = TypeVar("Result")

DEFAULT_DATABASE = "imagegen"
CLOSE_TIMEOUT_S = 1.0
"""For the driver's good-bye to the server, which may be away."""
HEARTBEAT_TIMEOUT_S = 10.0
"""A heartbeat unanswered for so long breaks off whatever is under way: more than any one operation takes but
the transfer of a file, which so does not wait for a server that hangs."""

# What these codes say of an item no other moment would mend. All others are the server's own trouble.
_OUR_FAULT = frozenset(
    {
        2,  # BadValue
        9,  # FailedToParse
        14,  # TypeMismatch
        28,  # PathNotViable
        40,  # ConflictingUpdateOperators
        52,  # DollarPrefixedFieldName
        56,  # EmptyFieldName
        57,  # DottedFieldName
        66,  # ImmutableField
        121,  # DocumentValidationFailure
        10334,  # BSONObjectTooLarge
        17419,  # the document would become too large
        17420,
    }
)
_DUPLICATE = frozenset({11000, 11001, 12582})
_REFUSED = frozenset({13, 18, 8000})  # Unauthorized, AuthenticationFailed, Atlas' own for both


class Database:
    """One database, and the operations under way on it.

    Whatever the URL says: reads go to the primary and see only what no failover can undo, a write is
    acknowledged when a majority has it in its journal, and every operation ends in time. The driver
    repeats no write by itself: on a standalone server it could not, and `run_twice` does it on all.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        """Nothing is sent yet. Raises ValueError for a URL that cannot be one."""
        self._timeout_s = timeout_s
        timeout_ms = round(timeout_s * 1000)
        try:
            self._client = AsyncMongoClient[Document](
                url,
                timeoutMS=timeout_ms,
                serverSelectionTimeoutMS=timeout_ms,
                socketTimeoutMS=timeout_ms,
                connectTimeoutMS=round(HEARTBEAT_TIMEOUT_S * 1000),  # an operation's own limit is shorter
                retryWrites=False,
            )
            self.database: AsyncDatabase[Document] = self._client.get_default_database(
                DEFAULT_DATABASE,
                read_preference=ReadPreference.PRIMARY,
                write_concern=WriteConcern(w="majority", j=True),
                read_concern=ReadConcern("majority"),
            )
        except (PyMongoError, ValueError, TypeError):
            # The driver's own text may quote a part of the URL, which may hold a password.
            raise ValueError(
                "not a MongoDB URL that can be used: expected mongodb://host:27017/database, user and "
                "password percent-encoded, options as in the MongoDB manual"
            ) from None
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, operation: Callable[[], Awaitable[Result]], *, timeout_s: float) -> Result:
        """What the operation returns within the time; errors of our own making pass through.

        Raises StoreUnavailable when the store is away or the time is over. Then, and when the caller is
        cancelled, nobody knows whether a write took place, or will.
        """
        if timeout_s <= 0:  # which pymongo takes for no limit at all
            raise unavailable()
        # A task of its own, which nobody cancels: a task that is cancelled twice, by its caller and by a
        # time limit, can leave the driver's pool locked for good (asyncio.wait_for, before Python 3.12).
        # The driver's own limit ends it, if up to half a second late: it looks for servers in such steps.
        task = asyncio.create_task(_limited(operation, timeout_s), name="MongoDB operation")
        self._running.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done():
            raise unavailable()
        try:
            return task.result()
        except OperationFailure as error:
            if _is_our_fault(error):
                raise
            raise unavailable(_reason(error)) from error
        except (ConnectionFailure, ConfigurationError, InvalidOperation) as error:
            raise unavailable(_reason(error)) from error

    async def run_twice(
        self,
        send: Callable[[], Awaitable[Result]],
        *,
        again: Callable[[], Awaitable[Result]],
        timeout_s: float,
    ) -> Result:
        """What `send` returns within the time; or, when its outcome is unknown, what `again` then returns.

        A timeout and a lost connection leave open whether the server did, or still will do, what it was
        told. So what is sent must be harmless when done twice and late, and `again` must tell what came
        of it either way. Raises StoreUnavailable.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        try:
            return await self.run(send, timeout_s=timeout_s / 2)
        except StoreUnavailable:
            return await self.run(again, timeout_s=deadline - loop.time())

    async def hello(self) -> Document:
        """What the server that takes our writes says of itself."""
        return await self._client.admin.command("hello")

    async def aclose(self) -> None:
        """Wait for what is under way, as long as for an answer, and let go, also of a server that hangs."""
        with contextlib.suppress(TimeoutError):  # a file may take longer; whoever wanted that has left
            async with asyncio.timeout(self._timeout_s):
                while self._running:
                    await asyncio.wait(self._running)
        with pymongo.timeout(CLOSE_TIMEOUT_S):
            await self._client.close()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: a caller that has left does not


async def _limited(operation: Callable[[], Awaitable[Result]], timeout_s: float) -> Result:
    with pymongo.timeout(timeout_s):
        return await operation()


def item_errors(error: BulkWriteError) -> dict[int, WriteError]:
    """What was wrong with single items of an unordered batch, by place; the others were done.

    Raises the error that leaves the outcome of the whole batch unknown, if there is one among them.
    """
    details = error.details or {}
    if concerns := details.get("writeConcernErrors"):
        raise WriteConcernError(concerns[-1].get("errmsg", ""), concerns[-1].get("code"), concerns[-1])
    errors: dict[int, WriteError] = {}
    for item in details.get("writeErrors", ()):
        code = item["code"]
        kind = DuplicateKeyError if code in _DUPLICATE else WriteError
        errors[item["index"]] = failure = kind(item.get("errmsg", ""), code, item)
        if not _is_our_fault(failure):
            raise failure
    return errors


def _is_our_fault(error: OperationFailure) -> bool:
    return isinstance(error, DuplicateKeyError) or error.code in _OUR_FAULT


def _reason(error: Exception) -> str:
    match error:
        case OperationFailure(code=code) if code in _REFUSED:
            return "The task store refuses our credentials: check the user and the password in its URL."
        case ConfigurationError():
            return "The task store cannot be used: its name is not found, or its version does not fit."
        case InvalidOperation():
            return "The task store was closed."
        case _:
            return "The task store does not answer."

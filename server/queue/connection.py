"""How this service talks to Redis: clients that never repeat a command by themselves, and one error for all.

redis-py repeats commands after a timeout by default, which enqueues or claims twice; every client is made
here, with that switched off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hiredis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.maint_notifications import MaintNotificationsConfig

from server.ports import QueueUnavailable

OLDEST_REDIS = (6, 2)

CONNECTIONS = 50
"""Commands of one client that are under way at once; more wait for their turn."""

CLOSED = "the client was closed"

_DRIVER = DriverInfo()
"""What connections say of themselves: else redis-py looks its own version up on disk for each of them."""

_log = logging.getLogger(__name__)


class _Pool(ConnectionPool):
    """Once closed, keeps no connection and hands none out.

    redis-py closes what is connected at that moment: a command amid connecting goes on, and its connection
    stays. Who listens closes the subscription before the client.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.closed = False

    def make_connection(self) -> AbstractConnection:
        connection: AbstractConnection = super().make_connection()  # type: ignore[no-untyped-call]
        # In C, as redis-py's blocking ones do: its asyncio ones do it in Python, which is a third of a claim.
        connection.pack_command = _packed  # type: ignore[method-assign]
        return connection

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        if not self.closed:
            await super().ensure_connection(connection)
        if self.closed:
            raise RedisConnectionError(CLOSED)

    async def release(self, connection: AbstractConnection) -> None:
        try:
            await super().release(connection)
        finally:
            if self.closed:
                await connection.disconnect(nowait=True)

    async def aclose(self) -> None:
        self.closed = True
        await super().aclose()


class _Client(Redis):
    """Has commands wait for their turn while CONNECTIONS are under way, at most as long as for an answer.

    redis-py's own limit, of 100 connections, raises what says that Redis is away; and its pool that waits can
    lose a wake-up, or a connection for good, when a caller is cancelled.
    """

    connection_pool: _Pool

    def __init__(self, *, connection_pool: _Pool) -> None:
        super().__init__(connection_pool=connection_pool)
        self.auto_close_connection_pool = True  # with the client
        self._turns = asyncio.Semaphore(min(CONNECTIONS, connection_pool.max_connections))
        self._turn_timeout_s: float | None = connection_pool.connection_kwargs["socket_timeout"]

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if self._turns.locked():
            async with asyncio.timeout(self._turn_timeout_s):
                await self._turns.acquire()
        else:  # by far the most often, without the cost of a time limit
            await self._turns.acquire()
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except Exception as error:
            # Then it may be anything, from uvloop's RuntimeError to an AttributeError.
            if self.connection_pool.closed:
                raise RedisConnectionError(CLOSED) from error
            raise
        finally:
            self._turns.release()


class UnsuitableRedis(Exception):
    """This Redis can be reached but must not be used: its text says why, and what to set."""


def _packed(*arguments: Any) -> list[bytes]:
    """The command as it is sent; its name, the first argument, may be of several words.

    TypeError unless the arguments are str, bytes, int or float.
    """
    return [hiredis.pack_command((*arguments[0].split(), *arguments[1:]))]


def open_client(url: str, *, timeout_s: float | None) -> Redis:
    """A client that connects on first use and answers, or raises, within `timeout_s` per command.

    Where CONNECTIONS are under way it waits for its turn before that, at most as long. None = answers may
    take for ever: for blocking commands, whose callers set their own limit. Once closed it stays closed:
    ConnectionError of redis-py.
    ValueError when the URL is not one of Redis.
    """
    pool = _Pool.from_url(
        url,
        decode_responses=True,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        driver_info=_DRIVER,
        socket_timeout=timeout_s,
        socket_connect_timeout=2.0,
        health_check_interval=0 if timeout_s is None else 15,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return _Client(connection_pool=pool)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what redis-py raises into QueueUnavailable, and what it swallows into CancelledError again.

    redis-py 8.1 loses a cancellation that arrives while it connects: the command goes on as if nothing had
    been asked, and a task that was cancelled once would run for ever.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0

    def raise_if_cancelled() -> None:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError

    try:
        yield
    except (RedisError, OSError) as error:
        raise_if_cancelled()
        raise QueueUnavailable(f"Redis: {type(error).__name__}: {error}") from error
    raise_if_cancelled()


async def check_server(client: Redis) -> None:
    """Refuse, with UnsuitableRedis, a Redis that is too old, may evict keys, or does not let us in.

    Raises QueueUnavailable when it does not answer.
    """
    try:
        with translated():
            info = await client.info("server")
    except QueueUnavailable as error:
        # redis-py wraps what goes wrong in a handshake into a ConnectionError of its own.
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, AuthenticationError):
                raise UnsuitableRedis(f"Redis refuses the user or password in its URL: {cause}") from error
            cause = cause.__cause__
        raise
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise UnsuitableRedis(f"Redis {version} is too old: 6.2 or newer is needed.")
    try:
        with translated():
            config = await client.config_get("maxmemory*")
    except QueueUnavailable as error:
        if not isinstance(error.__cause__, ResponseError):
            raise
        _log.warning(
            "cannot read the configuration of Redis (%s): make sure that its maxmemory-policy is noeviction",
            error,
        )
        return
    policy = config.get("maxmemory-policy") or "noeviction"
    if int(config.get("maxmemory") or 0) > 0 and policy != "noeviction":
        raise UnsuitableRedis(
            f"Redis has maxmemory-policy {policy!r} and would drop queued tasks when memory runs short. "
            "Set 'maxmemory-policy noeviction' on it."
        )

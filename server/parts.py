"""What every process has, opened in order: side port, catalogue, stores, queue; and the watch over them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import structlog
from msgspec import Struct

from server.domain.catalogue import Catalogue
from server.domain.errors import ModelNotFound, Reason, StoreUnavailable
from server.domain.routing import Routing
from server.health import Health
from server.metrics import Metrics
from server.ports import OutputStore, QueueStats, QueueUnavailable, TaskStore
from server.providers import registry
from server.providers.catalogue import CatalogueError, load_catalogue
from server.queue.connection import UnsuitableRedis
from server.queue.task_queue import RedisTaskQueue
from server.settings import Settings
from server.side_port import SidePort
from server.store.connect import S3Keys, open_outputs, open_store
from server.store.sqlite_file import IncompatibleStore

HOST = "0.0.0.0"  # noqa: S104 - a service for other machines
LOOPBACK = "127.0.0.1"
WATCH_S = 1.0
STORE_RETRY_S = 1.0

T = TypeVar("T")


class StartError(Exception):
    """This process cannot start: the text names the setting and what is expected."""


class StoppedWhileStarting(Exception):
    """A stop was asked for before everything was open."""


class Parts(Struct, frozen=True, kw_only=True):
    """What every process has."""

    catalogue: Catalogue
    metrics: Metrics
    health: Health
    side: SidePort
    http_port: int
    store: TaskStore
    outputs: OutputStore
    queue: RedisTaskQueue


@asynccontextmanager
async def open_parts(
    settings: Settings, role: str, stop: asyncio.Event, *, side_host: str = HOST
) -> AsyncIterator[Parts]:
    """Open everything, the side port first: a process that waits for its store is alive and says so."""
    catalogue = _catalogue(settings)
    metrics = Metrics(
        app=settings.app_name,
        version=settings.app_version,
        role=role,
        models=[model.id for model in catalogue.models],
        providers=sorted(configured_providers(settings)),
        reasons=[
            Reason.PROVIDER_UNAVAILABLE,
            Reason.PROVIDER_TIMEOUT,
            Reason.PROVIDER_REJECTED,
            Reason.PROVIDER_MISCONFIGURED,
            Reason.CONTENT_POLICY_INPUT,
            Reason.CONTENT_POLICY_OUTPUT,
            Reason.OUTPUT_FETCH_FAILED,
            Reason.REFERENCE_UNAVAILABLE,
            Reason.INTERNAL_ERROR,
        ],
        prices=_prices(catalogue, settings),
    )
    health = Health()
    side = SidePort(health=health, metrics=metrics, images=role == "api")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(side.stop)
        http_port = await listen(side.start(side_host, settings.http_port), "HTTP_PORT", settings.http_port)
        store = await opened("STORE_URL", partial(open_store, settings.store_url), stop)
        stack.push_async_callback(store.aclose)
        opening = partial(open_outputs, settings.outputs, keys=_s3_keys(settings))
        outputs = await opened("OUTPUT_URL", opening, stop)
        stack.push_async_callback(outputs.aclose)
        queue = await opened("REDIS_URL", partial(RedisTaskQueue.connect, settings.redis_url), stop)
        stack.push_async_callback(queue.aclose)
        yield Parts(
            catalogue=catalogue,
            metrics=metrics,
            health=health,
            side=side,
            http_port=http_port,
            store=store,
            outputs=outputs,
            queue=queue,
        )


def configured_providers(settings: Settings) -> frozenset[str]:
    """The providers that this deployment has set up."""
    return registry.configured(ark_api_key=settings.image_api_key.get_secret_value())


def _s3_keys(settings: Settings) -> S3Keys:
    return S3Keys(
        access_key_id=settings.aws_access_key_id.get_secret_value(),
        secret_access_key=settings.aws_secret_access_key.get_secret_value(),
        session_token=settings.aws_session_token.get_secret_value(),
    )


def retired_models(catalogue: Catalogue, routing: Routing) -> list[str]:
    """The models that are past their retired date and still sent to a vendor."""
    today = datetime.now(UTC).date()
    return [
        f"{model.id} ({model.retired_date})"
        for model in catalogue.models
        if model.retired(today) and any(route.provider in routing.configured for route in model.routes)
    ]


def _prices(catalogue: Catalogue, settings: Settings) -> list[tuple[str, str, str]]:
    """Provider, model and currency of the prices that calls of this deployment may have."""
    configured = configured_providers(settings)
    return [
        (route.provider, model.id, route.price.currency)
        for model in catalogue.models
        for route in model.routes
        if route.price is not None and route.provider in configured
    ]


def _catalogue(settings: Settings) -> Catalogue:
    """The catalogue, with the settings that name something in it checked against it. Raises StartError."""
    try:
        catalogue = load_catalogue(settings.model_catalogue)
        catalogue.find(settings.image_model)
    except CatalogueError as error:
        raise StartError(f"MODEL_CATALOGUE: {error}") from error
    except ModelNotFound as error:
        raise StartError(f"IMAGE_MODEL: {error}") from error
    if not any(model.sizes.resolve(settings.image_default_size) for model in catalogue.models):
        raise StartError(
            f"IMAGE_DEFAULT_SIZE: no model takes {settings.image_default_size!r}; expected a label like 2K, "
            "or WIDTHxHEIGHT in pixels"
        )
    return catalogue


async def opened(setting: str, opening: Callable[[], Awaitable[T]], stop: asyncio.Event) -> T:
    """Open a store, or read from it; one that is away is waited for, an unfit one is a StartError."""
    while True:
        try:
            return await opening()
        except StoreUnavailable as error:
            structlog.get_logger(__name__).warning("waiting for a store", setting=setting, error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STORE_RETRY_S):
                    await stop.wait()
                raise StoppedWhileStarting from error
        except (UnsuitableRedis, IncompatibleStore, ValueError) as error:
            raise StartError(f"{setting}: {error}") from error


async def listen(starting: Awaitable[int], setting: str, port: int) -> int:
    """The port that is listened on once it is. StartError when it is taken."""
    try:
        return await starting
    except (OSError, RuntimeError) as error:  # aiohttp's and grpc's words for a port in use
        raise taken(setting, port) from error


def taken(setting: str, port: int) -> StartError:
    """The port of this setting is in use: what to do."""
    return StartError(f"{setting}: port {port} cannot be bound; set {setting} to a free one")


async def watch(parts: Parts) -> None:
    """Look at store and Redis once a second, for probes, metrics and people."""
    while True:
        await asyncio.sleep(WATCH_S)
        await check(parts)


async def check(parts: Parts) -> None:
    metrics, health = parts.metrics, parts.health
    store, stats = await asyncio.gather(_store_answers(parts), _queue_stats(parts))
    health.set(store=store, redis=stats is not None)
    metrics.store_up.set(store)
    metrics.redis_up.set(stats is not None)
    if stats is not None:
        metrics.queue_tasks.labels("ready").set(stats.ready)
        metrics.queue_tasks.labels("leased").set(stats.leased)
        metrics.queue_tasks.labels("delayed").set(stats.delayed)
        metrics.oldest_ready_age.set((stats.oldest_ready_ms or 0) / 1000)


async def _store_answers(parts: Parts) -> bool:
    try:
        await parts.store.ping()
    except StoreUnavailable as error:
        if parts.health.store:
            structlog.get_logger(__name__).error("the task store does not answer", error=str(error))
        return False
    return True


async def _queue_stats(parts: Parts) -> QueueStats | None:
    try:
        return await parts.queue.stats()
    except QueueUnavailable as error:
        if parts.health.redis:
            structlog.get_logger(__name__).error("Redis does not answer", error=str(error))
        return None

"""The composition root: builds one process' objects from the settings, runs them, stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from server.domain.admission import Defaults
from server.domain.catalogue import Catalogue
from server.domain.errors import ModelNotFound, Reason, StoreUnavailable
from server.domain.routing import LOCAL, Routing
from server.health import Health
from server.metrics import Metrics
from server.ports import OutputStore, QueueStats, QueueUnavailable, TaskStore, now_ms
from server.providers.catalogue import CatalogueError, load_catalogue
from server.queue.connection import UnsuitableRedis
from server.queue.events import RedisTaskEvents
from server.queue.sweep import Sweep
from server.queue.task_queue import RedisTaskQueue
from server.settings import Settings
from server.side_port import OUTPUTS_PATH, SidePort
from server.store.connect import open_outputs, open_store
from server.store.outputs import is_public, reference_key
from server.store.sqlite_file import IncompatibleStore

HOST = "0.0.0.0"  # noqa: S104 - a service for other machines
WATCH_S = 1.0
STORE_RETRY_S = 1.0
ROUTE_AWAY_S = 1.0
"""After health says "not ready", so long until the port closes: time for balancers to see it."""
LAST_STEPS_S = 2.0
END_WAITS_BEFORE_S = 1.0
"""Waiting calls get their answer so long before the grace is over."""


class StartError(Exception):
    """This process cannot start: the text names the setting and what is expected."""


class StoppedWhileStarting(Exception):
    """A stop was asked for before everything was open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """The ports a process listens on; grpc_port is 0 for a worker."""

    grpc_port: int
    http_port: int


T = TypeVar("T")
OnReady = Callable[[Listening], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
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
async def _parts(settings: Settings, role: str, stop: asyncio.Event) -> AsyncIterator[Parts]:
    """Open everything, the side port first: a process that waits for its store is alive and says so."""
    catalogue = _catalogue(settings)
    metrics = Metrics(
        app=settings.app_name,
        version=settings.app_version,
        role=role,
        models=[model.id for model in catalogue.models],
        providers=[LOCAL],
        reasons=[
            Reason.PROVIDER_UNAVAILABLE,
            Reason.PROVIDER_TIMEOUT,
            Reason.PROVIDER_REJECTED,
            Reason.PROVIDER_MISCONFIGURED,
            Reason.REFERENCE_UNAVAILABLE,
            Reason.INTERNAL_ERROR,
        ],
    )
    health = Health()
    side = SidePort(health=health, metrics=metrics)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(side.stop)
        http_port = await _listen(side.start(HOST, settings.http_port), "HTTP_PORT", settings.http_port)
        store = await _opened("STORE_URL", open_store, settings.store_url, stop)
        stack.push_async_callback(store.aclose)
        outputs = await _opened("OUTPUT_URL", open_outputs, settings.outputs, stop)
        stack.push_async_callback(outputs.aclose)
        queue = await _opened("REDIS_URL", RedisTaskQueue.connect, settings.redis_url, stop)
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


def _catalogue(settings: Settings) -> Catalogue:
    """The catalogue, with the settings that name something in it checked against it. Raises StartError."""
    try:
        catalogue = load_catalogue()
        catalogue.find(settings.image_model)
    except CatalogueError as error:
        raise StartError(str(error)) from error
    except ModelNotFound as error:
        raise StartError(f"IMAGE_MODEL: {error}") from error
    if not any(model.sizes.resolve(settings.image_default_size) for model in catalogue.models):
        raise StartError(
            f"IMAGE_DEFAULT_SIZE: no model takes {settings.image_default_size!r}; expected a label like 2K, "
            "or WIDTHxHEIGHT in pixels"
        )
    return catalogue


async def _opened(setting: str, opening: Callable[[str], Awaitable[T]], url: str, stop: asyncio.Event) -> T:
    """Open a store; one that is away is waited for, one that must not be used is a StartError."""
    while True:
        try:
            return await opening(url)
        except StoreUnavailable as error:
            structlog.get_logger(__name__).warning("waiting for a store", setting=setting, error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STORE_RETRY_S):
                    await stop.wait()
                raise StoppedWhileStarting from error
        except (UnsuitableRedis, IncompatibleStore, ValueError) as error:
            raise StartError(f"{setting}: {error}") from error


def routing_of(settings: Settings) -> Routing:
    """Which providers this deployment has. In development without any vendor key, local stands in."""
    stand_in = settings.app_environment == "development" and not any(settings.vendor_keys.values())
    return Routing(configured=frozenset({LOCAL}), stand_in=stand_in)


async def run_api(settings: Settings, stop: asyncio.Event, on_ready: OnReady) -> None:
    """Serve gRPC and the side port until `stop` is set, then drain within the grace."""
    from server.api.grpc_server import GrpcServer
    from server.api.image_servicer import ImageServicer
    from server.api.task_servicer import TaskServicer
    from server.service.line import Line
    from server.service.tasks import TaskService
    from server.service.waits import Waits

    log = structlog.get_logger(__name__)
    routing = routing_of(settings)
    keys = ", ".join(name for name, present in settings.vendor_keys.items() if present)
    if keys:
        log.warning("credentials are set for providers that this version has no adapter for", providers=keys)
    if routing.stand_in:
        log.warning("no vendor key is set: the local provider stands in for the models of all vendors")
    async with _parts(settings, "api", stop) as parts:
        line = Line(parts.queue)
        waits = Waits(store=parts.store, events=RedisTaskEvents(settings.redis_url), metrics=parts.metrics)
        tasks = TaskService(
            store=parts.store,
            outputs=parts.outputs,
            line=line,
            waits=waits,
            catalogue=parts.catalogue,
            routing=routing,
            defaults=Defaults(
                model=settings.image_model,
                size=settings.image_default_size,
                max_paid_attempts=settings.max_paid_attempts,
            ),
            metrics=parts.metrics,
            queue_max_depth=settings.queue_max_depth,
            reference_key=reference_key,
            now_ms=now_ms,
        )
        parts.side.serve(parts.outputs, is_public)
        public_url = (settings.public_url or f"http://localhost:{parts.http_port}").rstrip("/")

        def link(key: str) -> str:
            return f"{public_url}{OUTPUTS_PATH}{key}"

        server = GrpcServer(
            image=ImageServicer(
                tasks=tasks,
                outputs=parts.outputs,
                health=parts.health,
                link=link,
                sync_wait_max_s=settings.sync_wait_max_seconds,
            ),
            task=TaskServicer(tasks=tasks, link=link),
            health=parts.health,
            metrics=parts.metrics,
        )
        await _check(parts)
        grpc_port = await _listen(server.start(HOST, settings.grpc_port), "GRPC_PORT", settings.grpc_port)
        background = [
            asyncio.create_task(_watch(parts), name="watch"),
            asyncio.create_task(waits.listen(), name="waits"),
            asyncio.create_task(line.run(), name="line"),
        ]
        on_ready(Listening(grpc_port=grpc_port, http_port=parts.http_port))
        try:
            await _until(stop, background)
            log.info("draining", grace_s=settings.grace_s)
            parts.health.set(draining=True)
            route_away_s = min(ROUTE_AWAY_S, settings.grace_s / 4)
            grace_s = settings.grace_s - route_away_s
            await asyncio.sleep(route_away_s)  # calls are still served while balancers look
            tasks.refuse()
            end_waits = asyncio.get_running_loop().call_later(
                max(0.0, grace_s - min(END_WAITS_BEFORE_S, grace_s / 4)), waits.end
            )
            await server.stop(grace_s)
            end_waits.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_STEPS_S):
                    await tasks.drain()
                    await line.drain(timeout_s=LAST_STEPS_S)
        finally:
            await _cancel(background)
            await server.stop(0)


async def run_worker(settings: Settings, stop: asyncio.Event, on_ready: OnReady) -> None:
    """Claim and run tasks until `stop` is set, then give back or finish what is held within the grace."""
    from server.providers.contract import Provider
    from server.providers.local import LocalProvider
    from server.store.outputs import output_key
    from server.worker.attempt import Budget
    from server.worker.beat import Beat, Observer
    from server.worker.execution import Execution
    from server.worker.pool import WorkerPool, pools_of

    log = structlog.get_logger(__name__)
    lease_s = settings.lease_seconds
    async with _parts(settings, "worker", stop) as parts, AsyncExitStack() as stack:
        local = LocalProvider()
        stack.push_async_callback(local.aclose)
        providers: dict[str, Provider] = {local.name: local}
        beat = Beat(parts.store, lease_s=lease_s)
        execution = Execution(
            store=parts.store,
            queue=parts.queue,
            outputs=parts.outputs,
            providers=providers,
            upstream_model=parts.catalogue.upstream_model,
            new_key=output_key,
            budget=Budget(
                image_timeout_s=settings.image_timeout,
                max_retries=settings.image_max_retries,
                lease_ms=round(lease_s * 1000),
            ),
            metrics=parts.metrics,
            now_ms=now_ms,
        )
        pool = WorkerPool(
            queue=parts.queue,
            execution=execution,
            beat=beat,
            pools=pools_of(providers.values()),
            concurrency=settings.worker_concurrency,
            lease_s=lease_s,
            metrics=parts.metrics,
        )
        sweep = Sweep(parts.queue, parts.store, lease_ms=round(lease_s * 1000))
        observer = Observer(parts.store, lease_s=lease_s, metrics=parts.metrics)
        await _check(parts)
        if not await _before(stop, beat.register()):
            raise StoppedWhileStarting
        background = [
            asyncio.create_task(_watch(parts), name="watch"),
            asyncio.create_task(beat.run(), name="beat"),
            asyncio.create_task(observer.run(), name="observer"),
            asyncio.create_task(_sweep(sweep, parts.metrics, every_s=min(1.0, lease_s / 3)), name="sweep"),
        ]
        running = asyncio.create_task(pool.run(), name="worker-pool")
        on_ready(Listening(grpc_port=0, http_port=parts.http_port))
        try:
            await _until(stop, [*background, running])
            log.info("draining", grace_s=settings.grace_s)
            parts.health.set(draining=True)
            pool.stop()
            _, still_running = await asyncio.wait({running}, timeout=settings.grace_s)
            if still_running:
                await pool.cancel_held()
            _, stuck = await asyncio.wait({running}, timeout=LAST_STEPS_S)
            if stuck:
                log.error("the worker did not let go of everything; its row is left to be declared lost")
            else:
                running.result()
                await beat.deregister()
        finally:
            await _cancel([*background, running])


async def _before(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work unless a stop is asked for first; whether it was done."""
    working = asyncio.create_task(work, name="before-stop")
    stopping = asyncio.create_task(stop.wait(), name="before-stop-asked")
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        await _cancel([working])
        return False
    working.result()
    return True


async def _listen(starting: Awaitable[int], setting: str, port: int) -> int:
    try:
        return await starting
    except (OSError, RuntimeError) as error:  # aiohttp's and grpc's words for a port in use
        raise StartError(f"{setting}: port {port} cannot be bound; set {setting} to a free one") from error


async def _watch(parts: Parts) -> None:
    """Look at store and Redis once a second, for probes, metrics and people."""
    while True:
        await asyncio.sleep(WATCH_S)
        await _check(parts)


async def _check(parts: Parts) -> None:
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


async def _sweep(sweep: Sweep, metrics: Metrics, *, every_s: float) -> None:
    """Take a step of the sweep on a timer, at once while there is more to do."""
    log = structlog.get_logger(__name__)
    while True:
        try:
            report = await sweep.step()
        except (QueueUnavailable, StoreUnavailable) as error:
            log.warning("the sweep goes on when it can", error=str(error))
        except Exception as error:  # a row that cannot be read must not end every worker
            log.error("the sweep ran into a bug and goes on", exc_info=error)
        else:
            metrics.leases_expired.inc(report.expired)
            metrics.queue_repaired.inc(report.added)
            metrics.queue_rebuilds.inc(report.rebuilding)
            if report.more:
                continue
        await asyncio.sleep(every_s)


async def _until(stop: asyncio.Event, background: Sequence[asyncio.Task[None]]) -> None:
    """Until a stop is asked for; a background task that dies ends the process instead of dying silently."""
    stopping = asyncio.create_task(stop.wait(), name="until-stop")
    try:
        done, _ = await asyncio.wait({stopping, *background}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()
    finally:
        stopping.cancel()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task

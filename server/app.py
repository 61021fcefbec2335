"""The composition root: builds one process' objects from the settings, runs them, stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial

import structlog
from msgspec import Struct

from server.domain.admission import Defaults
from server.domain.errors import StoreUnavailable
from server.domain.request import MAX_REFERENCE_BYTES
from server.domain.routing import Routing
from server.downloads import Downloader, reach
from server.links import Links
from server.parts import (
    HOST,
    LOOPBACK,
    Parts,
    StoppedWhileStarting,
    check,
    configured_providers,
    listen,
    open_parts,
    opened,
    retired_models,
    watch,
)
from server.ports import QueueUnavailable, now_ms
from server.providers import registry
from server.providers.contract import Provider
from server.queue.events import RedisTaskEvents
from server.queue.sweep import Sweep
from server.settings import Settings
from server.side_port import OUTPUTS_PATH
from server.stopping import before, cancelled, until
from server.store.output_links import link_secret, seconds_left
from server.store.outputs import reference_key

ROUTE_AWAY_S = 1.0
"""After health says "not ready", so long until the port closes: time for balancers to see it."""
LAST_STEPS_S = 2.0
END_WAITS_BEFORE_S = 1.0
"""Waiting calls get their answer so long before the grace is over."""


class Listening(Struct, frozen=True, kw_only=True):
    """The ports a process listens on; grpc_port is 0 for a worker."""

    grpc_port: int
    http_port: int


OnReady = Callable[[Listening], None]


def routing_of(settings: Settings) -> Routing:
    """Which providers this deployment has. In development without any vendor key, local stands in."""
    stand_in = settings.app_environment == "development" and not any(settings.vendor_keys.values())
    return Routing(configured=configured_providers(settings), stand_in=stand_in)


def without_adapter(settings: Settings) -> list[str]:
    """Vendors whose credentials are set for nothing."""
    return sorted(
        name
        for name, has_key in settings.vendor_keys.items()
        if has_key and name not in registry.WITH_ADAPTER
    )


async def run_api(
    settings: Settings,
    stop: asyncio.Event,
    on_ready: OnReady,
    *,
    one_of_several: bool = False,
) -> None:
    """Serve gRPC and the side port until `stop` is set, then drain within the grace.

    One of several processes shares GRPC_PORT with the others; its side port is for their supervisor alone.
    """
    from server.api.answers import Answers
    from server.api.grpc_server import GrpcServer
    from server.api.image_servicer import ImageServicer
    from server.api.model_servicer import ModelServicer
    from server.api.task_servicer import TaskServicer
    from server.api.usage_servicer import UsageServicer
    from server.service.cancels import Cancels
    from server.service.line import Line
    from server.service.models import Models
    from server.service.references import References
    from server.service.submits import Submits
    from server.service.tasks import Tasks
    from server.service.usage import UsageReports
    from server.service.waits import Waits
    from server.service.withdrawals import Withdrawals

    log = structlog.get_logger(__name__)
    routing = routing_of(settings)
    if unused := without_adapter(settings):
        log.warning(
            "credentials are set for providers that this version has no adapter for",
            providers=", ".join(unused),
        )
    if routing.stand_in:
        log.warning("no vendor key is set: the local provider stands in for the models of all vendors")
    downloads = Downloader(
        reach(allow_private=settings.output_fetch_allow_private), max_bytes=MAX_REFERENCE_BYTES
    )
    async with (
        contextlib.aclosing(downloads),
        open_parts(settings, "api", stop, side_host=LOOPBACK if one_of_several else HOST) as parts,
    ):
        if retired := retired_models(parts.catalogue, routing):
            log.warning(
                "models are offered that their vendors have retired, or so it is reported",
                models=", ".join(retired),
            )
        line = Line(parts.queue)
        waits = Waits(store=parts.store, events=RedisTaskEvents(settings.redis_url), metrics=parts.metrics)
        tasks = Tasks(store=parts.store, waits=waits, metrics=parts.metrics, now_ms=now_ms)
        submits = Submits(
            store=parts.store,
            references=References(
                store=parts.store,
                outputs=parts.outputs,
                downloads=downloads,
                reference_key=reference_key,
            ),
            line=line,
            withdrawals=Withdrawals(store=parts.store, queue=parts.queue, now_ms=now_ms),
            tasks=tasks,
            catalogue=parts.catalogue,
            routing=routing,
            defaults=Defaults(
                model=settings.image_model,
                size=settings.image_default_size,
                max_paid_attempts=settings.max_paid_attempts,
            ),
            metrics=parts.metrics,
            queue_max_depth=settings.queue_max_depth,
            now_ms=now_ms,
        )
        cancels = Cancels(
            tasks=tasks, store=parts.store, queue=parts.queue, metrics=parts.metrics, now_ms=now_ms
        )
        public_url = (settings.public_url or f"http://localhost:{parts.http_port}").rstrip("/")
        links = Links(
            base_url=f"{public_url}{OUTPUTS_PATH}",
            secret=await opened("OUTPUT_URL", partial(link_secret, parts.outputs), stop),
            lifetime_s=settings.output_link_seconds,
            now_ms=now_ms,
        )
        parts.side.serve(parts.outputs, partial(seconds_left, links))
        answers = Answers(links.mint)
        server = GrpcServer(
            image=ImageServicer(
                submits=submits,
                tasks=tasks,
                outputs=parts.outputs,
                health=parts.health,
                mint=links.mint,
                answers=answers,
                sync_wait_max_s=settings.sync_wait_max_seconds,
            ),
            task=TaskServicer(tasks=tasks, cancels=cancels, answers=answers),
            model=ModelServicer(
                models=Models(
                    catalogue=parts.catalogue, routing=routing, default_size=settings.image_default_size
                ),
                now_ms=now_ms,
            ),
            usage=UsageServicer(reports=UsageReports(store=parts.store, now_ms=now_ms)),
            health=parts.health,
            metrics=parts.metrics,
            shared_port=one_of_several,
        )
        await check(parts)
        grpc_port = await listen(server.start(HOST, settings.grpc_port), "GRPC_PORT", settings.grpc_port)
        background = [
            asyncio.create_task(watch(parts), name="watch"),
            asyncio.create_task(waits.listen(), name="waits"),
            asyncio.create_task(line.run(), name="line"),
        ]
        on_ready(Listening(grpc_port=grpc_port, http_port=parts.http_port))
        try:
            await until(stop, background)
            log.info("draining", grace_s=settings.grace_s)
            parts.health.set(draining=True)
            route_away_s = min(ROUTE_AWAY_S, settings.grace_s / 4)
            grace_s = settings.grace_s - route_away_s
            await asyncio.sleep(route_away_s)  # calls are still served while balancers look
            submits.refuse()
            end_waits = asyncio.get_running_loop().call_later(
                max(0.0, grace_s - min(END_WAITS_BEFORE_S, grace_s / 4)), waits.end
            )
            await server.stop(grace_s)
            end_waits.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_STEPS_S):
                    await submits.drain()
                    await line.drain(timeout_s=LAST_STEPS_S)
                    await cancels.drain()
        finally:
            await cancelled(background)
            await server.stop(0)


def providers_of(settings: Settings) -> Mapping[str, Provider]:
    """The providers that the settings set up, by name; each is to be closed."""
    return registry.build(
        ark_api_key=settings.image_api_key.get_secret_value(),
        ark_base_url=settings.image_base_url,
        fetch_private=settings.output_fetch_allow_private,
    )


async def run_worker(
    settings: Settings,
    stop: asyncio.Event,
    on_ready: OnReady,
    open_providers: Callable[[Settings], Mapping[str, Provider]] = providers_of,
) -> None:
    """Claim and run tasks until `stop` is set, then give back or finish what is held within the grace.

    `open_providers` gives what makes the images, by name; they are closed at the end.
    """
    from server.store.outputs import output_key, result_key
    from server.worker.attempt import Budget
    from server.worker.beat import Beat, Observer
    from server.worker.execution import Execution
    from server.worker.pool import WorkerPool, pools_of

    log = structlog.get_logger(__name__)
    lease_s = settings.lease_seconds
    async with open_parts(settings, "worker", stop) as parts, AsyncExitStack() as stack:
        providers = open_providers(settings)
        for provider in providers.values():
            stack.push_async_callback(provider.aclose)
        beat = Beat(parts.store, lease_s=lease_s, slots=settings.worker_concurrency)
        observer = Observer(parts.store, lease_s=lease_s, metrics=parts.metrics)
        execution = Execution(
            store=parts.store,
            queue=parts.queue,
            outputs=parts.outputs,
            providers=providers,
            route=parts.catalogue.route,
            new_key=output_key,
            result_key=result_key,
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
            cancels=parts.store.cancel_requested,
            metrics=parts.metrics,
            live_slots=lambda: observer.live_slots,
        )
        cancels = RedisTaskEvents(settings.redis_url, of="cancels")
        sweep = Sweep(parts.queue, parts.store, lease_ms=round(lease_s * 1000))
        await check(parts)
        if not await before(stop, beat.register()):
            raise StoppedWhileStarting
        background = [
            asyncio.create_task(watch(parts), name="watch"),
            asyncio.create_task(beat.run(), name="beat"),
            asyncio.create_task(observer.run(), name="observer"),
            asyncio.create_task(cancels.listen(pool.cancel), name="cancels"),
            asyncio.create_task(_sweep(sweep, parts, every_s=min(1.0, lease_s / 3)), name="sweep"),
        ]
        running = asyncio.create_task(pool.run(), name="worker-pool")
        on_ready(Listening(grpc_port=0, http_port=parts.http_port))
        try:
            await until(stop, [*background, running])
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
                await cancelled(background)  # a beat that finds its row gone would register anew
                await beat.deregister()
        finally:
            await cancelled([*background, running])


async def _sweep(sweep: Sweep, parts: Parts, *, every_s: float) -> None:
    """Take a step of the sweep on a timer, at once while there is more to do."""
    from server.worker.expiry import end_overdue

    log, metrics = structlog.get_logger(__name__), parts.metrics
    while True:
        try:
            report = await sweep.step()
            metrics.leases_expired.inc(report.expired)
            metrics.queue_repaired.inc(report.added + report.removed)
            metrics.queue_rebuilds.inc(report.rebuilding)
            await end_overdue(report.overdue, store=parts.store, queue=parts.queue, metrics=metrics)
        except (QueueUnavailable, StoreUnavailable) as error:
            log.warning("the sweep goes on when it can", error=str(error))
        except Exception as error:  # a row that cannot be read must not end every worker
            log.error("the sweep ran into a bug and goes on", exc_info=error)
        else:
            if report.more:
                continue
        await asyncio.sleep(every_s)

"""One deployment under fire: a Redis, a store, a vendor that counts, and processes that come and go."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
from image.v1 import image_service_pb2_grpc
from task.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc

from tests.chaos.ledger import Audit, Promise, audit, open_attempt, wall_ms
from tests.chaos.processes import Process
from tests.chaos.stores import Store
from tests.nursery import Nursery
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.stack import TERMINAL, Calls
from tests.upstreams import ArkUpstream
from tests.waiting import until, until_async

AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
PAUSE_S = 0.05
CALL_TIMEOUT_S = 10.0
LONG_POLL_S = 50
_CHANNEL = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]


@dataclass(slots=True)
class Deployment:
    """The processes of one deployment, and every promise that its clients were given."""

    nursery: Nursery
    directory: Path
    redis: RedisServer
    store: Store
    upstream: ArkUpstream
    lease_s: float
    settings: dict[str, str]
    random: random.Random
    apis: list[Process] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    killed: dict[str, int] = field(default_factory=dict)
    """When workers were killed, or stopped past their lease, by the ids they had then."""
    troubles: list[str] = field(default_factory=list)
    """Answers that no client should get."""
    _all: list[Process] = field(default_factory=list)
    _calls: dict[int, Calls] = field(default_factory=dict)
    _follow: set[asyncio.Task[None]] = field(default_factory=set)
    _again: set[asyncio.Task[Process]] = field(default_factory=set)

    # --- processes -----------------------------------------------------------------------------------

    async def start_api(self, **settings: str) -> Process:
        """One more API process, in use as soon as it listens."""
        process = await self._start("api", settings)
        self._calls[process.pid] = _connect(process.target)
        self.apis.append(process)
        return process

    async def start_worker(self, **settings: str) -> Process:
        """One more worker."""
        process = await self._start("worker", settings)
        self.workers.append(process)
        return process

    async def _start(self, role: str, settings: dict[str, str]) -> Process:
        environment = {
            "GRPC_PORT": str(free_port()),
            "HTTP_PORT": "0",
            "DATA_DIR": str(self.directory / "data"),
            "OUTPUT_URL": f"file://{self.directory}/data/outputs",
            "REDIS_URL": self.redis.url,
            "STORE_URL": self.store.url,
            "IMAGE_API_KEY": "loopback",
            "IMAGE_BASE_URL": self.upstream.base_url,
            "OUTPUT_FETCH_ALLOW_PRIVATE": "true",
            "PUBLIC_URL": "http://127.0.0.1",
            "SHUTDOWN_GRACE_SECONDS": "20",
            "LEASE_SECONDS": f"{self.lease_s:g}",
            **self.settings,
            **settings,
        }
        log = self.directory / f"{role}-{len(self._all):03}.log"
        log.touch()
        child = self.nursery.start(role, directory=self.directory, environment=environment, out=log)
        process = Process(role, child, log)
        self._all.append(process)
        return await process.ready()

    def again(self, starting: Callable[[], asyncio.Task[Process]]) -> None:
        """Start a replacement in the background."""
        task = starting()
        self._again.add(task)
        task.add_done_callback(self._again.discard)

    def kill_api(self, process: Process) -> None:
        """SIGKILL it; another one is on its way."""
        self.apis.remove(process)
        process.kill()
        self.again(lambda: asyncio.create_task(self.start_api(), name="next-api"))

    def kill_worker(self, process: Process, *, replace: bool = True) -> None:
        """SIGKILL it; another one is on its way."""
        self.workers.remove(process)
        process.kill()
        self.note_kill(process)
        if replace:
            self.again(lambda: asyncio.create_task(self.start_worker(), name="next-worker"))

    async def kill_any_worker(self) -> None:
        """SIGKILL one that holds no task which was hit before and may be bought twice: all can end well.

        It is stopped while its tasks are read, so it takes none in between; not so long that it is lost.
        """

        async def killed() -> bool:
            for process in self.random.sample(self.workers, len(self.workers)):
                process.signal(signal.SIGSTOP)
                try:
                    async with asyncio.timeout(self.lease_s / 4):
                        spared = await self._holds_a_task_hit_before(process)
                except TimeoutError:
                    spared = True
                if not spared:
                    self.kill_worker(process)
                    return True
                process.signal(signal.SIGCONT)
            await asyncio.sleep(PAUSE_S)
            return False

        await until_async(killed, within_s=30, what="a worker that may be killed")

    async def _holds_a_task_hit_before(self, process: Process) -> bool:
        unended = [p for p in self.promises if p.seen_end is None and p.max_paid > 1]
        tasks = await asyncio.gather(*(self.read(promise.task_id) for promise in unended))
        return any((open_attempt(task, process.worker_ids) or 0) > 1 for task in tasks)

    def note_kill(self, process: Process) -> None:
        """Put into the books that it was killed, or stopped, just now."""
        now = wall_ms()
        for worker_id in process.worker_ids:  # under the earlier ones it was killed earlier
            self.killed.setdefault(worker_id, now)

    async def replaced(self) -> None:
        """Wait until every process on its way has arrived."""
        await until(lambda: not self._again, within_s=60, what="replacements of killed processes")

    # --- what clients do -----------------------------------------------------------------------------

    def calls(self) -> Calls:
        """Stubs of any API process."""
        return self.calls_of(self.random.choice(self.apis))

    def calls_of(self, process: Process) -> Calls:
        """Stubs of this API process."""
        return self._calls[process.pid]

    def follow(self, promise: Promise) -> None:
        """Keep the promise in the books, and wait for its end as a client does."""
        self.promises.append(promise)
        following = asyncio.create_task(self._until_ended(promise), name="follow")
        self._follow.add(following)
        following.add_done_callback(self._follow.discard)

    @property
    def unended(self) -> int:
        """Promises whose end has not been seen."""
        return len(self._follow)

    async def _until_ended(self, promise: Promise) -> None:
        request = task_service_pb2.WaitTaskRequest(task_id=promise.task_id)
        request.wait.FromSeconds(LONG_POLL_S)
        while promise.seen_end is None:
            if not self.apis:
                await asyncio.sleep(PAUSE_S)
                continue
            try:
                task = (await self.calls().tasks.WaitTask(request, timeout=LONG_POLL_S + CALL_TIMEOUT_S)).task
            except grpc.aio.AioRpcError as error:
                if error.code() not in AWAY:
                    self.troubles.append(
                        f"WaitTask of {promise.task_id}: {error.code().name} {error.details()}"
                    )
                    return
                await asyncio.sleep(PAUSE_S)
            else:
                if task.state in TERMINAL:
                    promise.seen_end, promise.seen_end_s = task, time.monotonic()

    async def holder(self, promise: Promise) -> Process:
        """The worker that has the task in hand."""

        async def held() -> Process | None:
            task = await self.read(promise.task_id)
            return next((w for w in self.workers if open_attempt(task, w.worker_ids) is not None), None)

        worker = await until_async(held, within_s=30, what="a worker with the task in hand")
        assert worker is not None
        return worker

    async def read(self, task_id: str) -> task_pb2.Task:
        """The task as it stands, from any API process that answers."""
        request = task_service_pb2.GetTaskRequest(task_id=task_id)
        deadline = asyncio.get_running_loop().time() + 60
        while True:
            await until(lambda: self.apis, within_s=60, what="an API process")
            try:
                return (await self.calls().tasks.GetTask(request, timeout=CALL_TIMEOUT_S)).task
            except grpc.aio.AioRpcError as error:
                if error.code() not in AWAY or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(PAUSE_S)

    async def all_ended(self, promises: Sequence[Promise], *, within_s: float) -> bool:
        """Wait until these have ended; whether they have in time."""
        try:
            await until(
                lambda: all(promise.seen_end is not None for promise in promises),
                within_s=within_s,
                what="ends",
            )
        except AssertionError:
            return False
        return True

    # --- the books -----------------------------------------------------------------------------------

    async def audit(
        self,
        *,
        recovery_s: float,
        within_s: float = 60.0,
        never_in_doubt: bool = False,
        slow_machine: bool = False,
    ) -> Audit:
        """Wait for the end of every task, read each once more, and hold it against the bill."""
        await self.replaced()
        await self.all_ended(self.promises, within_s=within_s)
        for promise in self.promises:
            try:
                promise.final = await self.read(promise.task_id)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
        return audit(
            self.promises,
            billed=self.upstream.billed,
            killed=self.killed,
            recovery_s=recovery_s,
            never_in_doubt=never_in_doubt,
            slow_machine=slow_machine,
        )

    def exits(self) -> list[str]:
        """The processes that ended though nobody killed them."""
        return [
            f"{process.log_path.name} ended by itself: {process.log()[-1:]}"
            for process in self._all
            if not process.killed and not process.running
        ]

    def story(self, task_id: str) -> list[str]:
        """What the logs of all processes say of a task."""
        return [
            f"{process.log_path.name}: {line}"
            for process in self._all
            for line in process.log()
            if line.get("task_id") == task_id
        ]

    def errors(self) -> list[str]:
        """Error lines of all logs."""
        return [
            f"{process.log_path.name}: {line}"
            for process in self._all
            for line in process.log()
            if line["level"] in ("error", "critical", "raw")
        ]

    async def close(self) -> None:
        """End everything that runs."""
        tasks = [*self._follow, *self._again]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for calls in self._calls.values():
            await calls.channel.close()
        for process in self._all:
            process.signal(signal.SIGCONT)
            process.close()


def _connect(target: str) -> Calls:
    channel = grpc.aio.insecure_channel(target, options=_CHANNEL)
    return Calls(
        channel,
        image_service_pb2_grpc.ImageServiceStub(channel),
        task_service_pb2_grpc.TaskServiceStub(channel),
    )

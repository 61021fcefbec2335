"""What a row is given, and what it brings back."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from server.queue.keys import DEFAULT_PREFIX
from tests.chaos.deployment import Deployment
from tests.chaos.ledger import Audit, Violation
from tests.chaos.load import Load
from tests.chaos.stores import Store
from tests.nursery import Nursery
from tests.redis_server import RedisServer, assert_no_leaked_keys
from tests.upstreams import ArkUpstream
from tests.waiting import until_async

SHORT_LEASE_S = 1.0
FULL_LEASE_S = 2.0
STORY_LINES = 12
LOOK_AGAIN_S = 0.2
NewStore = Callable[[Path], Store]


@dataclass(slots=True)
class Run:
    """One row's run: its size, its luck, its deployments, its findings."""

    nursery: Nursery
    new_store: NewStore
    short: bool
    random: random.Random
    slow_store: bool = False
    """The store is a test server that takes a few dozen commands a second: less load, longer leases."""
    repetitions: int = 0
    audit: Audit = field(default_factory=Audit)
    notes: list[str] = field(default_factory=list)

    @property
    def lease_s(self) -> float:
        """LEASE_SECONDS of volume rows."""
        return SHORT_LEASE_S if self.short and not self.slow_store else FULL_LEASE_S

    @property
    def recovery_s(self) -> float:
        """The bound on the time from a kill to the next attempt."""
        return 2 * self.lease_s + 2

    def size(self, *, short: int, full: int) -> int:
        """How often."""
        return short if self.short else full

    def load(self, deployment: Deployment, *, every_s: float, at_most: int, max_paid: int) -> Load:
        """A steady load that this store can take."""
        slower = 4 if self.slow_store else 1
        return Load(
            deployment, every_s=every_s * slower, at_most=max(4, at_most // slower), max_paid=max_paid
        )

    def broken(self, what: str, about: str = "") -> None:
        """Note a broken promise that is not one of the ledger's."""
        self.audit.violations.append(Violation(what, about))

    @asynccontextmanager
    async def deployed(
        self,
        *,
        apis: int = 1,
        workers: int = 2,
        lease_s: float | None = None,
        delay_s: float = 0.1,
        **settings: str,
    ) -> AsyncIterator[Deployment]:
        """A running deployment with so many processes. Settings by their names in capitals."""
        directory = Path(tempfile.mkdtemp(prefix="chaos-"))
        (directory / "data").mkdir()
        try:
            with RedisServer() as redis:
                async with ArkUpstream(delay_s=delay_s) as upstream:
                    deployment = Deployment(
                        self.nursery,
                        directory,
                        redis,
                        self.new_store(directory),
                        upstream,
                        lease_s or self.lease_s,
                        settings,
                        random.Random(self.random.random()),
                    )
                    try:
                        await deployment.start_api()  # it makes the database before the others open it
                        await asyncio.gather(
                            *(deployment.start_api() for _ in range(apis - 1)),
                            *(deployment.start_worker() for _ in range(workers)),
                        )
                        yield deployment
                    finally:
                        await deployment.close()
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    async def settle(
        self,
        deployment: Deployment,
        *,
        recovery_s: float | None = None,
        within_s: float = 60.0,
        never_in_doubt: bool = False,
    ) -> Audit:
        """Close the books of a deployment and count them into the row's; every task is over then."""
        found = await deployment.audit(
            recovery_s=recovery_s or self.recovery_s,
            within_s=within_s,
            never_in_doubt=never_in_doubt,
            slow_machine=self.short,
        )
        found.violations += [Violation("a process ended by itself", what) for what in deployment.exits()]
        found.violations += [Violation("an answer that no client should get", t) for t in deployment.troubles]
        if not found.lost:
            found.violations += await _leaks(deployment)
        for violation in found.violations:
            task_id = violation.about.partition("task ")[2].partition(";")[0]
            told = deployment.story(task_id) if task_id else []
            self.notes += [f"    {line}" for line in told[:STORY_LINES]]
        self.audit.add(found)
        return found


async def _leaks(deployment: Deployment) -> list[Violation]:
    """What is left in Redis though every task is over; a lost lease may take its time to be found."""

    async def none() -> bool:
        try:
            assert_no_leaked_keys(deployment.redis.url, DEFAULT_PREFIX)
        except AssertionError:
            await asyncio.sleep(LOOK_AGAIN_S)
            return False
        return True

    try:
        await until_async(none, within_s=2 * deployment.lease_s + 10, what="an empty queue")
        assert_no_leaked_keys(deployment.redis.url, DEFAULT_PREFIX)
    except AssertionError as error:
        return [Violation("keys without an owner", str(error))]
    return []


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the matrix."""

    name: str
    fault: str
    run: Callable[[Run], Coroutine[None, None, None]]
    bound: str
    on_mongo: bool = False
    """Whether its short form runs on MongoDB as well."""

"""Rounds of all contenders in turn, so that whatever the machine does meanwhile meets all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import grpc.aio

from benchmarks.both_cores import Scaling
from benchmarks.contender import Contender
from benchmarks.echo_ratio import Ratio
from benchmarks.effort import Effort
from benchmarks.environments import NotInstalled
from benchmarks.growth import Growth
from benchmarks.open_waits import OpenWaits
from benchmarks.service import OURS, OURS_WITH_PICTURE
from benchmarks.soak import Soak
from benchmarks.start_up import StartUp
from benchmarks.sync_calls import SyncCalls
from benchmarks.worker_round import PickUps, Work, pick_up_round, work_round
from tests.redis_server import RedisServer

T = TypeVar("T")
CONCURRENCIES = (10, 100)
PICK_UP_CONCURRENCY = 10


@dataclass(slots=True)
class Results:
    """What was measured, by contender; each list has one entry per round, or fewer when it failed."""

    ratios: list[Ratio] = field(default_factory=list)
    scalings: list[Scaling] = field(default_factory=list)
    work: dict[int, dict[str, list[Work]]] = field(default_factory=dict)
    """By concurrency."""
    pick_ups: dict[str, list[PickUps]] = field(default_factory=dict)
    sync: SyncCalls | None = None
    starts: list[StartUp] = field(default_factory=list)
    waits: OpenWaits | None = None
    growth: Growth | None = None
    soak: Soak | None = None
    missing: dict[str, str] = field(default_factory=dict)
    """What could not be measured, and why."""
    complete: bool = True
    """Whether all of ours was measured that should be."""

    def attempt(self, what: str, measure: Callable[[], None]) -> None:
        """Measure; whatever goes wrong becomes a line, for what was measured before must not be lost."""
        try:
            measure()
        except Exception as error:
            self.failed(what, error, ours=True)

    def broken_off(self, part: str) -> None:
        """Tell that the run was told to stop in the middle of this."""
        self.complete = False
        self.missing[f"the rest of {part}, and all after it"] = "the run was told to stop"

    def keep_ratio(self, ratio: Ratio) -> None:
        """The method's rounds so far, in place of what was known of them."""
        self.ratios = [*(one for one in self.ratios if one.method != ratio.method), ratio]

    def keep_scaling(self, scaling: Scaling) -> None:
        """The same beside several processes."""
        self.scalings = [*(one for one in self.scalings if one.method != scaling.method), scaling]

    def failed(self, what: str, error: Exception, *, ours: bool) -> None:
        """Tell that this could not be measured."""
        self.complete = self.complete and not ours
        self.missing[what] = _reason(error)
        tell(f"{what}: not measured: {self.missing[what]}")


def prepared(contenders: Sequence[Contender], results: Results) -> list[Contender]:
    """Those that can take part here."""
    ready = []
    for contender in contenders:
        try:
            contender.prepare()
        except NotInstalled as error:
            results.missing[contender.name] = str(error)
        else:
            ready.append(contender)
    return ready


def measure_work(
    contenders: Sequence[Contender], redis: RedisServer, effort: Effort, results: Results
) -> None:
    """Full queues, at each concurrency."""
    for concurrency in CONCURRENCIES:
        rates: dict[str, float] = {}

        def work(
            contender: Contender, concurrency: int = concurrency, rates: dict[str, float] = rates
        ) -> Work:
            rate = rates.get(contender.name, 0.0)
            tasks = effort.tasks(rate, concurrency)
            found = work_round(contender, redis, tasks=tasks, concurrency=concurrency)
            tell(
                f"{contender.name}, {concurrency} at once, {tasks:,} tasks{'' if rate else ' (warm-up)'}: "
                f"{found.tasks_per_s:,.0f} tasks/s, {found.cpu_ms_per_task:.2f} ms of CPU per task and "
                f"{found.redis_cpu_ms_per_task:.2f} ms of Redis'"
            )
            rates.setdefault(contender.name, found.tasks_per_s)
            return found

        what = f"worker, {concurrency} at once"
        warm: dict[str, list[Work]] = {}
        in_turn(contenders, work, 1, f"{what}, warm-up", results, warm)
        ready = [contender for contender in contenders if contender.name in warm]
        if ready:
            in_turn(ready, work, effort.rounds, what, results, results.work.setdefault(concurrency, {}))


def measure_pick_ups(
    contenders: Sequence[Contender], redis: RedisServer, effort: Effort, results: Results
) -> None:
    """Idle queues."""

    def pick_up(contender: Contender) -> PickUps:
        found = pick_up_round(
            contender,
            redis,
            samples=effort.pick_up_samples,
            seconds=effort.pick_up_s,
            concurrency=PICK_UP_CONCURRENCY,
        )
        tell(
            f"{contender.name}, pick-up: p50 {found.since_return.p50_ms:.2f} ms from the submit's return, "
            f"{found.since_call.p50_ms:.2f} ms from before it"
        )
        return found

    in_turn(contenders, pick_up, effort.rounds, "pick-up", results, results.pick_ups)


def in_turn(
    contenders: Sequence[Contender],
    measure: Callable[[Contender], T],
    rounds: int,
    what: str,
    results: Results,
    found: dict[str, list[T]],
) -> None:
    """Every contender once per round, another one first each time; what it gave is `found` at once.

    One that fails takes no further part: it keeps the rounds that it has, and is told of as missing.
    """
    failed: set[str] = set()
    for number in range(rounds):
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            if contender.name in failed:
                continue
            try:
                measured = measure(contender)
            except Exception as error:  # of whatever kind: the others' results are not to be lost
                failed.add(contender.name)
                ours = contender.name in (OURS, OURS_WITH_PICTURE)
                results.failed(f"{contender.name}, {what}, round {number + 1} of {rounds}", error, ours=ours)
            else:
                found.setdefault(contender.name, []).append(measured)


def _reason(error: Exception) -> str:
    """What one line can tell of it."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]} … {lines[-1]}"


def tell(line: str) -> None:
    """Show it at once."""
    print(line, flush=True)

"""Rounds of all contenders in turn, so that whatever the machine does meanwhile meets all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.contender import Contender, MeasureFailed
from benchmarks.environments import NotInstalled
from benchmarks.service import Service
from benchmarks.worker_round import PickUp, Work, pick_up_round, work_round
from tests.redis_server import RedisServer

T = TypeVar("T")
CONCURRENCIES = (10, 100)
PICK_UP_CONCURRENCY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured."""

    rounds: int
    work_s: float
    """So long a worker is to be busy in a round, as far as a first round, that is not counted, can tell."""
    pick_up_samples: int
    pick_up_s: float

    def tasks(self, rate: float, concurrency: int) -> int:
        """Tasks of a round for a contender that does `rate` per second."""
        return max(10 * concurrency, round(rate * self.work_s))


FULL_WORK_S, FULL_SAMPLES, FULL_PICK_UP_S = 2.5, 80, 6.0
QUICK = Effort(rounds=1, work_s=0.5, pick_up_samples=10, pick_up_s=1.0)


@dataclass(slots=True)
class Results:
    """What was measured, by contender; each list has one entry per round."""

    work: dict[int, dict[str, list[Work]]] = field(default_factory=dict)
    """By concurrency."""
    pick_ups: dict[str, list[PickUp]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """What could not be measured, and why."""


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
            _tell(
                f"{contender.name}, {concurrency} at once, {tasks:,} tasks{'' if rate else ' (warm-up)'}: "
                f"{found.tasks_per_s:,.0f} tasks/s, {found.cpu_ms_per_task:.2f} ms of CPU per task"
            )
            rates.setdefault(contender.name, found.tasks_per_s)
            return found

        what = f"worker, {concurrency} at once"
        warm = _in_turn(contenders, work, 1, what, results)
        results.work[concurrency] = _in_turn(
            [contender for contender in contenders if contender.name in warm],
            work,
            effort.rounds,
            what,
            results,
        )


def measure_pick_ups(
    contenders: Sequence[Contender], redis: RedisServer, effort: Effort, results: Results
) -> None:
    """Idle queues."""

    def pick_up(contender: Contender) -> PickUp:
        found = pick_up_round(
            contender,
            redis,
            samples=effort.pick_up_samples,
            seconds=effort.pick_up_s,
            concurrency=PICK_UP_CONCURRENCY,
        )
        _tell(f"{contender.name}, pick-up: p50 {found.p50_ms:.2f} ms, p99 {found.p99_ms:.2f} ms")
        return found

    results.pick_ups = _in_turn(contenders, pick_up, effort.rounds, "pick-up", results)


def _in_turn(
    contenders: Sequence[Contender],
    measure: Callable[[Contender], T],
    rounds: int,
    what: str,
    results: Results,
) -> dict[str, list[T]]:
    """Every contender once per round, another one first each time; a peer that fails takes no further part.

    Raises MeasureFailed when it is the service that fails.
    """
    found: dict[str, list[T]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            if contender.name not in found:
                continue
            try:
                found[contender.name].append(measure(contender))
            except MeasureFailed as error:
                if contender.name == Service.name:
                    raise
                results.missing[f"{contender.name}, {what}"] = str(error)
                _tell(f"{contender.name}, {what}: not measured: {error}")
                del found[contender.name]
    return found


def _tell(line: str) -> None:
    print(line, flush=True)

"""Figures as a benchmark finds them, for tests of what is told of them."""

from __future__ import annotations

from benchmarks.echo_ratio import GET_TASK, SUBMIT, Ratio
from benchmarks.latencies import Latencies
from benchmarks.load import H2LOAD
from benchmarks.peer import PEERS
from benchmarks.report import Conditions
from benchmarks.service import OURS
from benchmarks.worker_round import PickUps, Work

PEER, OTHER = "arq", "SAQ"
"""The best of the peers, and the one that costs least."""
SLOW = [peer.name for peer in PEERS if peer.name not in (PEER, OTHER)]
CONDITIONS = Conditions(
    date="2026-01-02",
    command="python -m benchmarks",
    commit="abc1234",
    machine="2 cores",
    redis="Redis server v=7",
    load_generator="h2load",
    rounds=5,
    minutes=12.3,
    load_before=0.1,
    load_after=1.9,
    contenders={OURS: "what it is", PEER: "what that is"},
)


RATIOS = [
    Ratio(method=GET_TASK, load_generator=H2LOAD, service_rates=(660.0,) * 5, echo_rates=(1000.0,) * 5),
    Ratio(
        method=SUBMIT,
        load_generator=H2LOAD,
        service_rates=(490.0,) * 5,
        echo_rates=(1000.0,) * 5,
        service_cpu_ms=(0.5,) * 5,
    ),
]


def rounds_of(rate: float, cost: float) -> list[Work]:
    """Five of them about this rate, at this cost."""
    return [
        Work(tasks_per_s=rate * factor, cpu_ms_per_task=cost, redis_cpu_ms_per_task=0.1)
        for factor in (1.0, 0.9, 1.1, 1.0, 1.0)
    ]


def latencies_of(p50: float, p99: float, *, samples: int = 80) -> Latencies:
    """With this median, and this at the end."""
    return Latencies((p50,) * (samples - 4) + (p99,) * 4)


def pick_ups_of(p50: float, p99: float, *, samples: int = 80) -> PickUps:
    """With these, of submits that took 3 ms each."""
    since_return = latencies_of(p50, p99, samples=samples)
    since_call = Latencies(tuple(value + 3.0 for value in since_return.values_ms))
    return PickUps(since_call=since_call, since_return=since_return)

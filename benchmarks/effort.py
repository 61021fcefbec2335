"""How much is measured: in a run that is kept, and in a trial."""

from __future__ import annotations

from dataclasses import dataclass

FEWEST_ROUNDS = 5
"""With fewer than these a run is a trial and says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """The sizes of every part."""

    rounds: int = FEWEST_ROUNDS
    grpc_requests: int = 8_000
    cores_requests: int = 6_000
    work_s: float = 1.5
    """So long a worker is to be busy in a round, as far as a first round, that is not counted, can tell."""
    warm_up_tasks: int = 1_000
    """Of that first round: enough for its rate to be one."""
    most_tasks: int = 20_000
    """Of any round, however fast the first one was: they are put in line one by one."""
    pick_up_samples: int = 64
    pick_up_s: float = 7.0
    sync_callers: int = 200
    sync_calls: int = 8
    """Of each caller in a round."""
    idle_s: float = 3.0
    waits: int = 10_000
    window_s: float = 16.0
    """Longer than the pause between two polls of the waiting calls: each window holds one."""
    growth: tuple[int, int] = (1_000, 1_000_000)
    growth_requests: int = 4_000
    growth_worker_s: float = 6.0
    """So long a worker is watched, or until nothing waits."""
    soak_s: float = 1_800.0
    soak_warm_up_s: float = 5.0
    soak_probe_s: float = 20.0

    def tasks(self, rate: float, concurrency: int) -> int:
        """Tasks of a round for a contender that does `rate` per second; 0 as long as nobody knows."""
        wanted = round(rate * self.work_s) if rate else self.warm_up_tasks
        return max(10 * concurrency, min(wanted, self.most_tasks))


QUICK = Effort(
    rounds=1,
    grpc_requests=1_000,
    cores_requests=1_000,
    work_s=0.5,
    warm_up_tasks=200,
    pick_up_samples=10,
    pick_up_s=1.0,
    sync_calls=2,
    idle_s=1.0,
    waits=500,
    window_s=2.0,
    growth=(1_000, 20_000),
    growth_requests=1_000,
    growth_worker_s=2.0,
    soak_s=15.0,
    soak_warm_up_s=1.0,
    soak_probe_s=3.0,
)

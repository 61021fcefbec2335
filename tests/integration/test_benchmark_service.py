"""The service as the benchmark runs it does the work that is measured: real API, worker, store and Redis."""

from __future__ import annotations

import pytest

from benchmarks.contender import MeasureFailed
from benchmarks.service import Service
from benchmarks.worker_round import pick_up_round, work_round
from tests.redis_server import RedisServer

pytestmark = pytest.mark.usefixtures("forked")


@pytest.mark.parametrize("picture", [False, True])
def test_a_worker_round_ends_with_every_task_at_its_end(picture: bool) -> None:
    with RedisServer() as redis:
        work = work_round(Service(picture=picture), redis, tasks=200, concurrency=10)
    assert work.tasks_per_s > 0
    assert work.cpu_ms_per_task > 0
    assert work.redis_cpu_ms_per_task >= 0


def test_a_pick_up_round_meets_a_worker_that_waits() -> None:
    with RedisServer() as redis:
        pick_up = pick_up_round(Service(), redis, samples=5, seconds=60, concurrency=10)
    assert 0 < pick_up.since_call.p50_ms < 500, "it is woken, and does not only look again"


def test_tasks_that_nobody_did_are_not_taken_for_done() -> None:
    with RedisServer() as redis, Service().deployed(redis) as deployment:
        deployment.enqueue(12)
        with pytest.raises(MeasureFailed, match="12 tasks should be FAILED"):
            deployment.check(12)

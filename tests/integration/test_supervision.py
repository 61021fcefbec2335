"""The supervisor of child processes: how long it waits for them, and what cannot end it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from server import processes
from server.app import LAST_STEPS_S
from server.processes import KILL_AFTER_S, OwnRedis, StackError
from server.worker.pool import CANCEL_S
from tests.waiting import until, until_async


def test_a_worker_is_not_killed_while_it_records_what_it_broke_off() -> None:
    assert KILL_AFTER_S > CANCEL_S + LAST_STEPS_S


async def test_a_redis_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "redis").touch()
    with pytest.raises(StackError, match=r"embedded Redis cannot be started: .*redis"):
        await OwnRedis(tmp_path).start()


@pytest.mark.parametrize("error", ["of the system", "of our own"])
async def test_a_redis_that_cannot_be_started_again_is_tried_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setattr(processes, "RESTART_DELAYS_S", (0.01,))
    redis = OwnRedis(tmp_path)
    await redis.start()
    supervising = asyncio.create_task(redis.supervise(), name="supervise")

    async def answers() -> bool:
        async with aclosing(Redis.from_url(redis.url)) as client:
            with suppress(RedisError):
                return bool(await client.ping())
        return False

    with capture_logs() as logs, monkeypatch.context() as broken:
        if error == "of the system":
            broken.setattr("asyncio.create_subprocess_exec", _no_process)
        else:
            broken.setattr(processes, "redis_executable", _bug)
        async with aclosing(Redis.from_url(redis.url)) as client:
            await client.shutdown(nosave=True)
        await until(lambda: [log for log in logs if log["event"] == "process did not start"][2:], within_s=10)
    try:
        assert not supervising.done()
        await until_async(answers, within_s=10)
    finally:
        supervising.cancel()
        await asyncio.wait([supervising])
        await redis.stop()


async def _no_process(*_: object, **__: object) -> None:
    raise BlockingIOError(11, "Resource temporarily unavailable")  # as fork(2) does


def _bug() -> str:
    raise KeyError("a bug")

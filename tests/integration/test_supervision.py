"""The supervisor of child processes: how long it waits for them, and what cannot end it."""

from __future__ import annotations

from server.app import LAST_STEPS_S
from server.processes import KILL_AFTER_S
from server.worker.pool import CANCEL_S


def test_a_worker_is_not_killed_while_it_records_what_it_broke_off() -> None:
    assert KILL_AFTER_S > CANCEL_S + LAST_STEPS_S

"""How long a call may wait so that its answer still reaches the caller."""

from __future__ import annotations

from typing import Any

import grpc.aio

MARGIN_S = 0.25
MARGIN_SHARE = 0.1


def seconds_to_answer(context: grpc.aio.ServicerContext[Any, Any], *, default_s: float) -> float:
    """Seconds to wait: until min(250 ms, 10 % of the rest) before the caller's deadline, `default_s` without.

    Answering exactly at the deadline, half the clients see a bare cut without the task's id.
    """
    left_s: float | None = context.time_remaining()  # the stubs forget that it may be None
    if left_s is None:
        return default_s
    return max(0.0, left_s - min(MARGIN_S, MARGIN_SHARE * left_s))

"""SIGINT and SIGTERM end the benchmark wherever it is, by way of all that has to be ended with it."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def stop_on_signals() -> None:
    """From now on either of them raises SystemExit, with the exit code of a shell."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    sys.unraisablehook = _once_more


def _stop(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _once_more(lost: sys.UnraisableHookArgs) -> None:
    """Raise it again: Python drops it where nothing may fail, as in a destructor or around a fork."""
    if not isinstance(stop := lost.exc_value, SystemExit):
        sys.__unraisablehook__(lost)
        return
    signal.signal(signal.SIGALRM, lambda _number, _frame: sys.exit(stop.code))
    signal.setitimer(signal.ITIMER_REAL, 0.01)

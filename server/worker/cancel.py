"""A caller's wish to end one task, as the worker that runs it learns of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class CancelAsked(Exception):
    """The cancel of the task was asked for, and what was done for it has stopped."""


class Cancel:
    """It takes effect only `during` an attempt: before it the store's word is enough, after it too late."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._interruptible: asyncio.Task[Any] | None = None

    def ask(self) -> None:
        """Ask for it; once is enough."""
        if not self._asked.is_set():
            self._asked.set()
            if self._interruptible is not None:
                self._interruptible.cancel()

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Await the work; raises CancelAsked when the cancel is asked for before it or meanwhile."""
        if self._asked.is_set():
            work.close()
            raise CancelAsked
        running = asyncio.current_task()
        assert running is not None, "a coroutine runs in a task"  # noqa: S101 - for the type checker
        self._interruptible = running
        try:
            return await work
        except asyncio.CancelledError:
            # With a stop asked for as well, one cancellation is left, and the stop goes first.
            if self._asked.is_set() and running.uncancel() == 0:
                raise CancelAsked from None
            raise
        finally:
            self._interruptible = None

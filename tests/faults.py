"""A port that can be put to sleep: stands before a real adapter and fails as the test says."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

Port = TypeVar("Port")


@dataclass(slots=True)
class Faults:
    """What goes wrong with the methods of one port; may be changed at any time."""

    away: bool = False
    """Every method raises, and nothing is carried out."""
    failing: set[str] = field(default_factory=set)
    """These methods raise, and are not carried out."""
    losing: set[str] = field(default_factory=set)
    """These methods are carried out, and raise all the same: their answer is lost."""
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    """These methods wait for their event before anything else."""
    late: dict[str, asyncio.Event] = field(default_factory=dict)
    """These methods are carried out at once, and answer when their event is set."""
    lagging: dict[str, asyncio.Event] = field(default_factory=dict)
    """These methods raise at once, and are carried out when their event is set."""
    calls: Counter[str] = field(default_factory=Counter)
    """How often each method was called, failures included."""
    done: Counter[str] = field(default_factory=Counter)
    """How often each method was carried out, whether or not anybody heard of it."""

    def wake(self) -> None:
        """Nothing goes wrong any more."""
        self.away = False
        self.failing.clear()
        self.losing.clear()
        for event in (*self.gates.values(), *self.late.values(), *self.lagging.values()):
            event.set()


def faulty(port: Port, error: Callable[[], Exception]) -> tuple[Port, Faults]:
    """The port behind faults, all of which raise `error()`; without any it is the port itself."""
    faults = Faults()
    return cast(Port, _Faulty(port, error, faults)), faults


class _Faulty:
    def __init__(self, port: object, error: Callable[[], Exception], faults: Faults) -> None:
        self._port = port
        self._error = error
        self._faults = faults
        self._carrying_out: set[asyncio.Task[None]] = set()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            faults = self._faults
            faults.calls[name] += 1
            if gate := faults.gates.get(name):
                await gate.wait()
            if faults.away or name in faults.failing:
                raise self._error()
            if event := faults.lagging.get(name):
                self._later(event, name, partial(method, *args, **kwargs))
                raise self._error()
            answer = await method(*args, **kwargs)
            faults.done[name] += 1
            if event := faults.late.get(name):
                await event.wait()
            if name in faults.losing:
                raise self._error()
            return answer

        return call

    def _later(self, event: asyncio.Event, name: str, carry_out: Callable[[], Awaitable[object]]) -> None:
        async def later() -> None:
            await event.wait()
            await carry_out()
            self._faults.done[name] += 1

        task = asyncio.create_task(later(), name=f"lagging {name}")
        self._carrying_out.add(task)
        task.add_done_callback(self._carrying_out.discard)

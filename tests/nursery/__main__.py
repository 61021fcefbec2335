"""Forks processes with all of one package imported already. `tests.nursery` runs it with the package's name.

One order per line on its input, with a number; on its output `started NUMBER PID` for each, and `ended NUMBER
CODE` for each that has ended. A child is `python -m MODULE` but for the interpreter's start, or with it when
it shall be fresh. All of them end when this process does, and it ends with its input.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import sys
import time
from typing import Any, NoReturn

from server.processes import die_with

NOT_FOR_SERVICES = ("server.demo", "server.queue_commands")


def main(name: str) -> None:
    """Fork what is asked for until the input ends."""
    # What the client's command line asks for itself before its first import of grpc, which reads it then.
    if name == "imagegen":
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if module.name not in NOT_FOR_SERVICES:
            importlib.import_module(module.name)
    if name == "server":
        importlib.import_module("uvloop")  # which a worker imports as it starts

    noticed, notice = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(notice)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    die_with_me = die_with(os.getpid())
    print("ready", flush=True)
    pending = b""
    numbers: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([0, noticed], [], [])
        if noticed in readable:
            os.read(noticed, 4096)
            _reap(numbers)
        if 0 in readable:
            read = os.read(0, 65536)
            if not read:
                return
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                order = json.loads(line)
                child = os.fork()
                if child == 0:
                    die_with_me()
                    os.close(noticed)
                    os.close(notice)
                    _become(order)
                numbers[child] = order["number"]
                print(f"started {order['number']} {child}", flush=True)


def _reap(numbers: dict[int, int]) -> None:
    """Tell who has ended; `numbers` are those of the orders, by process id."""
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not child:
            return
        print(f"ended {numbers.pop(child)} {os.waitstatus_to_exitcode(status)}", flush=True)


def _become(order: dict[str, Any]) -> NoReturn:
    """Be what was ordered, to the interpreter's end."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    for descriptor, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, order["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, order["err"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        file = os.open(name, flags)
        os.dup2(file, descriptor)
        os.close(file)
    gate = os.open(order["gate"], os.O_WRONLY)
    os.unlink(order["gate"])
    module, arguments = order["module"], list(order["arguments"])
    if order["says_when_ready"]:
        arguments += ["--ready-fd", str(gate)]
    if order["fresh"]:
        os.set_inheritable(gate, True)
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
    sys.argv[1:] = arguments
    runs = f"{module}.__main__" if hasattr(sys.modules.get(module), "__path__") else module
    sys.modules.pop(runs, None)  # imported like all others; what runs stands there as `__main__` alone
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    main(sys.argv[1])

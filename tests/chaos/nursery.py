"""Forks service processes with everything imported already: a start costs a tenth of a fresh one.

Run as a program by `tests.chaos.processes`: one order per line on its input, one process id per line back.
Each child is `python -m server ROLE` but for the interpreter's start. All of them end when this process does,
and it ends with its input.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG = 1
NOT_FOR_SERVICES = ("server.__main__", "server.demo", "server.embedded", "server.queue_commands")


def main() -> None:
    """Fork what is asked for until the input ends."""
    import server

    for module in pkgutil.walk_packages(server.__path__, "server."):
        if module.name not in NOT_FOR_SERVICES:
            importlib.import_module(module.name)
    from server.__main__ import main as serve

    libc = ctypes.CDLL(None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel clears away who has ended
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    mine = os.getpid()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() == mine:
                    _become(order)
                    code = serve([order["role"]])
            with contextlib.suppress(BaseException):
                sys.stderr.flush()
            os._exit(code)
        print(child, flush=True)


def _become(order: dict[str, Any]) -> None:
    """Give the child what a process of its own would have been started with."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environment"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(nothing)
    os.close(log)


if __name__ == "__main__":
    main()

"""Forks service processes with everything imported already. Run as a program by `tests.nursery`.

One order per line on its input; on its output `started PID` for each, and `ended PID CODE` for each that has
ended. A child is `python -m server ROLE` but for the interpreter's start. All of them end when this process
does, and it ends with its input.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import sys
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
NOT_FOR_SERVICES = ("server.__main__", "server.demo", "server.embedded", "server.queue_commands")


def main() -> None:
    """Fork what is asked for until the input ends."""
    import server

    for module in pkgutil.walk_packages(server.__path__, "server."):
        if module.name not in NOT_FOR_SERVICES:
            importlib.import_module(module.name)
    import server.__main__

    libc = ctypes.CDLL(None)
    noticed, notice = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(notice)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    mine = os.getpid()
    print("ready", flush=True)
    pending = b""
    while True:
        readable, _, _ = select.select([0, noticed], [], [])
        if noticed in readable:
            os.read(noticed, 4096)
            _bury()
        if 0 in readable:
            read = os.read(0, 65536)
            if not read:
                return
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                child = os.fork()
                if child == 0:
                    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                    if os.getppid() != mine:
                        os._exit(1)
                    os.close(noticed)
                    os.close(notice)
                    _serve(json.loads(line))
                print(f"started {child}", flush=True)


def _bury() -> None:
    """Tell who has ended."""
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not child:
            return
        print(f"ended {child} {os.waitstatus_to_exitcode(status)}", flush=True)


def _serve(order: dict[str, Any]) -> NoReturn:
    """Be what was ordered, to the interpreter's end."""
    signal.set_wakeup_fd(-1)
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
    ready = os.open(order["gate"], os.O_WRONLY)
    os.unlink(order["gate"])

    from server.__main__ import main as serve

    sys.exit(serve([order["role"], "--ready-fd", str(ready)]))


if __name__ == "__main__":
    main()

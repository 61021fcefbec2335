"""`python -m benchmarks`: ours beside the peers in one run, printed and kept in `benchmarks/results/`."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from benchmarks import both_cores, echo_ratio, growth, open_waits, soak, start_up, sync_calls
from benchmarks.asynq import ASYNQ, Asynq
from benchmarks.contender import Contender
from benchmarks.effort import FEWEST_ROUNDS, QUICK, Effort
from benchmarks.environments import ROOT
from benchmarks.load import generator
from benchmarks.page import free_page, keep, keep_with_plot
from benchmarks.peer import PEERS
from benchmarks.process_cpu import PROC
from benchmarks.report import Conditions
from benchmarks.rounds import Results, measure_pick_ups, measure_work, prepared, tell
from benchmarks.service import OURS_WITH_PICTURE, Service
from benchmarks.stopping import stop_on_signals
from tests.commit import commit
from tests.redis_server import RedisServer

PARTS = {
    "grpc": "GetTask and GenerateImageAsync beside a bare echo",
    "cores": "an api of two processes beside one of one",
    "worker": "a worker's throughput and cost beside other queues",
    "pickup": "from submit to the task's entry, beside other queues",
    "sync": "200 callers of a provider that takes a second",
    "start": "an api process until its first answer, and idle",
    "waits": "10,000 synchronous calls open in one api process",
    "growth": "a million tasks stored and queued beside a thousand",
    "soak": "half an hour at half load",
}
LONG = ("growth", "soak")
"""Only when they are asked for: more than ten minutes, and half an hour."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the arguments ask for; the exit code: 0 when all of ours could be, whatever came out."""
    arguments = _arguments(argv)
    # Whatever was started is ended on the way out, also when this is told to stop.
    stop_on_signals()
    effort = QUICK if arguments.quick else Effort(rounds=arguments.rounds)
    parts = [arguments.only] if arguments.only else [part for part in PARTS if part not in LONG]
    date, load_before, at = f"{datetime.now(UTC):%Y-%m-%d}", os.getloadavg()[0], commit()

    results = Results()
    contenders: list[Contender] = [Service(), Service(picture=True)]
    if {"worker", "pickup"} & {*parts}:
        contenders += prepared([*PEERS, Asynq()], results)
    began = time.monotonic()  # what had to be installed is not part of it

    def conditions(redis_version: str) -> Conditions:
        return Conditions(
            date=date,
            command=shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if argv is None else argv)]),
            commit=at,
            machine=_machine(),
            redis=redis_version,
            load_generator=generator(),
            rounds=effort.rounds,
            minutes=(time.monotonic() - began) / 60,
            load_before=load_before,
            load_after=os.getloadavg()[0],
            contenders={contender.name: contender.description for contender in contenders},
        )

    page = None if arguments.quick else free_page(arguments.out, date, at, arguments.only or "")
    with RedisServer() as redis:
        part = parts[0]
        try:
            for part in parts:
                results.attempt(part, partial(_measure, part, contenders, redis, effort, results))
        except BaseException:  # told to stop: what there is by now is not to be lost
            results.broken_off(part)
            raise
        finally:
            found = conditions(_version_of(redis.executable))
            tell("\n" + keep(page, found, results))
    if page is not None and (results.work or results.pick_ups):
        keep_with_plot(page, found, results)
    return 0 if results.complete else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="parts:\n"
        + "\n".join(f"  {part:<8} {what}" for part, what in PARTS.items())
        + f"\nWithout --only all but the long ones: {', '.join(LONG)}.",
    )
    parser.add_argument("--only", choices=PARTS, metavar="PART", help="one part")
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="one short round, printed and not kept: a trial")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", help="directory to keep it in"
    )
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error("--rounds: at least one")
    if arguments.only != "grpc" and not PROC.is_dir():
        parser.error("CPU is read from /proc, which this system does not have; --only grpc does without")
    return arguments


def _measure(
    part: str, contenders: Sequence[Contender], redis: RedisServer, effort: Effort, results: Results
) -> None:
    if part == "grpc":
        echo_ratio.measure(rounds=effort.rounds, requests=effort.grpc_requests, keep=results.keep_ratio)
        print(*results.ratios, sep="\n", flush=True)
    elif part == "cores":
        both_cores.measure(rounds=effort.rounds, requests=effort.cores_requests, keep=results.keep_scaling)
        print(*results.scalings, sep="\n", flush=True)
    elif part == "worker":
        measure_work(contenders, redis, effort, results)
    elif part == "pickup":
        # Up to its entry a task of ours is the same with a picture and without; asynq is there for scale.
        once = [contender for contender in contenders if contender.name not in (OURS_WITH_PICTURE, ASYNQ)]
        measure_pick_ups(once, redis, effort, results)
    elif part == "sync":
        sync_calls.measure(redis, effort, partial(setattr, results, "sync"))
    elif part == "start":
        start_up.measure(redis, effort, results.starts.append)
    elif part == "waits":
        open_waits.measure(redis, effort, partial(setattr, results, "waits"))
    elif part == "growth":
        growth.measure(effort, partial(setattr, results, "growth"))
    else:
        soak.measure(redis, effort, partial(setattr, results, "soak"))


def _machine() -> str:
    model = ""
    if (info := Path("/proc/cpuinfo")).exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = f" of {names[0]}" if names else ""
    packages = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "redis", "aiohttp", "pillow"))
    return (
        f"{os.cpu_count()} cores{model}; {platform.system()}, Python {platform.python_version()}, {packages}"
    )


def _version_of(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0]


if __name__ == "__main__":
    sys.exit(main())

"""The api with `--processes 2` against one process, in one run, in turn: GetTask and GenerateImageAsync.

`python -m benchmarks.both_cores [rounds] [requests] [store URL]` prints the ratios. The load generator, Redis
and the store take their part of the same cores, so on two of them the ratio cannot reach 2: what the server
and the generator took is printed beside it. SO_REUSEPORT gives out connections, not calls, so there are many.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from image.v1 import image_service_pb2
from prometheus_client.parser import text_string_to_metric_families
from task.v1 import task_service_pb2

from benchmarks.echo_ratio import GET_TASK, SUBMIT
from benchmarks.load import LoadFailed, generator, requests_per_second
from benchmarks.process_cpu import cpu_seconds
from tests.distributed.several import PROCESSES, start_several
from tests.side_port import fetch
from tests.stack import ServiceProcess, calling, running_stack

CONNECTIONS, STREAMS = 64, 2
ROUNDS, REQUESTS = 5, 12_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One load on one of the two."""

    requests_per_s: float
    server_cores: float
    """Cores that the api's processes kept busy …"""
    generator_cores: float
    """… and the load generator."""
    largest_share: float
    """Of the calls, what the process with most of them answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """One method, one turn of each per round."""

    method: str
    load_generator: str
    one: tuple[Turn, ...]
    several: tuple[Turn, ...]

    @property
    def name(self) -> str:
        """The method without its service."""
        return self.method.rsplit("/", 1)[-1]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Several processes' rate divided by one's, per round."""
        return tuple(b.requests_per_s / a.requests_per_s for a, b in zip(self.one, self.several, strict=True))

    def __str__(self) -> str:
        lines = [
            f"{self.name:<20} {min(self.ratios):5.2f} {statistics.median(self.ratios):7.2f} "
            f"{max(self.ratios):5.2f}"
        ]
        for who, turns in (("one process", self.one), (f"{PROCESSES} processes", self.several)):
            rate, server, load, share = (
                statistics.median(getattr(turn, figure) for turn in turns)
                for figure in ("requests_per_s", "server_cores", "generator_cores", "largest_share")
            )
            lines.append(
                f"  {who:<14} {rate:8,.0f} requests/s; cores busy: server {server:.2f}, load {load:.2f}; "
                f"{share:.0%} of the calls in one process"
            )
        return "\n".join(lines)


def measure(
    *,
    rounds: int = ROUNDS,
    requests: int = REQUESTS,
    store_url: str = "",
    keep: Callable[[Scaling], None] = lambda _: None,
) -> list[Scaling]:
    """Run both in turn, `rounds` times each, after a warm-up that is not counted. Raises LoadFailed.

    `keep` is told after every round what was found so far of its method.
    """
    message = image_service_pb2.GenerateImageRequest(
        prompt="a lighthouse above a stormy sea", model="local-canvas", size="64x64"
    )
    with running_stack(store_url=store_url, QUEUE_MAX_DEPTH="10000000") as stack:
        one = stack.start("api", fresh=True)
        several = start_several(stack, fresh=True)
        get = task_service_pb2.GetTaskRequest(task_id=asyncio.run(_one_task(one, message)))
        return [
            _scaling(one, several, method, sent, rounds, requests, keep)
            for method, sent in (
                (GET_TASK, get.SerializeToString()),
                (SUBMIT, message.SerializeToString()),
            )
        ]


def _scaling(
    one: ServiceProcess,
    several: ServiceProcess,
    method: str,
    sent: bytes,
    rounds: int,
    requests: int,
    keep: Callable[[Scaling], None],
) -> Scaling:
    for api in (one, several):
        _turn(api, method, sent, max(200, requests // 5))
    turns: dict[ServiceProcess, list[Turn]] = {one: [], several: []}
    for number in range(rounds):
        for api in (several, one) if number % 2 else (one, several):
            turns[api].append(_turn(api, method, sent, requests))
        scaling = Scaling(
            method=method,
            load_generator=generator(),
            one=tuple(turns[one]),
            several=tuple(turns[several]),
        )
        keep(scaling)
    return scaling


def _turn(api: ServiceProcess, method: str, sent: bytes, requests: int) -> Turn:
    answered = asyncio.run(_answered(api, method))
    server, load, began = cpu_seconds(api.pid), _children_cpu_seconds(), time.monotonic()
    rate = requests_per_second(api.target, method, sent, requests, connections=CONNECTIONS, streams=STREAMS)
    seconds = time.monotonic() - began
    server, load = cpu_seconds(api.pid) - server, _children_cpu_seconds() - load
    calls = asyncio.run(_answered(api, method)) - answered
    if calls.total() < requests:  # an error is an HTTP 200 for h2load, and quickly made
        raise LoadFailed(f"of {requests} requests {calls.total():g} were answered with success")
    return Turn(
        requests_per_s=rate,
        server_cores=server / seconds,
        generator_cores=load / seconds,
        largest_share=max(calls.values()) / calls.total(),
    )


def _children_cpu_seconds() -> float:
    """Of programs that were run to their end: of the load generator, in a turn."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def _answered(api: ServiceProcess, method: str) -> Counter[str]:
    """Calls of the method answered with success, by process."""
    text = (await fetch(f"{api.http}/metrics")).body.decode()
    wanted = {"grpc_method": method, "grpc_code": "OK"}
    answered: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "grpc_server_handled_total" and wanted.items() <= sample.labels.items():
                answered[sample.labels.get("process", "")] += round(sample.value)
    return answered


async def _one_task(api: ServiceProcess, message: image_service_pb2.GenerateImageRequest) -> str:
    async with calling(api) as calls:
        return (await calls.images.GenerateImageAsync(message)).task_id


def main(rounds: str = str(ROUNDS), requests: str = str(REQUESTS), store_url: str = "") -> None:
    """Print the table."""
    kind = store_url.partition(":")[0] or "SQLite"
    print(
        f"load by {generator()}, {rounds} rounds of {int(requests):,} requests over {CONNECTIONS} "
        f"connections, {CONNECTIONS * STREAMS} at a time; {kind} store"
    )
    print(f"{'method':<20} {'min':>5} {'median':>7} {'max':>5}")
    scalings = measure(rounds=int(rounds), requests=int(requests), store_url=store_url)
    print(*scalings, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:4])

"""GetTask and GenerateImageAsync against a bare gRPC echo of the same messages, in one run, in turn.

`python -m benchmarks.echo_ratio [rounds] [requests]` prints the ratios. A ratio holds on a noisy machine
where a rate does not.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from image.v1 import image_service_pb2
from prometheus_client.parser import text_string_to_metric_families
from task.v1 import task_pb2, task_service_pb2

from benchmarks.load import LoadFailed, generator, requests_per_second
from benchmarks.process_cpu import PROC, cpu_seconds
from tests.side_port import fetch
from tests.stack import ServiceProcess, calling, running_stack

GET_TASK = "/task.v1.TaskService/GetTask"
SUBMIT = "/image.v1.ImageService/GenerateImageAsync"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One method against the echo of its messages, in requests per second of each round."""

    method: str
    load_generator: str
    service_rates: tuple[float, ...]
    echo_rates: tuple[float, ...]
    service_cpu_ms: tuple[float, ...] = ()
    """Of the API process, per request; empty where it cannot be read."""

    @property
    def ratios(self) -> tuple[float, ...]:
        """One per round."""
        return tuple(mine / bare for mine, bare in zip(self.service_rates, self.echo_rates, strict=True))

    @property
    def median(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    def __str__(self) -> str:
        return (
            f"{self.method.rsplit('/', 1)[-1]:<20} {min(self.ratios):5.2f} {self.median:7.2f} "
            f"{max(self.ratios):5.2f} {statistics.median(self.service_rates):12,.0f} "
            f"{statistics.median(self.echo_rates):12,.0f}"
        )


def measure(
    *,
    rounds: int,
    requests: int,
    least: Mapping[str, float] | None = None,
    keep: Callable[[Ratio], None] = lambda _: None,
) -> list[Ratio]:
    """Run service and echo in turn, `rounds` times each, after one warm-up round that is not counted.

    With `least`, by method, stop as soon as no further round can move the median to the other side of it.
    `keep` is told after every round what was found so far of its method. Raises LoadFailed.
    """
    message = image_service_pb2.GenerateImageRequest(
        prompt="a lighthouse above a stormy sea", model="local-canvas", size="64x64"
    )
    with running_stack(QUEUE_MAX_DEPTH="10000000") as stack:
        api = stack.start("api", fresh=True)  # as the echo is
        task = asyncio.run(_one_task(api, message))
        get = task_service_pb2.GetTaskRequest(task_id=task.task_id).SerializeToString()
        with _echo(task.SerializeToString()) as echo:
            return [
                _compare(api, echo, method, sent, rounds, requests, (least or {}).get(method), keep)
                for method, sent in ((GET_TASK, get), (SUBMIT, message.SerializeToString()))
            ]


def all_answered(api: ServiceProcess) -> None:
    """An error is an HTTP 200 for h2load, and quickly made: the service itself counts none. LoadFailed."""
    text = asyncio.run(fetch(f"{api.http}/metrics")).body.decode()
    failed = [
        f"{sample.labels['grpc_method']}: {sample.value:g} {sample.labels['grpc_code']}"
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "grpc_server_handled_total" and sample.labels["grpc_code"] != "OK" and sample.value
    ]
    if failed:
        raise LoadFailed(f"not every request was answered with success: {', '.join(failed)}")


def _compare(
    service: ServiceProcess,
    echo: str,
    method: str,
    message: bytes,
    rounds: int,
    requests: int,
    least: float | None,
    keep: Callable[[Ratio], None],
) -> Ratio:
    pairs: list[tuple[float, float]] = []
    costs_ms: list[float] = []
    api = service.target
    for target in (api, echo):
        requests_per_second(target, method, message, max(200, requests // 5))
    for number in range(rounds):
        turns = (echo, api) if number % 2 else (api, echo)
        rates = {}
        for target in turns:
            before = _cpu_s(service)
            rates[target] = requests_per_second(target, method, message, requests)
            if target == api and before is not None and (after := _cpu_s(service)) is not None:
                costs_ms.append(1000 * (after - before) / requests)
        all_answered(service)
        pairs.append((rates[api], rates[echo]))
        ratio = Ratio(
            method=method,
            load_generator=generator(),
            service_rates=tuple(mine for mine, _ in pairs),
            echo_rates=tuple(bare for _, bare in pairs),
            service_cpu_ms=tuple(costs_ms),
        )
        keep(ratio)
        if least is not None:
            enough = sum(mine >= least * bare for mine, bare in pairs)
            if max(enough, len(pairs) - enough) > rounds // 2:
                break
    return ratio


def _cpu_s(service: ServiceProcess) -> float | None:
    return cpu_seconds(service.pid) if PROC.is_dir() else None


async def _one_task(api: ServiceProcess, message: image_service_pb2.GenerateImageRequest) -> task_pb2.Task:
    async with calling(api) as calls:
        accepted = await calls.images.GenerateImageAsync(message)
        return (await calls.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=accepted.task_id))).task


@contextmanager
def _echo(task: bytes) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "task.bin"
        file.write_bytes(task)
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.echo_server", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            if process.stdout is None:
                raise AssertionError("the echo's output is a pipe")
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.communicate()


def main(rounds: int = 5, requests: int = 8_000) -> None:
    """Print the table."""
    print(f"load by {generator()}, {rounds} rounds of {requests:,} requests, 128 at a time; SQLite store")
    print(f"{'method':<20} {'min':>5} {'median':>7} {'max':>5} {'service/s':>12} {'echo/s':>12}")
    for ratio in measure(rounds=rounds, requests=requests):
        print(ratio)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))

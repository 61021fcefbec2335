"""Load on one unary method: requests per second, by `h2load` where it is installed, else by a Python client.

h2load (nghttp2) costs next to nothing beside a Python server; the Python client costs as much as the server,
which pulls ratios towards 1: the output says which one measured.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import grpc.aio

H2LOAD = "h2load"
CONNECTIONS = 8
STREAMS = 16
TIMEOUT_S = 120.0


class LoadFailed(Exception):
    """Not every request was answered with success."""


def generator() -> str:
    """Which program makes the load."""
    return H2LOAD if shutil.which(H2LOAD) else "a Python client"


def requests_per_second(
    target: str,
    method: str,
    message: bytes,
    requests: int,
    *,
    connections: int = CONNECTIONS,
    streams: int = STREAMS,
) -> float:
    """Send so many equal requests, by default 128 at a time, and divide by the time it took.

    Raises LoadFailed. The Python client has one connection, whatever is asked for.
    """
    if shutil.which(H2LOAD):
        return _h2load(target, method, message, requests, connections, streams)
    return python_requests_per_second(target, method, [message], requests)


def requests_per_second_in_runs(target: str, method: str, messages: Sequence[bytes], requests: int) -> float:
    """The same with several messages, each as often: h2load can send but one, so it runs once for each, and
    the rate is that of the runs together. Raises LoadFailed.
    """
    if not shutil.which(H2LOAD):
        return python_requests_per_second(target, method, messages, requests)
    of_each = max(CONNECTIONS * STREAMS, requests // len(messages))
    rates = [_h2load(target, method, message, of_each, CONNECTIONS, STREAMS) for message in messages]
    return len(rates) / sum(1 / rate for rate in rates)


def python_requests_per_second(target: str, method: str, messages: Sequence[bytes], requests: int) -> float:
    """Send so many requests, 128 at a time, of these messages in turn, by the Python client. Raises
    LoadFailed."""
    command = [sys.executable, "-m", "benchmarks.load", target, method, str(requests)]
    sent = b"".join(framed(message) for message in messages)
    done = subprocess.run(command, input=sent, capture_output=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise LoadFailed(done.stderr.decode(errors="replace"))
    return float(done.stdout)


def framed(message: bytes) -> bytes:
    """As gRPC sends it: not compressed, then its length."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def unframed(data: bytes) -> list[bytes]:
    """The messages of such frames."""
    messages = []
    while data:
        end = 5 + int.from_bytes(data[1:5], "big")
        messages.append(data[5:end])
        data = data[end:]
    return messages


def _h2load(target: str, method: str, message: bytes, requests: int, connections: int, streams: int) -> float:
    with tempfile.TemporaryDirectory() as directory:
        frame = Path(directory) / "frame.bin"
        frame.write_bytes(framed(message))
        command = [
            "h2load",
            "-n",
            str(requests),
            "-c",
            str(connections),
            "-m",
            str(streams),
            "-d",
            str(frame),
        ]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://{target}{method}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    rate = re.search(r"finished in [^,]+, ([0-9.]+) req/s", done.stdout)
    succeeded = re.search(r"(\d+) succeeded", done.stdout)
    if done.returncode or rate is None or succeeded is None or int(succeeded[1]) != requests:
        raise LoadFailed(done.stdout + done.stderr)
    return float(rate[1])


async def _python_client(target: str, method: str, messages: Sequence[bytes], requests: int) -> float:
    left = requests

    async def one_by_one(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call(messages[left % len(messages)])

    async with grpc.aio.insecure_channel(target) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        await call(messages[0])
        start = time.perf_counter()
        await asyncio.gather(*(one_by_one(call) for _ in range(CONNECTIONS * STREAMS)))
        return requests / (time.perf_counter() - start)


if __name__ == "__main__":
    read = unframed(sys.stdin.buffer.read())
    print(asyncio.run(_python_client(sys.argv[1], sys.argv[2], read, int(sys.argv[3]))))

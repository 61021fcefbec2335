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
from pathlib import Path

import grpc.aio

CONNECTIONS = 8
STREAMS = 16
TIMEOUT_S = 120.0


class LoadFailed(Exception):
    """Not every request was answered with success."""


def generator() -> str:
    """Which program makes the load."""
    return "h2load" if shutil.which("h2load") else "a Python client"


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
    if shutil.which("h2load"):
        return _h2load(target, method, message, requests, connections, streams)
    command = [sys.executable, "-m", "benchmarks.load", target, method, str(requests)]
    done = subprocess.run(command, input=message, capture_output=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise LoadFailed(done.stderr.decode(errors="replace"))
    return float(done.stdout)


def _h2load(target: str, method: str, message: bytes, requests: int, connections: int, streams: int) -> float:
    with tempfile.TemporaryDirectory() as directory:
        frame = Path(directory) / "frame.bin"
        frame.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
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


async def _python_client(target: str, method: str, message: bytes, requests: int) -> float:
    left = requests

    async def one_by_one(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call(message)

    async with grpc.aio.insecure_channel(target) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        await call(message)
        start = time.perf_counter()
        await asyncio.gather(*(one_by_one(call) for _ in range(CONNECTIONS * STREAMS)))
        return requests / (time.perf_counter() - start)


if __name__ == "__main__":
    rate = asyncio.run(_python_client(sys.argv[1], sys.argv[2], sys.stdin.buffer.read(), int(sys.argv[3])))
    print(rate)

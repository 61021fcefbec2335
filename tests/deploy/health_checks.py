"""A side port that answers every request with one status, and a container's health check run against it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def side_port(status: int) -> Iterator[tuple[int, list[str]]]:
    """Serve on a free loopback port; yields the port and the list of paths asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="side-port")
    thread.start()
    try:
        yield server.server_address[1], paths
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run_check(command: list[str], environment: dict[str, str]) -> int:
    """Run `python …` as the container would, with this environment only; the exit code."""
    assert command[0] == "python"
    done = subprocess.run(
        [sys.executable, *command[1:]], env=environment, capture_output=True, timeout=20, check=False
    )
    return done.returncode

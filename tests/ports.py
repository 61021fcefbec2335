"""Ports for servers that come back under the one they had."""

from __future__ import annotations

import random
import socket

PORTS = range(10_000, 32_000)
"""Below those that systems give to whoever asks for any (Linux 32768 and up, others 49152): what a server
lets go of for a moment would be another's in the meantime."""


def free_port() -> int:
    """One that nobody on this machine listens on now; RuntimeError when none of many is free."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port was found from {PORTS.start} to {PORTS.stop}")

"""Connections to the service: which calls gRPC repeats by itself, and how a connection is kept alive."""

from __future__ import annotations

import ipaddress
import json
from urllib.parse import urlsplit

import grpc

from imagegen.fields import MAX_REQUEST_BYTES

KEEPALIVE_S = 30
"""Between two pings on a connection, in seconds. The service bears one every 10 seconds."""

MAX_RECEIVE_BYTES = 16 * 1024 * 1024

RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 3,
    # CANCELLED is never the service's own word: a gRPC server that stops ends with it what arrives in its
    # last moment, before the client has heard of it. A caller's own cancellation is not repeated.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}


def open_channel(
    target: str, *, credentials: grpc.ChannelCredentials | None = None, retries: bool
) -> grpc.aio.Channel:
    """A channel to `target` ("host:port"), plaintext without `credentials`. Needs a running event loop;
    connects with the first call.

    `retries` repeats every call that ends UNAVAILABLE or CANCELLED, up to 4 times in all within about 3
    seconds. From the service UNAVAILABLE means that nothing was accepted, but a broken connection gives the
    same code and leaves that open. So a channel with retries is for reads and for requests that carry a
    request id, and for nothing else.
    """
    options: list[tuple[str, int | str]] = [
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    if retries:
        options += [
            (
                "grpc.service_config",
                json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": RETRY_POLICY}]}),
            ),
            # Beyond this buffer, 256 KiB by default, gRPC silently gives up the right to repeat a call.
            ("grpc.per_rpc_retry_buffer_size", MAX_REQUEST_BYTES + 64 * 1024),
        ]
    if is_loopback(_host(target)):
        options.append(("grpc.enable_http_proxy", 0))
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)


def _host(target: str) -> str | None:
    try:
        return urlsplit(f"//{target}").hostname
    except ValueError:  # no "host:port"; the first call says so
        return None


def is_loopback(host: str | None) -> bool:
    """Whether `host` is this machine, which no proxy of the environment can stand in for."""
    if host is None or host == "localhost":
        return host is not None
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""Sockets and answers below the level of one endpoint: envelopes, gateway pages, resets."""

from __future__ import annotations

import json
import secrets
import socket
import struct
from http import HTTPStatus
from typing import Any

from aiohttp import web

HOST = "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset."""
_TYPES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    429: "TooManyRequests",
    500: "InternalServerError",
}


def bound(port: int) -> socket.socket:
    """A socket at this port; several may be bound to it while at most one listens."""
    place = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind((HOST, port))
    return place


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body; empty where it is no JSON object."""
    try:
        body = json.loads(await request.read())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def request_id() -> dict[str, str]:
    return {"X-Request-Id": secrets.token_hex(16)}


def envelope(
    status: int, code: str, message: str, *, param: str = "", retry_after: str | None = None
) -> web.Response:
    headers = request_id()
    error = {
        "code": code,
        "message": f"{message} Request id: {headers['X-Request-Id']}",
        "param": param,
        "type": _TYPES.get(status, HTTPStatus(status).phrase.replace(" ", "")),
    }
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    return web.json_response({"error": error}, status=status, headers=headers)


def gateway_page(status: int) -> web.Response:
    phrase = HTTPStatus(status).phrase
    page = f"<html><head><title>{status} {phrase}</title></head><body><h1>{phrase}</h1></body></html>"
    return web.Response(status=status, text=page, content_type="text/html")


def broken_json() -> web.Response:
    return web.Response(body=b'{"model": "doubao', content_type="application/json", headers=request_id())


def reset(request: web.Request) -> web.Response:
    """Reset the connection; the response is for nobody."""
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    return web.Response(status=499)


async def send_half(request: web.Request, answer: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(answer)), **request_id()})
    response.content_type = "application/json"
    await response.prepare(request)
    await response.write(answer[: len(answer) // 2])
    reset(request)
    return response

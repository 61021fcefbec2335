"""A real gRPC server on loopback whose answers a test writes, and the HTTP server that its pictures are on.

Every method plays its script step by step and then repeats the last step. A step is a message to answer with,
a `Fault` to end with, or an async function (for streams: an async generator) of the request and the context.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from image.v1 import image_service_pb2_grpc
from model.v1 import model_service_pb2_grpc
from PIL import Image as Picture
from task.v1 import task_service_pb2_grpc
from task.v1.image_pb2 import Image

TASK_ID = "01JD8ZK5T0N0V6Y3W2Q4R5S6T7"

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The end of a call as the service ends one; `domain` "" sends a bare code, as a proxy would."""

    code: grpc.StatusCode
    message: str = "so it is"
    reason: str = "INTERNAL_ERROR"
    domain: str = "sia.api"
    task_id: str = ""
    violations: tuple[tuple[str, str], ...] = ()
    retry_after_s: int | None = None

    async def raise_in(self, context: Context) -> NoReturn:
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=self.domain)
        if self.task_id:
            info.metadata["task_id"] = self.task_id
        status.details.add().Pack(info)
        if self.violations:
            request = error_details_pb2.BadRequest()
            for path, description in self.violations:
                request.field_violations.add(field=path, description=description)
            status.details.add().Pack(request)
        if self.retry_after_s is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromSeconds(self.retry_after_s)
            status.details.add().Pack(retry)
        trailers: list[tuple[str, str | bytes]] = []
        if self.domain:
            trailers.append(("grpc-status-details-bin", status.SerializeToString()))
            trailers.append(("task-id", self.task_id))
        await context.abort(self.code, self.message, tuple(trailers))


Step = Message | Fault | Callable[[Any, Context], Any]


@dataclass(slots=True)
class ScriptedService:
    """The servers of one test: what to answer, and what was asked."""

    target: str = ""
    pictures: PictureServer = field(default_factory=lambda: PictureServer())
    health: health.aio.HealthServicer = field(default_factory=health.aio.HealthServicer)
    requests: dict[str, list[Any]] = field(default_factory=dict)
    _scripts: dict[str, list[Step]] = field(default_factory=dict)

    def on(self, method: str, *steps: Step) -> None:
        """Replaces the script of `method`."""
        self._scripts[method] = list(steps)

    def asked(self, method: str) -> list[Any]:
        """The requests that reached `method`, in order."""
        return self.requests.get(method, [])

    def step(self, method: str, request: Any) -> Step:
        self.requests.setdefault(method, []).append(request)
        script = self._scripts.get(method, [])
        if not script:
            return Fault(code=grpc.StatusCode.UNIMPLEMENTED, message=f"{method} has no script", domain="")
        return script.pop(0) if len(script) > 1 else script[0]


def _unary(service: ScriptedService, method: str) -> Callable[[Any, Context], Any]:
    async def answer(request: Any, context: Context) -> Message:
        step = service.step(method, request)
        if isinstance(step, Fault):
            await step.raise_in(context)
        if isinstance(step, Message):
            return step
        message: Message = await step(request, context)
        return message

    return answer


def _stream(service: ScriptedService, method: str) -> Callable[[Any, Context], AsyncIterator[Message]]:
    async def answer(request: Any, context: Context) -> AsyncIterator[Message]:
        step = service.step(method, request)
        if isinstance(step, Fault):
            await step.raise_in(context)
        assert callable(step), f"{method} streams: its steps are async generators or faults"
        async for message in step(request, context):
            yield message

    return answer


def _servicer(kind: type, *methods: Mapping[str, Callable[[Any, Context], Any]]) -> Any:
    """An instance of the generated servicer with these methods; the others stay UNIMPLEMENTED."""
    return type(kind.__name__, (kind,), {n: staticmethod(m) for group in methods for n, m in group.items()})()


@asynccontextmanager
async def scripted_service(
    *, port: int = 0, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[ScriptedService]:
    """Serves on loopback until the end of the block, gRPC on `port` if one is given and on a free one if
    not, over TLS with `credentials`."""
    service = ScriptedService()
    unary = (
        "GenerateImage",
        "GenerateImageAsync",
        "GenerateSequentialImages",
        "GenerateSequentialImagesAsync",
    )
    images = _servicer(
        image_service_pb2_grpc.ImageServiceServicer,
        {method: _unary(service, method) for method in unary},
        {"StreamSequentialImages": _stream(service, "StreamSequentialImages")},
    )
    tasks = _servicer(
        task_service_pb2_grpc.TaskServiceServicer,
        {method: _unary(service, method) for method in ("GetTask", "WaitTask", "CancelTask")},
    )

    models = _servicer(
        model_service_pb2_grpc.ModelServiceServicer, {"ListModels": _unary(service, "ListModels")}
    )

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    image_service_pb2_grpc.add_ImageServiceServicer_to_server(images, server)
    task_service_pb2_grpc.add_TaskServiceServicer_to_server(tasks, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
    health_pb2_grpc.add_HealthServicer_to_server(service.health, server)
    await service.health.set("", health_pb2.HealthCheckResponse.SERVING)
    address = f"127.0.0.1:{port}"
    if credentials is None:
        bound = server.add_insecure_port(address)
    else:
        bound = server.add_secure_port(address, credentials)
    service.target = f"127.0.0.1:{bound}"
    await server.start()
    service.pictures.start()
    try:
        yield service
    finally:
        service.pictures.stop()
        await server.stop(None)


class PictureServer:
    """Pictures over HTTP; `answers` maps a path to the status and the body that it answers with, `asked`
    holds the paths that were asked for and have been answered.
    """

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.failing_once: set[str] = set()
        answers, failing_once = self.answers, self.failing_once

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = answers.get(self.path, (404, b""))
                if self.path in failing_once:
                    failing_once.discard(self.path)
                    status, body = 503, b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="pictures")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add(self, *, index: int = 0, width_px: int = 64, height_px: int = 48, colour: str = "teal") -> Image:
        """Serves a PNG of one colour and returns the message that describes it."""
        encoded = io.BytesIO()
        Picture.new("RGB", (width_px, height_px), colour).save(encoded, "PNG")
        data = encoded.getvalue()
        path = f"/outputs/{hashlib.sha256(data).hexdigest()}-{index}.png"
        self.answers[path] = (200, data)
        return Image(
            index=index,
            url=f"http://127.0.0.1:{self._server.server_port}{path}",
            width_px=width_px,
            height_px=height_px,
            mime_type="image/png",
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            seed=7,
        )

    def path_of(self, image: Image) -> str:
        return image.url.removeprefix(f"http://127.0.0.1:{self._server.server_port}")

"""The gRPC server: its options, services and order of stopping."""

from __future__ import annotations

import grpc.aio
from admin.v1 import usage_service_pb2, usage_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from image.v1 import image_service_pb2, image_service_pb2_grpc
from model.v1 import model_service_pb2, model_service_pb2_grpc
from task.v1 import task_service_pb2, task_service_pb2_grpc

from server.api.health_servicer import HealthServicer
from server.api.image_servicer import ImageServicer
from server.api.interceptors import Calls
from server.api.model_servicer import ModelServicer
from server.api.task_servicer import TaskServicer
from server.api.usage_servicer import UsageServicer
from server.domain.request import MAX_REQUEST_BYTES
from server.health import Health
from server.metrics import Metrics

IMAGE_SERVICE = image_service_pb2.DESCRIPTOR.services_by_name["ImageService"].full_name
HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
MODEL_SERVICE = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
TASK_SERVICE = task_service_pb2.DESCRIPTOR.services_by_name["TaskService"].full_name

USAGE_SERVICE = usage_service_pb2.DESCRIPTOR.services_by_name["UsageService"].full_name
SERVICES = (IMAGE_SERVICE, TASK_SERVICE, MODEL_SERVICE, USAGE_SERVICE)
"""Our own."""

OPTIONS = [
    # Somewhat more than is allowed, so that the refusal is ours and says what is allowed.
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES + 4 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    # Clients that wait ping every 30 s; the defaults would end their calls for "excess pings".
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
    # Thousands of calls may begin at once; by default most of such a burst is refused with CANCELLED.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
]


class GrpcServer:
    """Our services, health and reflection on one port."""

    def __init__(
        self,
        *,
        image: ImageServicer,
        task: TaskServicer,
        model: ModelServicer,
        usage: UsageServicer,
        health: Health,
        metrics: Metrics,
        shared_port: bool = False,
    ) -> None:
        """With `shared_port` other processes may listen on the port, too; else a taken one is an error."""
        self._calls = Calls(metrics)
        self._server = grpc.aio.server(
            interceptors=[self._calls], options=[*OPTIONS, ("grpc.so_reuseport", int(shared_port))]
        )
        image_service_pb2_grpc.add_ImageServiceServicer_to_server(image, self._server)
        task_service_pb2_grpc.add_TaskServiceServicer_to_server(task, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(model, self._server)
        usage_service_pb2_grpc.add_UsageServiceServicer_to_server(usage, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(health, services=SERVICES), self._server)
        names = (*SERVICES, HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which is a free one for 0. RuntimeError when it cannot be bound."""
        bound = self._server.add_insecure_port(f"{host}:{port}")
        await self._server.start()
        return bound

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those under way end within `grace_s`, then cancel them."""
        self._calls.end_conversations()
        await self._server.stop(grace_s)

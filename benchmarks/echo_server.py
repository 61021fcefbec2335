"""The yardstick: a bare grpc.aio server that answers with the message it was asked to answer with.

It parses the same request and serialises the same answer as the service's own methods, and does nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc.aio
from image.v1 import image_service_pb2
from task.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc

TASK_ID = "01HZZZZZZZZZZZZZZZZZZZZZZZ"


class EchoTasks(task_service_pb2_grpc.TaskServiceServicer):
    """GetTask without a store."""

    def __init__(self, task: task_pb2.Task) -> None:
        self._answer = task_service_pb2.GetTaskResponse(task=task)

    async def GetTask(  # noqa: N802
        self, request: task_service_pb2.GetTaskRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> task_service_pb2.GetTaskResponse:
        """Answer with the task it was started with."""
        return self._answer

    async def WaitTask(  # noqa: N802
        self, request: task_service_pb2.WaitTaskRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> task_service_pb2.WaitTaskResponse:
        """Answer with the task it was started with."""
        return task_service_pb2.WaitTaskResponse(task=self._answer.task)


async def submit(
    request: image_service_pb2.GenerateImageRequest, context: grpc.aio.ServicerContext[Any, Any]
) -> image_service_pb2.GenerateImageAsyncResponse:
    """Answer as if the request had been accepted."""
    return image_service_pb2.GenerateImageAsyncResponse(
        task_id=TASK_ID,
        state=task_pb2.TASK_STATE_PENDING,
        provider="local",
        model="local-canvas",
    )


async def main(task_file: str) -> None:
    """Serve on a free port, print it, run until the input is closed."""
    with open(task_file, "rb") as file:  # noqa: ASYNC230
        task = task_pb2.Task.FromString(file.read())
    server = grpc.aio.server()
    task_service_pb2_grpc.add_TaskServiceServicer_to_server(EchoTasks(task), server)
    handler = grpc.unary_unary_rpc_method_handler(
        submit,
        request_deserializer=image_service_pb2.GenerateImageRequest.FromString,
        response_serializer=image_service_pb2.GenerateImageAsyncResponse.SerializeToString,
    )
    service = image_service_pb2.DESCRIPTOR.services_by_name["ImageService"].full_name
    methods = {"GenerateImageAsync": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

"""The yardstick: a bare grpc.aio server that answers with the message it was asked to answer with.

It parses the same request and serialises the same answer as the service's own methods, and does nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc.aio
from image.v1 import image_service_pb2
from task.v1 import task_pb2, task_service_pb2

TASK_ID = "01HZZZZZZZZZZZZZZZZZZZZZZZ"


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


def _service(name: str, **methods: grpc.RpcMethodHandler[Any, Any]) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(name, methods)


async def main(task_file: str) -> None:
    """Serve on a free port, print it, run until the input is closed."""
    with open(task_file, "rb") as file:  # noqa: ASYNC230
        task = task_pb2.Task.FromString(file.read())
    answer = task_service_pb2.GetTaskResponse(task=task)

    async def get(
        request: task_service_pb2.GetTaskRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> task_service_pb2.GetTaskResponse:
        return answer

    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            _service(
                task_service_pb2.DESCRIPTOR.services_by_name["TaskService"].full_name,
                GetTask=grpc.unary_unary_rpc_method_handler(
                    get,
                    request_deserializer=task_service_pb2.GetTaskRequest.FromString,
                    response_serializer=task_service_pb2.GetTaskResponse.SerializeToString,
                ),
            ),
            _service(
                image_service_pb2.DESCRIPTOR.services_by_name["ImageService"].full_name,
                GenerateImageAsync=grpc.unary_unary_rpc_method_handler(
                    submit,
                    request_deserializer=image_service_pb2.GenerateImageRequest.FromString,
                    response_serializer=image_service_pb2.GenerateImageAsyncResponse.SerializeToString,
                ),
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

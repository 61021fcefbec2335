"""What the vendor's key and its signed links may never get into, whatever goes wrong."""

from __future__ import annotations

import pytest
from image.v1.image_service_pb2 import GenerateSequentialImagesRequest
from task.v1.task_pb2 import TASK_STATE_COMPLETED, TaskOptions

from tests.integration.api.deployment import Deployment
from tests.side_port import fetch
from tests.stack import Calls, ServiceProcess
from tests.upstreams import ArkUpstream, Fault, LinkFails, PartlyFailed, Refusal, StreamCut
from tests.upstreams.wire import HOST

pytestmark = pytest.mark.xdist_group("ark-service")  # one service for all


async def test_neither_key_nor_links_get_into_logs_metrics_or_tasks(
    calls: Calls, ark: ArkUpstream, service: Deployment, worker: ServiceProcess, ark_port: int
) -> None:
    told = ""
    faults: tuple[Fault, ...] = (
        LinkFails(503),
        LinkFails(403),
        StreamCut(2),
        StreamCut(1, clean=True),
        PartlyFailed((0, 1, 2)),
    )
    for number, fault in enumerate(faults):
        prompt = f"secrets, {number}"
        ark.script(prompt, Refusal(500, "InternalServiceError"), fault)
        request = GenerateSequentialImagesRequest(
            prompt=prompt,
            model="doubao-seedream-4-0-250828",
            max_images=4,
            options=TaskOptions(max_paid_attempts=2),
        )
        accepted = await calls.images.GenerateSequentialImagesAsync(request)
        task = await calls.ended(accepted.task_id)
        assert (task.state, ark.arrived[prompt] >= 2) == (TASK_STATE_COMPLETED, True)
        told += str(task)
    for process in (service.api, worker):
        told += process.log() + (await fetch(f"{process.http}/metrics")).body.decode()
    assert "a call to Ark broke off" in told, "the worker has logged what went wrong"
    for secret in ("sk-any", "X-Tos-Signature", f"{HOST}:{ark_port}/"):
        assert secret not in told

"""The links of answers: each tells until when it works, and any process of the deployment honours it."""

from __future__ import annotations

import hashlib
import time

from task.v1.task_service_pb2 import GetTaskRequest

from tests.integration.api.deployment import Deployment
from tests.integration.api.requests import DAY_S, image
from tests.side_port import fetch
from tests.stack import Calls


async def test_every_answer_has_a_link_that_tells_its_end(worked: Calls) -> None:
    before_s = time.time()
    made = await worked.images.GenerateImage(image())
    task = (await worked.tasks.GetTask(GetTaskRequest(task_id=made.task_id))).task
    for shown in (made.images[0], task.image.images[0]):
        ends_s = shown.url_expire_time.ToSeconds()
        assert before_s + DAY_S - 1 <= ends_s <= time.time() + DAY_S + 60
        served = await fetch(shown.url)
        assert hashlib.sha256(served.body).hexdigest() == shown.sha256
        assert served.headers["Cache-Control"].startswith("public, max-age=86")
        assert (await fetch(shown.url.partition("?")[0])).status == 404, "the name alone is no link"


async def test_another_process_honours_the_link_and_so_does_a_restarted_one(
    working: Deployment, worked: Calls
) -> None:
    made = (await worked.images.GenerateImage(image())).images[0]
    other = working.stack.start("api")
    path = made.url.partition("/outputs/")[2]
    try:
        served = await fetch(f"{other.http}/outputs/{path}")
    finally:
        other.stop()
    assert hashlib.sha256(served.body).hexdigest() == made.sha256
    assert path.partition("=")[2] not in working.api.log()

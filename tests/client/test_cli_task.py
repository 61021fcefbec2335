"""`imagegen task` and `imagegen health`, and wrong usage."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from task.v1.task_pb2 import Task, TaskState
from task.v1.task_service_pb2 import GetTaskResponse, WaitTaskResponse

from imagegen.cli import main
from tests.client.command_line import PATIENCE_S, environment, imagegen
from tests.client.example_tasks import PENDING, PROCESSING, completed, failed, task
from tests.client.scripted_server import TASK_ID, Fault, ScriptedService


def stands(service: ScriptedService, task: Task) -> None:
    service.on("GetTask", GetTaskResponse(task=task))


async def test_the_timeline_of_a_task(service: ScriptedService, tmp_path: Path) -> None:
    image = service.pictures.add()
    stands(service, completed(image, labels={"team": "art"}))
    outcome = await imagegen("task", TASK_ID, "--target", service.target, cwd=tmp_path, TZ="UTC")
    assert outcome.code == 0
    expected = f"""\
task {TASK_ID} completed
local-canvas by local · 0.20 CNY · team=art
a cat

  0 ms ● accepted  2026-03-01 12:00:00
  0 ms │ waited    250 ms
250 ms ● attempt 1 not sent after 750 ms · local on worker-1
                   WORKER_LOST: The worker was lost.
1.00 s │ waited    500 ms
1.50 s ● attempt 2 succeeded after 2.00 s · local on worker-2 · paid
       ● stored    image 0 · 64×48 png · {image.size_bytes} B · seed 7
3.50 s ✓ completed 3.50 s in all · kept until 2026-03-02 12:00

image 0: {image.url}
"""
    assert outcome.out == expected


@pytest.mark.parametrize(
    ("task", "without", "with_wait"),
    [(PENDING, 0, 4), (PROCESSING, 0, 4), (failed(), 0, 1), (completed(), 0, 0)],
    ids=["pending", "processing", "failed", "completed"],
)
async def test_the_exit_code_tells_the_end_only_when_it_is_waited_for(
    task: Task, without: int, with_wait: int, service: ScriptedService, tmp_path: Path
) -> None:
    stands(service, task)
    service.on("WaitTask", WaitTaskResponse(task=task))
    glance, waited = await asyncio.gather(
        imagegen("task", TASK_ID, "--target", service.target, cwd=tmp_path),
        imagegen("task", TASK_ID, "--wait", "--timeout", "0", "--target", service.target, cwd=tmp_path),
    )
    assert (glance.code, glance.err) == (without, "")
    assert waited.code == with_wait
    assert (waited.err == "") == (with_wait == 0)


async def test_a_cancelled_task_did_not_fail(service: ScriptedService, tmp_path: Path) -> None:
    stands(service, task(TaskState.TASK_STATE_CANCELLED))
    outcome = await imagegen("task", TASK_ID, "--wait", "--target", service.target, cwd=tmp_path)
    assert (outcome.code, outcome.err) == (1, f"imagegen: task {TASK_ID} was cancelled\n")


async def test_the_end_of_the_wait_as_json_names_both_ids(service: ScriptedService, tmp_path: Path) -> None:
    processing = Task()
    processing.CopyFrom(PROCESSING)
    processing.request_id = "order-17"
    stands(service, processing)
    service.on("WaitTask", WaitTaskResponse(task=processing))
    arguments = ("task", TASK_ID, "--wait", "--timeout", "0", "--json", "--target", service.target)
    document = (await imagegen(*arguments, cwd=tmp_path)).document()
    assert (document["task_id"], document["request_id"]) == (TASK_ID, "order-17")


async def test_wait_follows_the_task_and_saves(service: ScriptedService, tmp_path: Path) -> None:
    images = [service.pictures.add(index=index) for index in (0, 1)]
    stands(service, PENDING)
    service.on("WaitTask", WaitTaskResponse(task=PROCESSING), WaitTaskResponse(task=completed(*images)))
    outcome = await imagegen("task", TASK_ID, "--wait", "-o", "out", "--target", service.target, cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == [
        f"{TASK_ID}-0.png",
        f"{TASK_ID}-1.png",
    ]


async def test_a_name_that_tells_another_format_is_kept_and_said(
    service: ScriptedService, tmp_path: Path
) -> None:
    stands(service, completed(service.pictures.add()))
    for name, said in (
        ("a.jpg", "imagegen: a.jpg holds a png picture, though its name says jpeg\n"),
        ("a.png", ""),
    ):
        outcome = await imagegen(
            "task", TASK_ID, "-o", name, "--json", "--target", service.target, cwd=tmp_path
        )
        assert (outcome.code, outcome.err) == (0, said)
        assert outcome.document()["files"] == [{"index": 0, "path": name}]
        assert (tmp_path / name).exists()


async def test_an_unknown_task(service: ScriptedService, tmp_path: Path) -> None:
    service.on(
        "GetTask",
        Fault(code=grpc.StatusCode.NOT_FOUND, reason="TASK_NOT_FOUND", message="There is no such task."),
    )
    outcome = await imagegen("task", "nope", "--target", service.target, cwd=tmp_path)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == "imagegen: There is no such task (TASK_NOT_FOUND)\n"


async def test_health(service: ScriptedService, tmp_path: Path) -> None:
    serving = await imagegen("health", "--target", service.target, cwd=tmp_path)
    assert serving.code == 0
    assert f"{service.target} is serving" in serving.out
    await service.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    stopping = await imagegen("health", "--json", "--target", service.target, cwd=tmp_path)
    assert stopping.code == 1
    assert stopping.document() == {"target": service.target, "status": "NOT_SERVING"}
    assert "takes no requests" in stopping.err


async def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    commands = (("health",), ("task", "T"), ("cancel", "T"), ("generate", "a cat"), ("sequence", "a story"))
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{reserved.getsockname()[1]}"
        outcomes = await asyncio.gather(
            *(imagegen(*c, cwd=tmp_path, IMAGEGEN_TARGET=target) for c in commands)
        )
    expected = (
        f"imagegen: cannot reach {target}: nobody listens there. Start the service with `make run`, "
        "or name another with --target or IMAGEGEN_TARGET\n"
    )
    assert [(o.code, o.out, o.err) for o in outcomes] == [(3, "", expected)] * len(commands)


async def test_a_port_that_speaks_http(service: ScriptedService, tmp_path: Path) -> None:
    target = service.pictures.add().url.split("/")[2]
    outcome = await imagegen("health", "--target", target, cwd=tmp_path)
    assert outcome.code == 3
    assert "does not speak gRPC" in outcome.err


async def test_tls_where_there_is_none(service: ScriptedService, tmp_path: Path) -> None:
    outcome = await imagegen("health", "--tls", "--target", service.target, cwd=tmp_path)
    assert outcome.code == 3
    assert "does not speak TLS" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("paint",),
        ("generate",),
        ("generate", "a cat", "--seed", "x"),
        ("generate", "a cat", "--seed", "4294967296"),
        ("generate", "caf\udce9"),
        ("generate", "a cat", "--label", "team=\udcff"),
        ("generate", "a cat", "--reference", "http://\udcff"),
        ("generate", "a cat", "--reference", "missing.png"),
        ("generate", "a cat", "--reference", f"data:{300 * 'A'}"),
        ("generate", "a cat", "--reference", "~nobody-of-this-name/x.png"),
        ("generate", "a cat", "-o", "~nobody-of-this-name/x.png"),
        ("generate", "a cat", "-o", f"{300 * 'x'}.png"),
        ("generate", "a cat", "--format", "gif"),
        ("generate", "a cat", "-o", "a.jpg", "--format", "png"),
        ("sequence", "a story", "-o", "a.WEBP", "--format", "jpg"),
        ("generate", "a cat", "--label", "novalue"),
        ("generate", "a cat", "--ttl", "soon"),
        ("generate", "a cat", "--priority", "urgent"),
        ("sequence", "a story", "-n", "16"),
        ("task",),
        ("task", "\udcff"),
        ("task", "T", "-o", "~nobody-of-this-name"),
        ("health", "--target", "\udcff:1"),
    ],
    ids=lambda arguments: ascii(" ".join(arguments))[:60],
)
def test_wrong_usage_is_one_line(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")  # as `main` would, and undone
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert re.fullmatch(r"imagegen[^\n]*\(see imagegen[^\n]* --help\)\n", err)


async def test_wrong_usage_as_json_is_one_document(tmp_path: Path) -> None:
    outcome = await imagegen("generate", "a cat", "--seed", "x", "--json", cwd=tmp_path)
    assert outcome.code == 2
    message = "argument --seed: 'x' is no whole number from -1 to 2147483647"
    assert outcome.document() == {"task_id": "", "request_id": "", "error": {"message": message}}
    assert outcome.err == f"imagegen generate: {message} (see imagegen generate --help)\n"


async def test_without_rich_the_extra_is_named(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['rich'] = None; from imagegen.cli import main; sys.exit(main(['health']))"
    )
    environ = environment({"PYTHONPATH": os.pathsep.join(sys.path)})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=tmp_path, env=environ, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        _, err = await process.communicate()
    assert process.returncode == 2
    assert err == b"imagegen: the command line needs rich: install this package with its extra, '.[cli]'\n"

"""`make demo`: the service at work, from an empty directory to pictures on disk, in well under a minute.

Everything goes through real gRPC against a real stack on free ports. `.env` and vendor keys are ignored, so
nothing can be charged.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import grpc.aio
from image.v1 import image_service_pb2, image_service_pb2_grpc
from msgspec import Struct
from task.v1 import image_pb2, task_pb2, task_service_pb2, task_service_pb2_grpc

from server.embedded import child_stack
from server.processes import Ports, StackError
from server.settings import load

OUT = Path("out")
LEASE_S = 1.5
CALL_TIMEOUT_S = 60.0
_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


class DemoFailed(Exception):
    """The service did not do what the demo is there to show."""


class Row(Struct, frozen=True, kw_only=True):
    """One saved picture."""

    call: str
    task: task_pb2.Task
    seconds: float
    file: Path
    image: image_pb2.Image


def run_demo() -> int:
    """Run the demo; returns the exit code."""
    try:
        import rich  # noqa: F401 - here, and not behind all of the work
    except ModuleNotFoundError:
        print("The demo needs rich: install this package with its extra, '.[cli]'", file=sys.stderr)
        return 2
    try:
        OUT.mkdir(exist_ok=True)
    except OSError as error:
        print(f"The demo failed: {OUT} cannot be made: {error.strerror}", file=sys.stderr)
        return 1
    try:
        return asyncio.run(_demo())
    except (StackError, DemoFailed) as error:
        print(f"The demo failed: {error}", file=sys.stderr)
        return 1
    except grpc.aio.AioRpcError as error:
        print(f"The demo failed: {error.code().name}: {error.details()}", file=sys.stderr)
        return 1


async def _demo() -> int:
    for name in [name for name in os.environ if name.endswith(("_API_KEY", "_ACCESS_KEY", "_SECRET_KEY"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="imagegen-demo-") as data_dir:
        settings = load(
            env_file=None,
            app_environment="development",
            data_dir=Path(data_dir),
            grpc_port=0,
            http_port=0,
            redis_url="",
            store_url="",
            output_url="",
            public_url="",
            log_level="error",
            log_dir=None,
            lease_seconds=LEASE_S,
            shutdown_grace_seconds=10,
        )
        _say(
            "starting a stack of its own on free ports; .env and vendor keys are ignored, nothing is charged"
        )
        async with child_stack(settings) as ports:
            rows = await _show(ports)
    _write_sheet(rows)
    _print_table(rows)
    _say(f"the pictures and {OUT / 'index.html'} are yours; everything else was stopped and removed")
    return 0


async def _show(ports: Ports) -> list[Row]:
    target = f"localhost:{ports.grpc}"
    _say(f"gRPC on {target}; health, metrics and images on http://localhost:{ports.http}")
    # No proxy of the environment stands between this machine and itself; so for the pictures.
    async with grpc.aio.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        images = image_service_pb2_grpc.ImageServiceStub(channel)
        tasks = task_service_pb2_grpc.TaskServiceStub(channel)
        rows = await _one(images, tasks)
        rows += await _one_async(images, tasks)
        rows += await _sequence(images, tasks)
        rows += await _killed_worker(images, tasks, ports.worker_pid)
    return rows


async def _one(
    images: image_service_pb2_grpc.ImageServiceStub, tasks: task_service_pb2_grpc.TaskServiceStub
) -> list[Row]:
    _say("GenerateImage: one call, one picture")
    start = time.monotonic()
    request = image_service_pb2.GenerateImageRequest(
        prompt="一只可爱的小猫在花园里玩耍", size="1K", seed=7, watermark=True
    )
    answer = await images.GenerateImage(request, timeout=CALL_TIMEOUT_S)
    return await _save("GenerateImage", "kitten", answer.task_id, tasks, start)


async def _one_async(
    images: image_service_pb2_grpc.ImageServiceStub, tasks: task_service_pb2_grpc.TaskServiceStub
) -> list[Row]:
    _say("GenerateImageAsync, then WaitTask: the task's id at once, the picture later")
    start = time.monotonic()
    request = image_service_pb2.GenerateImageRequest(
        prompt="a lighthouse above a stormy sea at dusk", size="1280x720", seed=11
    )
    accepted = await images.GenerateImageAsync(request, timeout=CALL_TIMEOUT_S)
    return await _save("GenerateImageAsync", "lighthouse", accepted.task_id, tasks, start)


async def _sequence(
    images: image_service_pb2_grpc.ImageServiceStub, tasks: task_service_pb2_grpc.TaskServiceStub
) -> list[Row]:
    _say("GenerateSequentialImages: four pictures that belong together")
    start = time.monotonic()
    request = image_service_pb2.GenerateSequentialImagesRequest(
        prompt="a wanderer crosses the mountains from dawn to night",
        size="1280x720",
        seed=3,
        max_images=4,
    )
    answer = await images.GenerateSequentialImages(request, timeout=CALL_TIMEOUT_S)
    return await _save("GenerateSequentialImages", "wanderer", answer.task_id, tasks, start)


async def _killed_worker(
    images: image_service_pb2_grpc.ImageServiceStub,
    tasks: task_service_pb2_grpc.TaskServiceStub,
    worker_pid: int,
) -> list[Row]:
    _say(f"kill -9 of the worker in mid-task (the demo runs at LEASE_SECONDS={LEASE_S:g}, the default is 15)")
    start = time.monotonic()
    request = image_service_pb2.GenerateSequentialImagesRequest(
        prompt="a city on a river under the stars", size="2K", seed=5, max_images=3
    )
    accepted = await images.GenerateSequentialImagesAsync(request, timeout=CALL_TIMEOUT_S)
    while time.monotonic() - start < CALL_TIMEOUT_S:
        answer = await tasks.GetTask(
            task_service_pb2.GetTaskRequest(task_id=accepted.task_id), timeout=CALL_TIMEOUT_S
        )
        if answer.task.progress.images_done or answer.task.HasField("end_time"):
            break
        await asyncio.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker_pid, signal.SIGKILL)
    _say(f"worker process {worker_pid} is dead, with {answer.task.progress.images_done} of 3 pictures stored")
    rows = await _save("… worker killed", "city", accepted.task_id, tasks, start)
    workers = [attempt.worker for attempt in rows[0].task.attempts]
    if len(set(workers)) < 2:
        raise DemoFailed("the task was done before its worker could be killed")
    _say(f"worker {workers[0]} was declared lost, worker {workers[-1]} finished its task")
    return rows


async def _save(
    call: str,
    name: str,
    task_id: str,
    tasks: task_service_pb2_grpc.TaskServiceStub,
    start: float,
) -> list[Row]:
    """Wait for the task's end and save its pictures."""
    while time.monotonic() - start < 2 * CALL_TIMEOUT_S:
        answer = await tasks.WaitTask(
            task_service_pb2.WaitTaskRequest(task_id=task_id), timeout=CALL_TIMEOUT_S
        )
        task = answer.task
        if task.HasField("end_time"):
            break
    else:
        raise DemoFailed(f"{call}: task {task_id} has not ended within {2 * CALL_TIMEOUT_S:g} s")
    seconds = time.monotonic() - start
    if task.state != task_pb2.TASK_STATE_COMPLETED:
        raise DemoFailed(f"{call}: {task.error.message}")
    rows = []
    for image in task.image.images:
        file = OUT / f"{name}-{image.index}.{_EXTENSIONS[image.mime_type]}"
        file.write_bytes(await _download(image))
        rows.append(Row(call=call, task=task, seconds=seconds, file=file, image=image))
    return rows


async def _download(image: image_pb2.Image) -> bytes:
    import hashlib
    import urllib.request

    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def read() -> bytes:
        with direct.open(image.url, timeout=CALL_TIMEOUT_S) as response:
            data: bytes = response.read()
        return data

    data = await asyncio.to_thread(read)
    if hashlib.sha256(data).hexdigest() != image.sha256:
        raise DemoFailed(f"{image.url} is not the picture that was promised: its SHA-256 differs")
    return data


def _print_table(rows: Iterable[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("call", "task", "state", "time", "attempts", "file", "size"):
        table.add_column(column, justify="right" if column in ("time", "attempts", "size") else "left")
    seen: set[str] = set()
    for row in rows:
        task = row.task
        first = task.task_id not in seen
        seen.add(task.task_id)
        state = task_pb2.TaskState.Name(task.state).removeprefix("TASK_STATE_")
        table.add_row(
            *(
                (row.call, task.task_id, state, f"{row.seconds:.1f} s", str(len(task.attempts)))
                if first
                else ("", "", "", "", "")
            ),
            str(row.file),
            f"{row.image.width_px}x{row.image.height_px}, {row.image.size_bytes / 1024:,.0f} KiB",
        )
    print()
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _write_sheet(rows: Iterable[Row]) -> None:
    """The contact sheet: every picture with what made it."""
    cards = "\n".join(_card(row) for row in rows)
    (OUT / "index.html").write_text(_SHEET.replace("{cards}", cards), encoding="utf-8")


def _card(row: Row) -> str:
    file, prompt, image = html.escape(row.file.name), html.escape(row.task.prompt), row.image
    size = f"{image.width_px}×{image.height_px}"
    facts = f"{html.escape(row.call)} · {size} · {row.seconds:.1f} s · seed {image.seed}"
    return (
        f'<figure><a href="{file}"><img src="{file}" alt="{prompt}"></a><figcaption>{prompt}'
        f"<small>{facts}<br>{row.task.task_id}</small></figcaption></figure>"
    )


_SHEET = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>imagegen: contact sheet</title>
<style>
  body { margin: 2rem auto; padding: 0 1.5rem; max-width: 75rem; font: 16px/1.5 system-ui, sans-serif;
         color: #222; background: #f6f5f2 }
  h1 { font-size: 1.3rem; font-weight: 600 }
  main { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)) }
  figure { margin: 0; background: #fff; border-radius: .5rem; overflow: hidden; box-shadow: 0 1px 4px #0002 }
  img { display: block; width: 100%; aspect-ratio: 4/3; object-fit: cover }
  figcaption { padding: .75rem 1rem }
  small { display: block; color: #666; overflow-wrap: anywhere }
</style>
<h1>imagegen: contact sheet</h1>
<main>
{cards}
</main>
</html>
"""


def _say(text: str) -> None:
    print(f"demo: {text}", flush=True)

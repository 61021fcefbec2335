"""What `imagegen generate`, `sequence`, `task`, `cancel`, `models` and `health` do."""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from task.v1.image_pb2 import Image
from task.v1.task_pb2 import Task, TaskState
from task.v1.task_service_pb2 import Sent

from imagegen import advice
from imagegen.advice import DONE, FAILED, INTERRUPTED, USAGE, Errand
from imagegen.arguments import request_fields
from imagegen.client import Health, ImageClient
from imagegen.errors import DownloadFailed, ImageServiceError, StillRunning, TaskFailed
from imagegen.fields import RequestFields
from imagegen.models import HEADERS, columns
from imagegen.saving import CannotSave, Destination, save
from imagegen.screen import Screen, Tracker
from imagegen.tasks import has_ended, may_be_charged, reason_name, result_of, state_name, still_running
from imagegen.timeline import duration, measures

GLANCE_S = 1.0
"""How often a waiting command looks where its task stands, in seconds."""


async def run(arguments: argparse.Namespace) -> int:
    """Does what the command line asks for and returns the exit code; every error has been reported by
    then."""
    screen = Screen(as_json=arguments.json)
    destination: Destination | None = getattr(arguments, "output", None)
    errand = Errand(
        target=arguments.target,
        tls=arguments.tls,
        output=str(destination.path) if destination else None,
        request_id=getattr(arguments, "request_id", None) or "",
        format_by=str(destination.path) if destination and destination.format else "",
        references=[text for text, _ in getattr(arguments, "reference", ())],
    )

    def report(message: str, document: dict[str, Any], code: int) -> int:
        screen.error(message)
        screen.document({"task_id": errand.task_id, "request_id": errand.request_id, "error": document})
        return code

    try:
        if destination:
            destination.prepare()
        credentials = grpc.ssl_channel_credentials() if arguments.tls else None
        async with ImageClient(arguments.target, credentials=credentials) as client:
            command = _Command(
                arguments=arguments, client=client, screen=screen, errand=errand, destination=destination
            )
            return await {
                "generate": command.generate,
                "sequence": command.sequence,
                "task": command.task,
                "cancel": command.cancel,
                "models": command.models,
                "health": command.health,
            }[arguments.command]()
    except ImageServiceError as error:
        if isinstance(error, StillRunning | TaskFailed):
            errand.task_id = error.task_id
        return report(advice.explain(error, errand), advice.document(error), advice.exit_code(error))
    except CannotSave as error:
        if not errand.task_id:
            message = f"argument -o/--output: {error}"
            return report(message, {"message": message}, USAGE)
        message = f"{error}. The task keeps its pictures: {errand.next_command()}"
        return report(message, {"message": str(error)}, FAILED)
    except asyncio.CancelledError:
        message = advice.interrupted(errand)
        return report(message, {"message": message}, INTERRUPTED)


@dataclass(slots=True, kw_only=True)
class _Command:
    arguments: argparse.Namespace
    client: ImageClient
    screen: Screen
    errand: Errand
    destination: Destination | None
    files: dict[int, Path] = field(default_factory=dict)
    """Where each picture was saved, by its index."""

    async def generate(self) -> int:
        fields = request_fields(self.arguments)
        self.errand.request_id = fields["request_id"] or ""
        with self.screen.progress(images=1) as tracker:
            self.errand.task_id = await self.client.submit(self.arguments.prompt, **fields)
            if not self.arguments.detach:
                tracker.accepted(self.errand.task_id)
                task = await self._follow(tracker)
        return self._submitted() if self.arguments.detach else await self._conclude(task)

    async def sequence(self) -> int:
        images = self.arguments.images
        fields = request_fields(self.arguments)
        self.errand.request_id = fields["request_id"] or ""
        if self.arguments.detach:
            self.errand.task_id = await self.client.submit(self.arguments.prompt, images=images, **fields)
            return self._submitted()
        with self.screen.progress(images=images) as tracker:
            task = await self._receive(fields, tracker)
        return await self._conclude(task)

    async def task(self) -> int:
        task = await self.client.get(self.arguments.task_id)
        self.errand.task_id, self.errand.request_id = task.task_id, task.request_id
        if self.arguments.wait and not has_ended(task):
            with self.screen.progress(images=task.progress.images_wanted) as tracker:
                tracker.task(task)
                task = await self._follow(tracker)
        code = await self._conclude(task)
        return code if self.arguments.wait or self.destination else DONE

    async def cancel(self) -> int:
        self.errand.task_id, self.errand.cancels = self.arguments.task_id, True
        answer = await self.client.cancel(self.arguments.task_id)
        sent = answer.sent != Sent.SENT_NOT_SENT
        self.screen.document({"task_id": answer.task.task_id, "state": state_name(answer.task), "sent": sent})
        if not sent:
            cost = "nothing was sent to a provider"
        elif may_be_charged(answer.task):
            cost = "what the provider was asked for may be charged"
        else:
            cost = "nothing is charged for it"
        if answer.task.state == TaskState.TASK_STATE_CANCELLED:
            self.screen.line(("✓ ", "green"), f"task {answer.task.task_id} is cancelled; {cost}")
            return DONE
        self.screen.line(f"task {answer.task.task_id} was asked to end and still runs; {cost}")
        self.screen.line("look again: ", (self.errand.next_command(), "cyan"))
        return DONE

    async def models(self) -> int:
        found = await self.client.models()
        self.screen.table(HEADERS, [columns(model) for model in found])
        self.screen.document(
            {
                "models": [
                    MessageToDict(
                        model,
                        preserving_proto_field_name=True,
                        always_print_fields_with_no_presence=True,
                    )
                    for model in found
                ]
            }
        )
        return DONE

    async def health(self) -> int:
        start = time.monotonic()
        health = await self.client.health()
        took = duration(time.monotonic() - start)
        self.screen.document({"target": self.errand.target, "status": health.name})
        if health is Health.SERVING:
            self.screen.line(
                ("✓ ", "green"), f"{self.errand.target} is serving", (f" (answered in {took})", "dim")
            )
            return DONE
        why = "it is stopping, or cannot reach its store"
        self.screen.error(f"{self.errand.target} is up but takes no requests ({health.name}): {why}")
        return FAILED

    async def _follow(self, tracker: Tracker) -> Task:
        async for task in self.client.watch(
            self.errand.task_id, timeout_s=self.arguments.timeout, interval_s=GLANCE_S
        ):
            tracker.task(task)
            if has_ended(task):
                return task
        raise still_running(self.errand.task_id)

    async def _receive(self, fields: RequestFields, tracker: Tracker) -> Task:
        task = None
        images, timeout_s = self.arguments.images, self.arguments.timeout
        stream = self.client.stream_sequence(
            self.arguments.prompt, images=images, timeout_s=timeout_s, **fields
        )
        try:
            async for event in stream:
                match event.WhichOneof("event"):
                    case "task_id":
                        self.errand.task_id = event.task_id
                        tracker.accepted(event.task_id)
                    case "image":
                        tracker.one_more()
                        await self._save(event.image, alone=images == 1)
                    case "failure":
                        reason = reason_name(event.failure.error)
                        self.screen.line(("✗ ", "red"), f"image {event.failure.index} was not made: {reason}")
                    case "progress":
                        tracker.pictures(event.progress)
                    case "task":
                        task = event.task
        except TaskFailed:
            if task is None:
                raise
        return task or await self.client.get(self.errand.task_id)

    async def _save(self, image: Image, *, alone: bool) -> DownloadFailed | None:
        """Saves a picture that is not saved yet. Raises CannotSave; a failed download is only returned,
        because the task keeps the picture and the others count on their own.
        """
        if self.destination is None or image.index in self.files:
            return None
        path = self.destination.path_of(image, task_id=self.errand.task_id, alone=alone)
        try:
            save(await self.client.download(image), path)
        except DownloadFailed as error:
            return error
        self.files[image.index] = path
        self.screen.line(("✓ ", "green"), f"image {image.index} · {measures(image)} · ", (str(path), "bold"))
        return None

    def _note_format(self, image: Image) -> None:
        """Says where a saved picture is not what its name tells. The name was asked for, so it stays."""
        kind = image.mime_type.removeprefix("image/")
        named = self.destination.format if self.destination else None
        if image.index in self.files and named not in (None, kind):
            self.screen.error(
                f"{self.files[image.index]} holds a {kind} picture, though its name says {named}"
            )

    def _submitted(self) -> int:
        self.screen.line("submitted task ", (self.errand.task_id, "bold"))
        self.screen.line("fetch it: ", (self.errand.next_command(), "cyan"))
        self.screen.document({"task_id": self.errand.task_id, "request_id": self.errand.request_id})
        return DONE

    async def _conclude(self, task: Task) -> int:
        """Saves what is not saved yet, shows how the task went, and returns the exit code for how it
        stands."""
        problem: ImageServiceError | None = None
        for image in task.image.images:
            problem = await self._save(image, alone=task.progress.images_wanted == 1) or problem
            self._note_format(image)
        self.screen.timeline(task)
        if task.image.images and not self.destination:
            self.screen.line("")
            for image in task.image.images:
                self.screen.line(f"image {image.index}: {image.url}")
        self.screen.document(
            MessageToDict(task, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
            | {"files": [{"index": index, "path": str(path)} for index, path in sorted(self.files.items())]}
        )
        try:
            result_of(task)
        except (TaskFailed, StillRunning) as error:
            problem = error
        if problem is None:
            return DONE
        if self.arguments.command != "task" or self.arguments.wait or self.destination:
            self.screen.error(advice.explain(problem, self.errand))
        return advice.exit_code(problem)

"""Errors as one line that says what to do, and as exit code."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from imagegen.argument_types import DEFAULT_TARGET
from imagegen.errors import (
    DownloadFailed,
    ImageServiceError,
    InvalidRequest,
    StillRunning,
    TaskFailed,
    Unavailable,
    Unreachable,
)
from imagegen.timeline import duration

DONE, FAILED, USAGE, UNREACHABLE, STILL_RUNNING, INTERRUPTED = 0, 1, 2, 3, 4, 130

_NOBODY = "nobody listens there"
_CAUSES = (
    ("Connection refused", _NOBODY),
    ("Domain name not found", "the host name is unknown"),
    ("DNS resolution failed", "the host name cannot be resolved"),
    ("http1.x", "it speaks HTTP, not gRPC; the gRPC port is another one"),
    ("parsing HTTP/2", "it does not speak gRPC there (another port? --tls missing or too much?)"),
    ("handshake failed", "it does not speak TLS, or its certificate is not trusted"),
    ("Deadline Exceeded", "no answer in time"),
)
_NEVER_CONNECTED = re.compile("failed to connect|resol|not valid|not found")


@dataclass(slots=True, kw_only=True)
class Errand:
    """What the command is about, as far as it is known: for telling the user how to go on."""

    target: str
    tls: bool = False
    output: str | None = None
    request_id: str = ""
    task_id: str = ""
    references: Sequence[str] = ()
    """The reference images in the words of the command line."""
    format_by: str = ""
    """The name behind `-o` whose end is the format that was asked for."""
    cancels: bool = False
    """Whether the task was asked to end: without an answer nobody knows whether it goes on."""

    @property
    def follows(self) -> bool:
        """Whether it is about a task that is known and that nobody wants to end: it can be found again."""
        return bool(self.task_id) and not self.cancels

    def next_command(self) -> str:
        """The command that fetches the task."""
        words = ["imagegen", "task", self.task_id, "--wait"]
        if self.output is not None:
            words += ["-o", self.output]
        if self.target != DEFAULT_TARGET or os.environ.get("IMAGEGEN_TARGET"):
            words += ["--target", self.target]
        if self.tls:
            words.append("--tls")
        return shlex.join(words)


def explain(error: ImageServiceError, errand: Errand) -> str:
    """What happened and what to do next, in one line."""
    match error:
        case Unreachable():
            return _unreachable(error, errand)
        case StillRunning():
            return f"task {errand.task_id} is still running and goes on. Fetch it: {errand.next_command()}"
        case TaskFailed(reason="TASK_CANCELLED"):
            return f"task {errand.task_id} was cancelled"
        case TaskFailed():
            return f"task {errand.task_id} failed: {_sentence(error.message)} ({error.reason})"
        case InvalidRequest() if error.violations:
            wrong = "; ".join(
                f"{_given(v.field, errand)}: {_sentence(v.description)}" for v in error.violations
            )
            return f"the request is invalid: {wrong}"
        case DownloadFailed():
            return f"{_sentence(error.message)}. The task keeps it; try again: {errand.next_command()}"
        case Unavailable() if errand.follows:
            return f"{_sentence(error.message)}. The task goes on; fetch it: {errand.next_command()}"
        case Unavailable() if error.retry_after_s:
            again = f"{_sentence(error.message)} (try again in {duration(error.retry_after_s)})"
            # An earlier try of the call may have been cut off behind its acceptance.
            uncertain = error.code is grpc.StatusCode.UNAVAILABLE and errand.request_id and not errand.cancels
            return f"{again}; {_maybe_accepted(errand)}" if uncertain else again
        case _:
            what = f"{_sentence(error.message)} ({error.reason or error.code.name})"
            if errand.follows:
                return f"{what}. What became of the task: {errand.next_command()}"
            return what


def interrupted(errand: Errand) -> str:
    """What to say after Ctrl-C."""
    if errand.cancels:
        return f"interrupted; {_maybe_cancelled(errand)}"
    if errand.task_id:
        return f"interrupted; task {errand.task_id} goes on. Fetch it: {errand.next_command()}"
    if errand.request_id:
        return f"interrupted; {_maybe_accepted(errand)}"
    return "interrupted"


def exit_code(error: ImageServiceError) -> int:
    """The exit code that belongs to the error."""
    match error:
        case InvalidRequest():
            return USAGE
        case Unreachable():
            return UNREACHABLE
        case StillRunning():
            return STILL_RUNNING
        case _:
            return FAILED


def document(error: ImageServiceError) -> dict[str, Any]:
    """The error in the form of `task.v1.TaskError`, with the details of the call beside it."""
    shown: dict[str, Any] = {
        "message": error.message,
        "code": error.code.value[0],
        "metadata": error.metadata,
    }
    if error.reason:
        shown["reason"] = f"ERROR_REASON_{error.reason}"
    if error.violations:
        shown["field_violations"] = [
            {"field": violation.field, "description": violation.description} for violation in error.violations
        ]
    if error.retry_after_s is not None:
        shown["retry_after_seconds"] = error.retry_after_s
    return shown


def _unreachable(error: Unreachable, errand: Errand) -> str:
    cause = next((text for pattern, text in _CAUSES if pattern in error.message), "")
    if not cause:
        cause = re.sub(r"^.*: ", "", error.message) or error.code.name
    never_connected = error.code is grpc.StatusCode.UNAVAILABLE and _NEVER_CONNECTED.search(error.message)
    if errand.cancels and not never_connected:
        return f"cannot reach {errand.target}: {cause}; {_maybe_cancelled(errand)}"
    if errand.follows:
        return f"lost {errand.target}: {cause}. The task goes on; fetch it: {errand.next_command()}"
    if errand.request_id and not never_connected:
        return f"lost {errand.target}: {cause}; {_maybe_accepted(errand)}"
    start = "Start the service with `make run`, or name" if cause == _NOBODY else "Name"
    return f"cannot reach {errand.target}: {cause}. {start} another with --target or IMAGEGEN_TARGET"


def _maybe_accepted(errand: Errand) -> str:
    return (
        f"if the request was accepted, the same command with --request-id {errand.request_id} finds its task"
    )


def _maybe_cancelled(errand: Errand) -> str:
    return f"whether task {errand.task_id} was cancelled is not known; the same command may be repeated"


_FLAGS = {
    "max_images": "-n",
    "negative_prompt": "--negative",
    "options.labels": "--label",
    "options.ttl": "--ttl",
    "output_format": "--format",
    "reference_images": "--reference",
    "request_id": "--request-id",
}
"""Of fields that are called otherwise on the command line."""


def _given(path: str, errand: Errand) -> str:
    """The argument that the field of the request was made of, where its path tells less than that."""
    place = re.match(r"reference_images\[(\d+)\]", path)
    if place is not None and int(place[1]) < len(errand.references):
        return f"--reference {errand.references[int(place[1])]}"
    if path == "output_format" and errand.format_by:
        return f"-o {errand.format_by}"
    return _FLAGS.get(path, path)


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".")

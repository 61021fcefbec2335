"""The command line's grammar."""

from __future__ import annotations

import argparse
import json
import os
import sys
import uuid
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NoReturn, cast

from imagegen import streams
from imagegen.argument_types import (
    DEFAULT_TARGET,
    duration_s,
    label,
    named_reference,
    output,
    output_format,
    target,
    utf8,
    whole,
)
from imagegen.fields import RequestFields, image_request, sequence_request
from imagegen.saving import SUFFIXES

_EPILOG = """\
exit codes:
    0  done
    1  the task failed or was cancelled, or the service reported an error
    2  wrong usage, or a request that the service finds invalid
    3  the service cannot be reached
    4  still running when --timeout was over; the task goes on
  130  interrupted; that cancels no task
"""


class _WrongUsage(Exception):
    """The name of the command, and what is wrong."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _WrongUsage(self.prog, message)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for. Raises SystemExit 2 after one line on stderr, and the document of an
    error where `--json` asks for one, when the arguments are wrong."""
    try:
        arguments = _build_parser().parse_args(argv)
        if arguments.command in ("generate", "sequence"):
            _check(arguments)
        return arguments
    except _WrongUsage as error:
        command, message = error.args
        if "--json" in argv:  # nothing is parsed that could tell
            document = {"task_id": "", "request_id": "", "error": {"message": message}}
            streams.write(sys.stdout, json.dumps(document, indent=2) + "\n")
        streams.write(sys.stderr, f"{command}: {message} (see {command} --help)\n")
        raise SystemExit(2) from error


def _build_parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="imagegen",
        description="Makes pictures.",
        epilog=_EPILOG,
        formatter_class=formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"imagegen {metadata.version('imagegen')}")
    _add_common(parser)
    parser.set_defaults(target=os.environ.get("IMAGEGEN_TARGET") or DEFAULT_TARGET, tls=False, json=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, text: str, positional: str = "") -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=text,
            usage=f"imagegen {name} [options] {positional}".rstrip(),
            description=text,
            epilog=_EPILOG,
            formatter_class=formatter,
            allow_abbrev=False,
        )
        _add_common(added)
        return added

    generate = command("generate", "Make one picture.", "PROMPT")
    _add_request(generate)
    sequence = command(
        "sequence", "Make pictures that belong together and save each as soon as it is there.", "PROMPT"
    )

    sequence.add_argument(
        "-n", "--images", type=whole(1, 15), default=4, metavar="N", help="how many, 1-15 (default: 4)"
    )
    _add_request(sequence)

    task = command("task", "Show how a task went, and fetch what it made.", "TASK_ID")
    task.add_argument("task_id", type=utf8, metavar="TASK_ID")
    task.add_argument(
        "--wait", action="store_true", help="wait for its end; the exit code then says how it ended"
    )
    task.add_argument("-o", "--output", type=output, metavar="DIR|FILE", help="save its pictures")
    _add_timeout(task)

    cancel = command("cancel", "End a task before its time.", "TASK_ID")
    cancel.add_argument("task_id", type=utf8, metavar="TASK_ID")

    command("models", "Show which models there are, what they take and what they cost.")
    command("health", "Ask whether the service takes requests.")
    return parser


def request_fields(arguments: argparse.Namespace) -> RequestFields:
    """What the arguments of `generate` and `sequence` ask for; `request_id` is always set."""
    return {
        "model": arguments.model,
        "size": arguments.size,
        "watermark": arguments.watermark,
        "seed": arguments.seed,
        "references": [picture for _, picture in arguments.reference],
        "quality": arguments.quality,
        "output_format": arguments.format or cast(Any, arguments.output.format),
        "negative_prompt": arguments.negative,
        "request_id": arguments.request_id or str(uuid.uuid4()),
        "priority": arguments.priority,
        "ttl_s": arguments.ttl,
        "labels": dict(arguments.label),
    }


def _check(arguments: argparse.Namespace) -> None:
    command, file = f"imagegen {arguments.command}", arguments.output
    if arguments.format and file.format not in (None, arguments.format):
        raise _WrongUsage(command, f"argument --format: {arguments.format} does not fit -o {file.path}")
    images = getattr(arguments, "images", None)
    fields = request_fields(arguments)
    try:
        if images is None:
            image_request(arguments.prompt, fields)
        else:
            sequence_request(arguments.prompt, images, fields)
    except ValueError as error:
        raise _WrongUsage(command, str(error)) from error


def _add_common(parser: argparse.ArgumentParser) -> None:
    """What may stand before the command and behind it: the defaults are the whole line's, or the command's
    would take the place of what stands before it."""
    service = parser.add_argument_group("service")
    service.add_argument(
        "--target",
        type=target,
        metavar="HOST:PORT",
        default=argparse.SUPPRESS,
        help=f"where the service is (default: IMAGEGEN_TARGET, else {DEFAULT_TARGET})",
    )
    service.add_argument("--tls", action="store_true", default=argparse.SUPPRESS, help="connect with TLS")
    parser.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print exactly one JSON document; that of an error has task_id, request_id and error",
    )


def _add_request(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", type=utf8, metavar="PROMPT", help="what to show, in any language")
    picture = parser.add_argument_group("picture")
    picture.add_argument(
        "-m", "--model", type=utf8, metavar="NAME", default="", help="model or alias (default: the service's)"
    )
    picture.add_argument(
        "-s",
        "--size",
        type=utf8,
        metavar="SIZE",
        default="",
        help="1K, 2K, 4K or WIDTHxHEIGHT (default: the service's)",
    )
    picture.add_argument(
        "--seed", type=whole(-1, 2**31 - 1), metavar="N", help="repeatable randomness (default: random)"
    )
    picture.add_argument("--negative", type=utf8, default="", metavar="TEXT", help="what not to show")
    picture.add_argument("--quality", type=utf8, metavar="NAME", default="", help="in the model's own words")
    picture.add_argument("--watermark", action="store_true", help="with a visible watermark")
    picture.add_argument(
        "--reference",
        type=named_reference,
        action="append",
        default=[],
        metavar="FILE|URL|TASK_ID:INDEX",
        help="an image to work from; up to 14 times and 32 MiB in all",
    )
    saving = parser.add_argument_group("saving")
    saving.add_argument(
        "-o",
        "--output",
        type=output,
        default=".",
        metavar="DIR|FILE",
        help=f"where to save (default: the current directory); FILE ends in {', '.join(SUFFIXES)}",
    )
    saving.add_argument(
        "--format",
        type=output_format,
        metavar="png|jpeg|webp",
        help="file format (default: as FILE ends, else the model's own)",
    )
    task = parser.add_argument_group("task")
    task.add_argument(
        "--async", dest="detach", action="store_true", help="submit only; fetch it with imagegen task"
    )
    _add_timeout(task)
    task.add_argument(
        "--request-id", type=utf8, metavar="ID", help="the same id again gets the same task (default: fresh)"
    )
    task.add_argument("--priority", choices=("critical", "default", "low"))
    task.add_argument(
        "--ttl", type=duration_s, metavar="TIME", help="fail when not done after TIME (default: 1h)"
    )
    task.add_argument(
        "--label", type=label, action="append", default=[], metavar="KEY=VALUE", help="kept with the task"
    )


def _add_timeout(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--timeout",
        type=duration_s,
        default=300.0,
        metavar="TIME",
        help="how long to wait: seconds, or 10m, 1h (default: 300); the task itself goes on",
    )

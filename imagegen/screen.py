"""What a person sees: lines and timelines on stdout, errors on stderr, an animation only on a terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text
from task.v1.task_pb2 import Progress as Pictures
from task.v1.task_pb2 import Task, TaskState

from imagegen import streams
from imagegen.tasks import state_name
from imagegen.timeline import STATE_COLOURS, duration, price, rows

UNBOUNDED = 100_000
"""Columns of an output that is no terminal: nothing is wrapped there, so that lines can be searched."""

_COMMANDING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Screen:
    """Prints for a person, or one JSON document for a program."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._out = _console(sys.stdout)
        self._err = _console(sys.stderr)
        self._spoken = False

    def line(self, *parts: str | tuple[str, str]) -> None:
        """One line of stdout; each part is a text, or a text with its style. Silent when a document is asked
        for."""
        if not self.as_json:
            self._spoken = True
            pairs = ((part, "") if isinstance(part, str) else part for part in parts)
            self._out.print(Text.assemble(*((plain(text), style) for text, style in pairs)), soft_wrap=True)

    def error(self, message: str) -> None:
        """One line of stderr."""
        self._err.print(Text.assemble(("imagegen: ", "bold red"), plain(message)), soft_wrap=True)

    def document(self, document: Mapping[str, Any]) -> None:
        """The one JSON document of stdout, if one is asked for."""
        if self.as_json:
            speaks_utf8 = (self._out.encoding or "").lower().replace("-", "") == "utf8"
            text = json.dumps(document, ensure_ascii=not speaks_utf8, indent=2)
            streams.write(self._out.file, text + "\n")

    def timeline(self, task: Task) -> None:
        """How the task went, step by step. Silent when a document is asked for."""
        if self.as_json:
            return
        grid = Table.grid(padding=(0, 1))
        grid.add_column(justify="right", no_wrap=True, style="dim")
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for row in rows(task, now=datetime.now(UTC)):
            detail = Text(plain(row.detail))
            if row.note:
                detail.append(f"\n{plain(row.note)}", style="dim")
            at = "" if row.at_s is None else duration(row.at_s)
            grid.add_row(at, Text(row.mark, style=row.colour), Text(row.label, style=row.colour), detail)
        if self._spoken:
            self.line("")
        self._print_trimmed(_headline(task), Text(plain(task.prompt), style="italic"), "", grid)

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Rows under their headers. Silent when a document is asked for."""
        if self.as_json:
            return
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for place, header in enumerate(headers):
            # A narrow terminal folds the later columns; the name is what is copied.
            table.add_column(header, no_wrap=place == 0, overflow="fold")
        for row in rows:
            table.add_row(*(Text(plain(text)) for text in row))
        self._print_trimmed(table)

    def _print_trimmed(self, *parts: RenderableType) -> None:
        """Print without the padding of columns, which no reader of a file or a pipe wants."""
        with self._out.capture() as captured:
            self._out.print(*parts, sep="\n")
        streams.write(self._out.file, "\n".join(line.rstrip() for line in captured.get().split("\n")))

    @contextmanager
    def progress(self, *, images: int) -> Iterator[Tracker]:
        """Shows on a terminal what happens until the end of the block; lines may be printed meanwhile."""
        columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
        if images > 1:
            columns += [BarColumn(bar_width=12), MofNCompleteColumn()]
        columns += [TimeElapsedColumn(), TextColumn("{task.fields[id]}", style="dim")]
        hidden = self.as_json or not self._out.is_terminal
        with Progress(*columns, console=self._out, transient=True, disable=hidden) as progress:
            yield Tracker(progress, images)


class Tracker:
    """The moving line: what the task is doing, how many pictures there are, how long it has taken."""

    def __init__(self, progress: Progress, images: int) -> None:
        self._progress = progress
        self._line = progress.add_task("submitting", total=images, id="")

    def accepted(self, task_id: str) -> None:
        """Shows which task it is."""
        self._progress.update(self._line, description="waiting", id=plain(task_id))

    def task(self, task: Task) -> None:
        """Shows where the task stands."""
        what = "waiting" if task.state == TaskState.TASK_STATE_PENDING else "painting"
        if len(task.attempts) > 1:
            what += f", attempt {len(task.attempts)}"
        self._progress.update(self._line, description=what, id=plain(task.task_id))
        if task.HasField("progress"):
            self.pictures(task.progress)

    def pictures(self, pictures: Pictures) -> None:
        """Shows how many pictures are stored, of how many."""
        self._progress.update(self._line, completed=pictures.images_done, total=pictures.images_wanted)

    def one_more(self) -> None:
        """Counts one picture."""
        self._progress.update(self._line, description="painting", advance=1)


def plain(text: str) -> str:
    """The text without what would move the cursor, change colours or turn the reading direction: prompts and
    names are other people's.
    """
    return _COMMANDING.sub("\N{REPLACEMENT CHARACTER}", text)


def _headline(task: Task) -> Text:
    facts = [f"{task.model} by {task.provider}"]
    if task.progress.images_wanted > 1:
        facts.append(f"{task.progress.images_done} of {task.progress.images_wanted} images")
    if task.HasField("cost"):
        facts.append(price(task.cost))
    facts += [f"{key}={value}" for key, value in sorted(task.labels.items())]
    return Text.assemble(
        "task ",
        (plain(task.task_id), "bold"),
        " ",
        (state_name(task), f"bold {STATE_COLOURS.get(task.state, 'default')}"),
        "\n",
        (plain(" · ".join(facts)), "dim"),
    )


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # As in `imagegen sequence ... | head -1`: the rest is saved all the same, and the exit code tells how
        # the task went.
        streams.abandon(self.file)


def _console(file: TextIO) -> Console:
    return _Console(file=file, highlight=False, width=None if file.isatty() else UNBOUNDED)

"""Logging: one line per event, JSON for machines or text for people, to stderr and to daily files."""

from __future__ import annotations

import fcntl
import json
import logging
import logging.handlers
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import structlog

_SECRET = re.compile(
    r"""(?i)(://[^:/\s"']*:)[^/\s"']+(?=@)"""
    r"""|(bearer\s+)[\w.~+/=-]+"""
    r"""|((?:signature|x-amz-[a-z-]+|x-tos-[a-z-]+|credential|password)=)[^&\s"'\\]+"""
)


def redact(text: str) -> str:
    """The text with passwords in URLs, bearer tokens and link signatures blanked out."""
    return _SECRET.sub(lambda m: f"{m[1] or m[2] or m[3]}***", text)


def _redact_line(_: Any, __: str, line: Any) -> str:
    # Whole lines, not values: secrets also hide in nested values and in objects that are only now text.
    return redact(str(line))


def _dumps(value: Any, **kwargs: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, **kwargs)


def configure(
    *,
    level: str,
    form: str,
    directory: Path | None,
    keep_days: int,
    app: str,
    version: str,
    role: str,
    process: int = 0,
) -> None:
    """Set up logging for this process: `structlog.get_logger()` and the standard library's loggers alike.

    `process` is its number when several are one instance: it stands in every line. Each process has a file of
    its own: that of a second worker is `worker.2.log`. Raises OSError when `directory` cannot be written.
    """
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        if isinstance(old, _DailyFile):
            old.close()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_dumps)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render, _redact_line],
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        handlers.append(_DailyFile(directory, f"{role}-{process}" if process else role, keep_days))
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.access").setLevel("WARNING")
    logging.getLogger("botocore").setLevel("INFO")  # its debug lines hold what it signs, tokens included
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(
        app=app, version=version, role=role, **({"process": process} if process else {})
    )


class _DailyFile(logging.handlers.TimedRotatingFileHandler):
    """A file that this process alone writes and rotates: of two, the second would delete what the first has
    put aside."""

    def __init__(self, directory: Path, name: str, keep_days: int) -> None:
        own, self._lock = _first_free(directory, name)
        super().__init__(
            directory / f"{own}.log", when="midnight", backupCount=keep_days, encoding="utf-8", utc=True
        )
        self._siblings = f"{name}.*.log.????-??-??"
        self._directory = directory

    def doRollover(self) -> None:  # noqa: N802
        """Besides, what is too old of names that no process has any more goes."""
        super().doRollover()
        oldest = f"{datetime.now(UTC) - timedelta(days=self.backupCount):%Y-%m-%d}"
        for path in self._directory.glob(self._siblings):
            if path.suffix[1:] < oldest:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        super().close()
        self._lock.close()


def _first_free(directory: Path, name: str) -> tuple[str, IO[str]]:
    """The name, or the first of `name.2`, `name.3` …, that no other process has, and what holds it: the
    kernel lets go of it with the process. Not the log file itself, which changes at midnight."""
    free, number = name, 1
    while True:
        lock = open(directory / f".{free}.lock", "a", encoding="ascii")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            number += 1
            free = f"{name}.{number}"
        except OSError:  # a file system without locks: one process that logs there is better than none
            return free, lock
        else:
            return free, lock

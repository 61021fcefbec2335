"""Logging: one line per event, JSON for machines or text for people, to stderr and to daily files."""

from __future__ import annotations

import json
import logging
import logging.handlers
import re
import sys
from pathlib import Path
from typing import Any

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

    `process` is its number when several are one instance: it stands in every line, and each has a file of its
    own, as no two processes can rotate one.
    """
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
        name = f"{role}-{process}.log" if process else f"{role}.log"
        handlers.append(
            logging.handlers.TimedRotatingFileHandler(
                directory / name, when="midnight", backupCount=keep_days, encoding="utf-8", utc=True
            )
        )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
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

"""Logs: one line per event, nothing secret in any of them, and files that do not pile up."""

from __future__ import annotations

import errno
import json
import logging
import logging.handlers
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from server import logs

VERSION = "1.2.3"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """`configure` is for a whole process: take it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        if handler not in handlers:
            handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def configure(
    *, level: str = "info", form: str = "json", directory: Path | None = None, process: int = 0
) -> None:
    logs.configure(
        level=level,
        form=form,
        directory=directory,
        keep_days=3,
        app="pictures",
        version=VERSION,
        role="api",
        process=process,
    )


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was written to stderr since the last look; nothing may go to stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(capsys)]


# --- form --------------------------------------------------------------------------------------------


def test_an_event_is_one_compact_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger("server.test").warning("a picture is made", size="2K", n=2, prompt="猫")
    [line] = lines(capsys)
    event = json.loads(line)
    assert line == json.dumps(event, separators=(",", ":"), ensure_ascii=False)
    assert "猫" in line
    stamp = event.pop("timestamp")
    assert stamp.endswith("Z")
    assert event == {
        "event": "a picture is made",
        "level": "warning",
        "logger": "server.test",
        "size": "2K",
        "n": 2,
        "prompt": "猫",
        "app": "pictures",
        "version": VERSION,
        "role": "api",
    }


def test_the_standard_librarys_loggers_look_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    logging.getLogger("somebody.else").error("%d of %s", 2, "three")
    [event] = events(capsys)
    del event["timestamp"]
    assert event == {
        "event": "2 of three",
        "level": "error",
        "logger": "somebody.else",
        "app": "pictures",
        "version": VERSION,
        "role": "api",
    }


@pytest.mark.parametrize("source", ["structlog", "logging"])
def test_an_exception_stays_in_its_line(capsys: pytest.CaptureFixture[str], source: str) -> None:
    configure()
    try:
        raise ValueError("wrong\nvalue")
    except ValueError:
        if source == "structlog":
            structlog.get_logger("server.test").exception("it failed")
        else:
            logging.getLogger("somebody.else").exception("it failed")
    [event] = events(capsys)
    assert event["exception"].startswith("Traceback")
    assert event["exception"].endswith("ValueError: wrong\nvalue")


def test_what_json_does_not_know_is_written_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().info("odd", path=Path("/a"), error=ValueError("b"), kinds={"c"})
    [event] = events(capsys)
    assert "/a" in event["path"]
    assert event["error"] == "ValueError('b')"
    assert event["kinds"] in ("{'c'}", ["c"])


@pytest.mark.filterwarnings("error")
def test_people_get_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure(form="console")
    try:
        raise ValueError("wrong value")
    except ValueError:
        structlog.get_logger("server.test").exception("it failed", size="2K")
    first, *rest = lines(capsys)
    assert "it failed" in first
    assert "size=2K" in first
    assert rest[-1] == "ValueError: wrong value"


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
@pytest.mark.parametrize("source", ["structlog", "logging"])
def test_the_level_holds_for_everybody(
    capsys: pytest.CaptureFixture[str], level: str, seen: list[str], source: str
) -> None:
    configure(level=level)
    logger = structlog.get_logger("l") if source == "structlog" else logging.getLogger("l")
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("said")
    assert [event["level"] for event in events(capsys)] == seen


def test_configuring_again_replaces_the_first_time(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    configure(level="error")
    logging.getLogger("l").warning("no")
    logging.getLogger("l").error("once")
    assert [event["event"] for event in events(capsys)] == ["once"]


# --- secrets -----------------------------------------------------------------------------------------

SECRETS = [
    ("redis://:S3CRET@h:6379/0", "redis://:***@h:6379/0"),
    ("mongodb://user:S3CRET@h1:1,h2:2/db?w=1", "mongodb://user:***@h1:1,h2:2/db?w=1"),
    ("mongodb+srv://user:S3%40CRET@h/db", "mongodb+srv://user:***@h/db"),
    ("redis://user:S3@CRET@h/0", "redis://user:***@h/0"),
    ("redis://user@corp:S3CRET@h/0", "redis://user@corp:***@h/0"),
    ("unix:///redis.sock?password=S3CRET&db=1", "unix:///redis.sock?password=***&db=1"),
    ("Authorization: Bearer S3CRET.x-y_z/+==", "Authorization: Bearer ***"),
    ("authorization=bearer  S3CRET", "authorization=bearer  ***"),
    ("https://h/a.png?X-Amz-Signature=S3CRET&a=1", "https://h/a.png?X-Amz-Signature=***&a=1"),
    ("https://h/a.png?a=1&x-tos-credential=S3CRET", "https://h/a.png?a=1&x-tos-credential=***"),
    (
        "https://h/a?X-Tos-Security-Token=S3CRET&Credential=S3CRET",
        "https://h/a?X-Tos-Security-Token=***&Credential=***",
    ),
    ("two: redis://:S3CRET@a, redis://:S3CRET@b", "two: redis://:***@a, redis://:***@b"),
]
PLAIN = [
    "redis://h:6379/0",
    "mongodb://h1:27017,h2:27017/db?replicaSet=a@b",
    "http://localhost:9090/outputs/a.png, ask ann@example.com",
    "12:30 https://h/a:b",
]


@pytest.mark.parametrize(("text", "shown"), SECRETS)
def test_secrets_are_blanked_out(text: str, shown: str) -> None:
    assert logs.redact(text) == shown


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_stays(text: str) -> None:
    assert logs.redact(text) == text


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("text", [text for text, _ in SECRETS])
def test_no_secret_reaches_a_log(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str, text: str
) -> None:
    """Wherever it stands: in the message, a value, inside one, an argument, an object or an exception."""
    configure(form=form, directory=tmp_path)
    log, other = structlog.get_logger("server.test"), logging.getLogger("somebody.else")
    log.info(f"reaching {text}", url=text, nested={"urls": [text]}, error=ValueError(text))
    other.info("reaching %s", text)
    try:
        raise ConnectionError(text)
    except ConnectionError:
        log.exception("failed")
        other.exception("failed")
    shown = capsys.readouterr().err + (tmp_path / "api.log").read_text()
    assert shown.count("failed") >= 4
    assert "CRET" not in shown


def test_a_redacted_line_is_still_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    for text, _ in SECRETS:
        structlog.get_logger().info("x", url=text, more={"last": f'"{text}"'})
    assert len(events(capsys)) == len(SECRETS)


# --- files -------------------------------------------------------------------------------------------


def test_lines_also_go_to_a_file_of_the_role(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    directory = tmp_path / "made" / "on demand"
    configure(directory=directory)
    structlog.get_logger().info("猫")
    assert (directory / "api.log").read_text(encoding="utf-8").splitlines() == lines(capsys)


def test_one_of_several_processes_says_which_and_has_a_file_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    configure(directory=tmp_path, process=2)
    structlog.get_logger().info("x")
    assert [path.name for path in tmp_path.glob("*.log")] == ["api-2.log"]
    [event] = events(capsys)
    assert (event["role"], event["process"]) == ("api", 2)


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's own clock is eight hours ahead."""
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def daily_file() -> logging.handlers.TimedRotatingFileHandler:
    [handler] = [
        h for h in logging.getLogger().handlers if isinstance(h, logging.handlers.TimedRotatingFileHandler)
    ]
    return handler


@pytest.mark.usefixtures("far_east")
def test_files_change_at_midnight_and_old_ones_go(tmp_path: Path) -> None:
    for day in range(1, 8):
        (tmp_path / f"api.log.2026-01-0{day}").write_text("old\n")
    (tmp_path / "worker.log.2026-01-01").write_text("another role's\n")
    configure(directory=tmp_path)
    log = structlog.get_logger()
    log.info("yesterday")
    handler = daily_file()
    assert 0 < handler.rolloverAt - time.time() <= 86_400
    assert handler.rolloverAt % 86_400 == 0, "midnight, UTC"
    handler.rolloverAt = int(time.time()) - 1
    log.info("today")
    kept = sorted(path.name for path in tmp_path.glob("api.log.*"))
    assert len(kept) == 3, "keep_days"
    assert kept[:2] == ["api.log.2026-01-06", "api.log.2026-01-07"]
    assert "yesterday" in (tmp_path / kept[2]).read_text()
    assert [json.loads(line)["event"] for line in (tmp_path / "api.log").read_text().splitlines()] == [
        "today"
    ]
    assert (tmp_path / "worker.log.2026-01-01").exists()


SECOND = """
import logging, sys, time
from pathlib import Path
from server import logs
logs.configure(
    level="info", form="json", directory=Path(sys.argv[1]), keep_days=3, app="a", version="1", role="api"
)
logging.info("second")
logging.getLogger().handlers[-1].rolloverAt = int(time.time()) - 1
logging.info("second, next day")
"""


def test_no_process_rotates_the_file_of_another(tmp_path: Path) -> None:
    configure(directory=tmp_path)
    log = structlog.get_logger()
    log.info("first")
    handler = daily_file()
    handler.rolloverAt = int(time.time()) - 1
    log.info("first, next day")
    subprocess.run([sys.executable, "-c", SECOND, str(tmp_path)], check=True, capture_output=True)
    log.info("first, later")
    told = {
        path.name.partition(".log")[0] + (".today" if path.suffix == ".log" else ".before"): [
            json.loads(line)["event"] for line in path.read_text().splitlines()
        ]
        for path in tmp_path.glob("*.log*")
    }
    assert told == {
        "api.before": ["first"],
        "api.today": ["first, next day", "first, later"],
        "api.2.before": ["second"],
        "api.2.today": ["second, next day"],
    }


def test_old_files_of_names_that_nobody_has_go_as_well(tmp_path: Path) -> None:
    for name in ("api.2", "api.7", "worker.2"):
        (tmp_path / f"{name}.log.2026-01-07").write_text("old\n")
    new = tmp_path / f"api.2.log.{datetime.now(UTC):%Y-%m-%d}"
    new.write_text("new\n")
    subprocess.run([sys.executable, "-c", SECOND, str(tmp_path)], check=True, capture_output=True)
    left = {path.name for path in tmp_path.glob("*.?.log.*")}
    assert left == {new.name, "worker.2.log.2026-01-07"}


def test_a_file_system_without_locks_is_logged_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("server.logs.fcntl.flock", refuse)
    configure(directory=tmp_path)
    structlog.get_logger().info("x")
    assert [path.name for path in tmp_path.glob("*.log")] == ["api.log"]


def test_the_file_of_a_process_that_has_ended_is_free_again(tmp_path: Path) -> None:
    for _ in range(2):
        subprocess.run([sys.executable, "-c", SECOND, str(tmp_path)], check=True, capture_output=True)
    assert [path.name for path in tmp_path.glob("*.log")] == ["api.log"]

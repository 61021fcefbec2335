"""How processes start, or say why they do not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.nursery import shared_nursery
from tests.side_port import fetch
from tests.stack import ServiceProcess, running_stack
from tests.tools import program


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended, and what it had to say."""

    code: int
    said: str


def start(directory: Path, role: str, within_s: float = 30, /, **settings: str) -> End:
    """Run a process that is expected to end by itself."""
    out = directory / "out.log"
    child = shared_nursery().start(role, directory=directory, environment=settings, out=out)
    try:
        return End(child.wait(within_s), out.read_text())
    finally:
        child.kill()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, ["STORE_URL: is not set", "REDIS_URL: is not set"]),
        ({"GRPC_PORT": "http"}, ["GRPC_PORT: expected a whole number from 0 to 65535"]),
        ({"LOG_LEVEL": "loud", "WORKER_CONCURRENCY": "0"}, ["LOG_LEVEL", "WORKER_CONCURRENCY"]),
        ({"STORE_URL": "postgres://u:secret@h/d"}, ["STORE_URL", "mongodb://", "sqlite://"]),
        ({"REDIS_URL": "http://h"}, ["REDIS_URL", "redis://"]),
    ],
)
def test_wrong_settings_are_named_with_what_is_expected(
    tmp_path: Path, settings: dict[str, str], says: list[str]
) -> None:
    done = start(tmp_path, "api", **settings)
    assert done.code == 2
    assert all(text in done.said for text in says), done.said
    assert "secret" not in done.said
    assert "Traceback" not in done.said


@pytest.mark.parametrize("role", ["api", "worker"])
def test_a_wrong_catalogue_file_is_named_with_its_line(tmp_path: Path, role: str) -> None:
    (tmp_path / "models.toml").write_text('[[model]]\nid = "mine"\nroutes = [{ provider = "arc" }]\n')
    urls = {"STORE_URL": f"sqlite://{tmp_path}/tasks.db", "REDIS_URL": f"unix://{tmp_path}/redis.sock"}
    done = start(tmp_path, role, MODEL_CATALOGUE="models.toml", **urls)
    assert done.code == 2
    first, second = done.said.splitlines()[-2:]
    assert first.startswith(
        "Cannot start: MODEL_CATALOGUE: models.toml: line 3: model mine: routes[0].provider: 'arc' is not"
    )
    assert second == "models.toml: line 1: model mine: sizes: is missing"


def test_a_model_that_names_a_provider_twice_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(
        '[[model]]\nid = "doubao-seedream-4-5-251128"\n\n'
        '[[model.routes]]\nprovider = "ark"\n\n[[model.routes]]\nprovider = "ark"\nupstream = "ep-1"\n'
    )
    urls = {"STORE_URL": f"sqlite://{tmp_path}/tasks.db", "REDIS_URL": f"unix://{tmp_path}/redis.sock"}
    done = start(tmp_path, "worker", MODEL_CATALOGUE="models.toml", **urls)
    assert done.code == 2
    assert done.said.splitlines()[-1] == (
        "Cannot start: MODEL_CATALOGUE: models.toml: line 7: model doubao-seedream-4-5-251128: routes[1]: "
        "provider 'ark' stands in routes[0] already; each may stand once"
    )


@pytest.mark.parametrize("setting", ["GRPC_PORT", "HTTP_PORT"])
def test_a_taken_port_says_which_setting_moves_it(setting: str) -> None:
    with socket.socket() as taken, running_stack() as stack:
        taken.bind(("0.0.0.0", 0))  # noqa: S104
        taken.listen()
        with pytest.raises(RuntimeError) as refused:
            stack.start("api", fresh=False, **{setting: str(taken.getsockname()[1])})
        assert f"set {setting} to a free one" in str(refused.value)
        assert "Traceback" not in str(refused.value)


async def test_promtool_accepts_the_metrics_of_both_roles() -> None:
    promtool = program("promtool", install="Debian: apt-get install prometheus")
    with running_stack() as stack:
        for role in ("api", "worker"):
            text = (await fetch(f"{stack.start(role).http}/metrics")).body
            check = [promtool, "check", "metrics"]
            done = await asyncio.to_thread(
                subprocess.run, check, input=text, capture_output=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.stderr == b""


def test_each_role_logs_the_ports_that_it_has() -> None:
    with running_stack() as stack:
        for role, has in (("api", {"grpc_port", "http_port"}), ("worker", {"http_port"})):
            lines = [json.loads(line) for line in stack.start(role).log().splitlines()]
            [listening] = [line for line in lines if line["event"] == "listening"]
            assert {name for name in listening if name.endswith("_port")} == has


@pytest.mark.parametrize("role", ["api", "worker"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_an_idle_process_in_order(role: str, how: signal.Signals) -> None:
    with running_stack() as stack:
        stops_in_order(stack.start(role), how)


def stops_in_order(process: ServiceProcess, how: signal.Signals) -> None:
    """By this signal, without a word of trouble."""
    process.signal(how)
    assert process.wait() == 0
    assert "Traceback" not in process.log()


def test_ctrl_c_stops_the_embedded_stack_in_order() -> None:
    with running_stack(REDIS_URL="", STORE_URL="") as stack:
        stops_in_order(stack.start("all", fresh=True), signal.SIGINT)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the worker in /proc")
def test_ctrl_c_says_how_long_a_stop_may_take_and_that_another_one_ends_it(tmp_path: Path) -> None:
    settings = {"GRPC_PORT": "0", "HTTP_PORT": "0", "SHUTDOWN_GRACE_SECONDS": "300", "LOG_LEVEL": "error"}
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **settings}
    command = [sys.executable, "-m", "server", "all"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as stack:
        try:
            assert stack.stdout is not None
            assert any(line.startswith("Ctrl-C stops it") for line in stack.stdout)
            children = Path(f"/proc/{stack.pid}/task/{stack.pid}/children").read_text().split()
            [worker] = [pid for pid in children if b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
            os.kill(int(worker), signal.SIGSTOP)  # so that it would take the whole grace
            stack.send_signal(signal.SIGINT)
            said = [stack.stdout.readline() for _ in range(2)]
            stack.send_signal(signal.SIGINT)
            assert stack.wait(30) == 0
        finally:
            stack.kill()
    takes = "work under way gets up to 300 s (SHUTDOWN_GRACE_SECONDS) to end"
    assert said == ["\n", f"Stopping: {takes}; Ctrl-C again stops at once.\n"]


def test_an_embedded_stack_whose_supervision_ends_by_a_bug_says_so_and_ends() -> None:
    with running_stack(REDIS_URL="", STORE_URL="") as stack:
        process = stack.start("all", program=("tests.distributed.unsupervised", "all"))
        (stack.directory / "bug").touch()
        assert process.wait() == 1
        assert "KeyError: 'a bug'" in process.log()


def test_queue_commands_without_redis_url_find_the_embedded_stack_of_data_dir(tmp_path: Path) -> None:
    with running_stack(REDIS_URL="", STORE_URL="") as stack:
        data_dir = str(stack.directory / "data")
        process = stack.start("all")
        found = start(tmp_path, "queue-status", DATA_DIR=data_dir)
        cleared = start(tmp_path, "queue-clear", DATA_DIR=data_dir)
        process.stop()
        none = start(tmp_path, "queue-status", DATA_DIR=data_dir, LOG_LEVEL="error")
    assert found == End(0, "ready 0   running 0   delayed 0   oldest ready -\n")
    assert cleared.code == 0
    assert cleared.said.splitlines()[-1].startswith("The queue is empty now")
    assert none.code == 1
    assert none.said.splitlines()[-1].startswith(
        f"REDIS_URL: is not set, and no embedded stack runs on DATA_DIR {data_dir}; start one, or set it. "
    )
    assert "Traceback" not in none.said


def test_a_second_instance_on_the_same_data_dir_is_refused_and_the_first_can_be_stopped() -> None:
    with running_stack(REDIS_URL="", STORE_URL="") as stack:
        first = stack.start("all")
        with pytest.raises(RuntimeError) as refused:
            stack.start("all")
        assert "DATA_DIR" in str(refused.value)
        assert f"process {first.pid}" in str(refused.value)
        assert "Traceback" not in str(refused.value)
        assert first.running()
        stops_in_order(first, signal.SIGTERM)


def test_a_log_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    end = start(tmp_path, "queue-status", REDIS_URL="redis://h", LOG_DIR="logs")
    assert end == End(2, "The settings are wrong:\nLOG_DIR: logs cannot be written: File exists\n")


def test_a_queue_command_says_what_is_wrong_with_the_redis_url(tmp_path: Path) -> None:
    end = start(tmp_path, "queue-status", REDIS_URL="redis://h?socket_timeout=soon")
    assert end == End(1, "REDIS_URL: Invalid value for 'socket_timeout' in connection URL.\n")


def test_the_demo_asks_no_proxy_for_this_machine_and_no_store_of_others(tmp_path: Path) -> None:
    others = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:9")
    others |= {
        "no_proxy": "",
        "MONGO_URL": "mongodb://127.0.0.1:9/theirs",
        "REDIS_URL": "redis://127.0.0.1:9",
    }
    end = start(tmp_path, "demo", 90, **others)
    assert end.code == 0, end.said
    assert len(list((tmp_path / "out").glob("*.png"))) == 9


def test_a_demo_that_cannot_keep_its_pictures_says_so_at_once(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    assert start(tmp_path, "demo") == End(1, "The demo failed: out cannot be made: File exists\n")

"""docker-compose.yml: fits together, keeps its data, and stops slower than the work in it."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any
from urllib.parse import urlsplit

import pytest

from server.processes import KILL_AFTER_S
from server.settings import Settings
from tests.deploy.files import (
    DEFAULTS,
    IMAGE,
    ROOT,
    VARIABLES,
    document,
    is_pinned,
    seconds,
    settings_of,
    substitutions,
)
from tests.deploy.health_checks import run_check, side_port

FILE = ROOT / "docker-compose.yml"
COMPOSE = document(FILE)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVERS = {name: SERVICES[name] for name in ("api", "worker")}


def _interpolated(value: object) -> str:
    """A value as compose passes it where no variable is set: `${NAME:-default}` is its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


ENVIRONMENT = {name: _interpolated(value) for name, value in SERVICES["api"]["environment"].items()}


@pytest.fixture(name="settings")
def settings_inside(monkeypatch: pytest.MonkeyPatch) -> Settings:
    return settings_of(ENVIRONMENT, monkeypatch)


def test_services() -> None:
    assert set(SERVICES) == {"api", "worker", "redis", "mongo", "prometheus"}
    assert {name for name, service in SERVICES.items() if service.get("profiles")} == {"prometheus"}


def test_every_variable_is_a_setting() -> None:
    named = set(substitutions(FILE.read_text()))
    for service in SERVERS.values():
        named |= set(service["environment"])
    assert named - VARIABLES == set()


def test_the_server_reads_what_is_meant(settings: Settings) -> None:
    assert urlsplit(settings.redis_url).hostname in SERVICES
    assert urlsplit(settings.store_url).hostname in SERVICES
    assert settings.outputs == settings.store_url
    assert settings.log_dir is None
    assert settings.app_environment == "development"
    assert SERVICES["api"]["environment"] == SERVICES["worker"]["environment"]


def test_containers_stop_after_their_work(settings: Settings) -> None:
    assert settings.grace_s >= DEFAULTS.image_timeout + 15
    for service in SERVERS.values():
        assert seconds(service["stop_grace_period"]) > settings.grace_s + KILL_AFTER_S


def test_images_are_pinned() -> None:
    assert [service["image"] for service in SERVICES.values() if not is_pinned(service["image"])] == []
    assert {service["image"] for service in SERVERS.values()} == {IMAGE}


@pytest.mark.parametrize("image", ["redis", "redis:latest", "host:5000/redis", "redis:alpine"])
def test_an_image_without_version_is_not_pinned(image: str) -> None:
    assert not is_pinned(image)


def test_roles_and_replicas() -> None:
    assert {name: service["command"] for name, service in SERVERS.items()} == {
        "api": ["api"],
        "worker": ["worker"],
    }
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert "ports" not in SERVICES["worker"]  # a published port has room for one replica


def test_servers_wait_for_healthy_stores() -> None:
    for service in SERVERS.values():
        conditions = {name: on["condition"] for name, on in service["depends_on"].items()}
        assert conditions == {"redis": "service_healthy", "mongo": "service_healthy"}
    for name in ("redis", "mongo"):
        assert SERVICES[name]["healthcheck"]["test"]


def test_ports_are_published_on_loopback_only(settings: Settings) -> None:
    published = [_interpolated(port) for service in SERVICES.values() for port in service.get("ports", [])]
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []
    assert f"127.0.0.1:8080:{settings.grpc_port}" in published
    assert f"127.0.0.1:9090:{settings.http_port}" in published
    assert settings.public_url == "http://localhost:9090"


def test_a_moved_port_moves_the_links_with_it() -> None:
    published = [name for port in SERVICES["api"]["ports"] for name in substitutions(port)]
    assert published == ["GRPC_PORT", "HTTP_PORT"]
    assert list(substitutions(SERVICES["api"]["environment"]["PUBLIC_URL"])) == ["HTTP_PORT"]


def test_data_outlives_the_containers() -> None:
    for name, directory in {"redis": "/data", "mongo": "/data/db"}.items():
        (volume,) = SERVICES[name]["volumes"]
        assert volume == f"{name}:{directory}"
        assert name in COMPOSE["volumes"]


def test_the_queue_is_kept_and_never_evicted() -> None:
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options == {"--appendonly": "yes", "--maxmemory-policy": "noeviction"}


def test_servers_run_with_least_rights() -> None:
    for service in SERVERS.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "user", "cap_add", "network_mode", "pid"} & set(service)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_asks_for_readiness(status: int, code: int, settings: Settings) -> None:
    kind, *command = SERVICES["api"]["healthcheck"]["test"]
    assert kind == "CMD"
    assert str(settings.http_port) in command[-1]
    with side_port(status) as (port, paths):
        command[-1] = command[-1].replace(str(settings.http_port), str(port))
        assert run_check(command, {"http_proxy": "http://127.0.0.1:9"}) == code
    assert paths == ["/ready"]


def test_compose_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("the docker compose plugin is not installed: docker-compose.yml not read by it")
    done = subprocess.run(
        [docker, "compose", "--file", str(FILE), "--profile", "*", "config", "--quiet"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")

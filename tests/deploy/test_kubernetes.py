"""k8s/: valid objects that fit each other, the image and the settings, and run with least rights."""

from __future__ import annotations

import copy
import shutil
import subprocess
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml
from pydantic import SecretStr

from server.processes import KILL_AFTER_S
from server.settings import Settings
from tests.deploy.files import (
    DEFAULTS,
    IMAGE,
    K8S,
    SECRET_EXAMPLE,
    VARIABLES,
    document,
    documents,
    manifest,
    manifests,
    settings_of,
)

# The oldest version with everything used here switched on, and the newest that can be checked.
VERSIONS = ("1.31", kubernetes_validate.latest_version())
API, WORKER = manifest("Deployment", "imagegen-api"), manifest("Deployment", "imagegen-worker")
CONFIG: dict[str, str] = manifest("ConfigMap", "imagegen")["data"]
SECRET: dict[str, str] = manifest("Secret", "imagegen")["stringData"]
ROLES = {"api": API, "worker": WORKER}


def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", deployment["spec"]["template"]["spec"])


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod(deployment)["containers"]
    return cast("dict[str, Any]", only)


def ports(deployment: dict[str, Any]) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container(deployment)["ports"]}


def selects(selector: dict[str, str], deployment: dict[str, Any]) -> bool:
    labels: dict[str, str] = deployment["spec"]["template"]["metadata"]["labels"]
    return selector.items() <= labels.items()


@pytest.fixture(name="settings")
def settings_inside(monkeypatch: pytest.MonkeyPatch) -> Settings:
    return settings_of(CONFIG | SECRET, monkeypatch)


def identity(item: dict[str, Any]) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("item", manifests(), ids=identity)
def test_every_manifest_is_valid(item: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(item, version, strict=True)
    assert "namespace" not in item["metadata"]


def test_a_misspelt_field_is_refused() -> None:
    item = copy.deepcopy(API)
    container(item)["readynessProbe"] = container(item).pop("readinessProbe")
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(item, VERSIONS[-1], strict=True)


def test_a_key_written_twice_is_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="replicas is there twice"):
        documents("replicas: 1\nreplicas: 2\n")


def test_the_kustomization_applies_everything_but_the_example_secret() -> None:
    files = {path.name for path in K8S.glob("*.yaml")} - {"kustomization.yaml", SECRET_EXAMPLE.name}
    assert set(document(K8S / "kustomization.yaml")["resources"]) == files


def test_the_kustomization_renders() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed: k8s/kustomization.yaml not rendered")
    done = subprocess.run(
        [kubectl, "kustomize", str(K8S)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    rendered = documents(done.stdout)
    assert {identity(item) for item in rendered} == {identity(item) for item in manifests()} - {
        "Secret/imagegen"
    }
    for item in rendered:
        kubernetes_validate.validate(item, VERSIONS[-1], strict=True)
        if item["kind"] == "Deployment":
            assert container(item)["image"] == IMAGE


def test_every_variable_is_a_setting() -> None:
    named = set(CONFIG) | set(SECRET)
    for deployment in ROLES.values():
        named |= {variable["name"] for variable in container(deployment).get("env", [])}
    assert named - VARIABLES == set()
    assert set(CONFIG) & set(SECRET) == set()


def test_the_server_reads_what_is_meant(settings: Settings) -> None:
    assert settings.app_environment != "development"
    assert settings.public_url.startswith("https://")
    assert settings.outputs == settings.store_url  # shared by all pods
    assert all(settings.vendor_keys.values())
    assert (settings.grpc_port, settings.http_port) == (DEFAULTS.grpc_port, DEFAULTS.http_port)


def test_the_secret_is_an_example_and_holds_all_that_is_secret() -> None:
    assert {name for name, value in SECRET.items() if "REPLACE_ME" not in value} == set()
    secret = {name.upper() for name, field in Settings.model_fields.items() if field.annotation is SecretStr}
    assert secret | {"REDIS_URL", "STORE_URL"} == set(SECRET)


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_reaches_the_container(role: str) -> None:
    sources = [next(iter(source.items())) for source in container(ROLES[role])["envFrom"]]
    assert sources == [("configMapRef", {"name": "imagegen"}), ("secretRef", {"name": "imagegen"})]
    assert container(ROLES[role])["args"] == [role]
    assert container(ROLES[role])["image"] == IMAGE


@pytest.mark.parametrize("role", ROLES)
def test_pods_stop_after_their_work(role: str, settings: Settings) -> None:
    assert "SHUTDOWN_GRACE_SECONDS" in CONFIG  # said, because the pods depend on it
    assert settings.grace_s >= settings.image_timeout + 15
    hook = container(ROLES[role]).get("lifecycle", {}).get("preStop")
    pre_stop_s = 0 if hook is None else int(hook["exec"]["command"][1])
    assert pod(ROLES[role])["terminationGracePeriodSeconds"] > settings.grace_s + KILL_AFTER_S + pre_stop_s


def test_the_api_leaves_the_endpoints_before_it_stops() -> None:
    command = container(API)["lifecycle"]["preStop"]["exec"]["command"]
    probe = container(API)["readinessProbe"]
    assert command[0] == "sleep"
    assert int(command[1]) >= probe["periodSeconds"]


def test_probes() -> None:
    for deployment in ROLES.values():
        assert ports(deployment)["http"] == DEFAULTS.http_port
        for name in ("startupProbe", "livenessProbe"):
            assert container(deployment)[name]["httpGet"] == {"path": "/health", "port": "http"}
    assert container(API)["readinessProbe"]["grpc"] == {"port": ports(API)["grpc"], "service": ""}
    assert container(WORKER)["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http"}
    assert ports(API)["grpc"] == DEFAULTS.grpc_port


@pytest.mark.parametrize("role", ROLES)
def test_pods_run_with_least_rights(role: str) -> None:
    spec, inside = pod(ROLES[role]), container(ROLES[role])
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert inside["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = {mount["mountPath"]: mount["name"] for mount in inside["volumeMounts"]}
    volumes = {volume["name"]: set(volume) - {"name"} for volume in spec["volumes"]}
    assert volumes[writable["/tmp"]] == {"emptyDir"}


@pytest.mark.parametrize("role", ROLES)
def test_pods_state_what_they_need_and_spread(role: str) -> None:
    resources = container(ROLES[role])["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert "memory" in resources["limits"]
    spread = {rule["topologyKey"]: rule for rule in pod(ROLES[role])["topologySpreadConstraints"]}
    assert set(spread) == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    for rule in spread.values():
        assert selects(rule["labelSelector"]["matchLabels"], ROLES[role])


@pytest.mark.parametrize("role", ROLES)
def test_pods_are_scraped(role: str) -> None:
    notes = ROLES[role]["spec"]["template"]["metadata"]["annotations"]
    assert notes == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(ports(ROLES[role])["http"]),
        "prometheus.io/path": "/metrics",
    }


def test_selectors_pick_one_role_each() -> None:
    for role, deployment in ROLES.items():
        chosen = [
            name
            for name, other in ROLES.items()
            if selects(deployment["spec"]["selector"]["matchLabels"], other)
        ]
        assert chosen == [role]
    for selector in (
        manifest("Service", "imagegen")["spec"]["selector"],
        manifest("Service", "imagegen-headless")["spec"]["selector"],
        manifest("PodDisruptionBudget", "imagegen-api")["spec"]["selector"]["matchLabels"],
    ):
        assert [name for name, deployment in ROLES.items() if selects(selector, deployment)] == ["api"]


def test_services_lead_to_ports_that_exist() -> None:
    shown = {}
    for name in ("imagegen", "imagegen-headless"):
        for port in manifest("Service", name)["spec"]["ports"]:
            assert ports(API)[port["targetPort"]] == port["port"]  # headless: nothing translates it
            shown[name, port["name"]] = port["port"]
    assert set(shown) == {("imagegen", "grpc"), ("imagegen", "http"), ("imagegen-headless", "grpc")}
    assert manifest("Service", "imagegen-headless")["spec"]["clusterIP"] == "None"


def test_an_eviction_never_takes_the_whole_api() -> None:
    budget = manifest("PodDisruptionBudget", "imagegen-api")["spec"]
    assert budget["maxUnavailable"] < API["spec"]["replicas"]

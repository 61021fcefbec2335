"""monitoring/: accepted by Prometheus, over metrics the server has, with alerts that fire and stay silent."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.domain.errors import Reason
from server.domain.task import AttemptOutcome, TaskState
from server.metrics import Metrics, ProcessesMetrics
from tests.deploy.files import DEFAULTS, MONITORING, ROOT, document, manifest

ALERTS = MONITORING / "alerts.yml"
ALERT_TESTS = Path(__file__).with_name("alerts_test.yml")
RULES: list[dict[str, Any]] = [rule for group in document(ALERTS)["groups"] for rule in group["rules"]]
LABEL = re.compile(r'(\w+)=~?"([^"]+)"')


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool from the tests' folder; skips, and says so, where it is not installed."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed: monitoring/ not checked by it")
    return subprocess.run(
        [program, *map(str, arguments)],
        cwd=ALERT_TESTS.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_promtool_accepts_the_rules() -> None:
    done = promtool("check", "rules", ALERTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_refuses_a_broken_rule(tmp_path: Path) -> None:
    broken = tmp_path / "alerts.yml"
    broken.write_text(ALERTS.read_text().replace("sum(", "summ(", 1))
    assert promtool("check", "rules", broken).returncode != 0


def test_alerts_fire_and_stay_silent_as_meant() -> None:
    done = promtool("test", "rules", ALERT_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("expression", ["vector(1) > 2", "vector(1)"], ids=["never", "always"])
def test_the_alert_tests_notice_alerts_that_fire_never_or_always(expression: str, tmp_path: Path) -> None:
    rules, tests = tmp_path / "alerts.yml", tmp_path / "alerts_test.yml"
    broken = [rule | {"expr": expression} for rule in RULES]
    rules.write_text(yaml.safe_dump({"groups": [{"name": "imagegen", "rules": broken}]}))
    tests.write_text(ALERT_TESTS.read_text().replace("../../monitoring/alerts.yml", str(rules)))
    done = promtool("test", "rules", tests)
    assert done.returncode != 0
    report = done.stdout + done.stderr
    assert {rule["alert"] for rule in RULES if rule["alert"] not in report} == set()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_say_how_loud_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(rule["annotations"]) == {"summary", "description"}


def test_alerts_use_metrics_that_exist() -> None:
    registries = (Metrics(app="imagegen", version="1", role="api").registry, ProcessesMetrics().registry)
    exposed = {
        family.name + suffix
        for registry in registries
        for family in registry.collect()
        for suffix in {"counter": ["_total"], "gauge": [""], "info": ["_info"]}.get(
            family.type, ["_bucket", "_count", "_sum"]
        )
    }
    used = {name for rule in RULES for name in re.findall(r"\bimagegen_\w+|\bgrpc_server_\w+", rule["expr"])}
    assert used, "no alert uses a metric"
    assert used - exposed == set()


def test_alerts_use_label_values_that_exist() -> None:
    known = {
        "outcome": {*AttemptOutcome, *TaskState},
        "job": {"imagegen"},
        "reason": {*Reason},
        "state": set(
            re.findall(r'state="(\w+)"', ProcessesMetrics().expose(listening=0, starting=0).decode())
        ),
    }
    for rule in RULES:
        for label, values in LABEL.findall(rule["expr"]):
            assert set(values.split("|")) <= known[label], rule["alert"]


def test_promtool_accepts_the_compose_configuration() -> None:
    done = promtool("check", "config", MONITORING / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_kubernetes_configuration(tmp_path: Path) -> None:
    config = document(MONITORING / "prometheus.kubernetes.yml")
    (job,) = config["scrape_configs"]
    # Some builds of promtool, Debian's for one, lack this kind of discovery: the rest is checked without it.
    assert job.pop("kubernetes_sd_configs") == [
        {"role": "pod", "selectors": [{"role": "pod", "label": "app.kubernetes.io/name=imagegen"}]}
    ]
    config["rule_files"] = [str(ALERTS)]
    without = tmp_path / "prometheus.yml"
    without.write_text(yaml.safe_dump(config))
    done = promtool("check", "config", without)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_targets_are_the_services() -> None:
    services = document(ROOT / "docker-compose.yml")["services"]
    (job,) = document(MONITORING / "prometheus.yml")["scrape_configs"]
    (targets,) = job["dns_sd_configs"]
    assert job["job_name"] == "imagegen"  # the alerts name it
    assert targets["names"] == [name for name in services if services[name].get("build")]
    assert targets["port"] == DEFAULTS.http_port
    assert "./monitoring:/etc/prometheus:ro" in services["prometheus"]["volumes"]


@pytest.mark.parametrize("role", ["api", "worker"])
def test_kubernetes_targets_are_the_pods(role: str) -> None:
    (job,) = document(MONITORING / "prometheus.kubernetes.yml")["scrape_configs"]
    assert job["job_name"] == "imagegen"
    template = manifest("Deployment", f"imagegen-{role}")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    # What discovery would offer for each declared port; exactly the side port must be kept.
    labels = {
        "__meta_kubernetes_pod_annotation_" + re.sub(r"\W", "_", name): value
        for name, value in template["metadata"]["annotations"].items()
    }
    kept = [
        port["containerPort"]
        for port in container["ports"]
        if all(
            re.fullmatch(
                rule["regex"],
                (labels | {"__meta_kubernetes_pod_container_port_name": port["name"]})[
                    rule["source_labels"][0]
                ],
            )
            for rule in job["relabel_configs"]
            if rule.get("action") == "keep"
        )
    ]
    assert kept == [DEFAULTS.http_port]
    key, _, value = job["kubernetes_sd_configs"][0]["selectors"][0]["label"].partition("=")
    assert template["metadata"]["labels"][key] == value

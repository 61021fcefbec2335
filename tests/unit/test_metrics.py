"""Metrics: what they are called, which series exist from the start, and that the text can be read."""

from __future__ import annotations

import re
from itertools import product

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from server.domain.errors import Reason
from server.domain.task import AttemptOutcome, TaskState
from server.metrics import Metrics

UNITS = ("_seconds", "_bytes", "_ratio", "_total", "_info", "_timestamp_seconds")
COUNTS = {"imagegen_queue_tasks", "imagegen_worker_slots", "imagegen_waiting_calls"}
STATES = {"imagegen_redis_up", "imagegen_store_up"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(
        app="pictures",
        version="1.2.3",
        role="api",
        models=["canvas", "sketch"],
        providers=["local", "ark"],
        reasons=[reason.value for reason in Reason],
        prices=[("ark", "canvas", "CNY"), ("local", "sketch", "USD")],
    )


def families(metrics: Metrics) -> dict[str, Metric]:
    """What a Prometheus would read, by name."""
    return {family.name: family for family in text_string_to_metric_families(metrics.expose().decode())}


def series(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """The samples of exactly this name: values by label values, in the order of the labels' names."""
    found = {}
    for family in families(metrics).values():
        for sample in family.samples:
            if sample.name == name:
                found[tuple(text for _, text in sorted(sample.labels.items()))] = sample.value
    return found


def test_names_have_one_prefix_and_say_their_unit(metrics: Metrics) -> None:
    for family in families(metrics).values():
        name = family.name + ("_total" if family.type == "counter" else "")
        assert re.fullmatch(r"[a-z][a-z_]*", name)
        assert name.startswith(("imagegen_", "grpc_server_"))
        assert name.endswith(UNITS) or name in COUNTS | STATES, name
        assert (family.type == "counter") == name.endswith("_total")
        assert family.documentation


def test_every_known_price_has_its_sum_from_the_start(metrics: Metrics) -> None:
    assert series(metrics, "imagegen_cost_total") == {
        ("CNY", "canvas", "ark"): 0,
        ("USD", "sketch", "local"): 0,
    }


def test_what_is_running_is_told(metrics: Metrics) -> None:
    info = families(metrics)["imagegen_build_info"]
    assert [sample.labels for sample in info.samples] == [
        {"app": "pictures", "version": "1.2.3", "role": "api"}
    ]


def test_series_exist_before_anything_happened(metrics: Metrics) -> None:
    providers = ("local", "ark")
    outcomes = [o.value for o in AttemptOutcome if o is not AttemptOutcome.CANCELLED]
    ends = [state.value for state in TaskState if state.terminal]
    wanted: dict[str, list[tuple[str, ...]]] = {
        "imagegen_tasks_submitted_total": [("canvas",), ("sketch",)],
        "imagegen_tasks_finished_total": [(end,) for end in ends],
        "imagegen_provider_requests_total": list(product(outcomes, providers)),
        "imagegen_provider_request_duration_seconds_count": [(name,) for name in providers],
        "imagegen_attempt_failures_total": list(product(providers, [reason.value for reason in Reason])),
        "imagegen_queue_tasks": [("ready",), ("leased",), ("delayed",)],
        "imagegen_worker_slots": [("busy",), ("free",)],
        "imagegen_stale_writes_total": [()],
        "imagegen_task_crashes_total": [()],
        "imagegen_leases_expired_total": [()],
        "imagegen_workers_lost_total": [()],
        "imagegen_task_wait_seconds_count": [()],
        "imagegen_task_duration_seconds_count": [()],
        "imagegen_redis_up": [()],
        "imagegen_store_up": [()],
    }
    for name, labels in wanted.items():
        found = series(metrics, name)
        assert sorted(found) == sorted(labels), name
        assert set(found.values()) == {0.0}, name


def test_buckets_fit_image_work(metrics: Metrics) -> None:
    metrics.provider_duration.labels("local").observe(61)
    buckets = series(metrics, "imagegen_provider_request_duration_seconds_bucket")
    bounds = sorted(float(bound) for bound, provider in buckets if provider == "local")
    assert bounds[0] == 0.25
    assert 300.0 in bounds
    assert buckets[("60.0", "local")] == 0
    assert buckets[("120.0", "local")] == 1


def test_a_count_is_a_count(metrics: Metrics) -> None:
    metrics.tasks_submitted.labels("canvas").inc()
    metrics.tasks_submitted.labels("canvas").inc()
    metrics.queue_tasks.labels("ready").set(7)
    assert series(metrics, "imagegen_tasks_submitted_total") == {("canvas",): 2, ("sketch",): 0}
    assert series(metrics, "imagegen_queue_tasks")[("ready",)] == 7


def test_processes_of_one_interpreter_do_not_share_series(metrics: Metrics) -> None:
    other = Metrics(app="pictures", version="1.2.3", role="worker", models=["canvas"])
    other.tasks_submitted.labels("canvas").inc()
    assert series(metrics, "imagegen_tasks_submitted_total")[("canvas",)] == 0

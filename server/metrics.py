"""Every instrument of the service, one object made per process.

Labels are closed sets known at start: models are catalogue ids, outcomes and states enum values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_TASK_SECONDS = (0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600)
_RPC_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5, 10, 30, 60, 300)
CONTENT_TYPE = CONTENT_TYPE_LATEST
Family = TypeVar("Family", Counter, Gauge, Histogram)
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The instruments; `expose` gives them in Prometheus' text format."""

    def __init__(
        self,
        *,
        app: str,
        version: str,
        role: str,
        models: Collection[str] = (),
        providers: Collection[str] = (),
        reasons: Collection[str] = (),
        prices: Collection[tuple[str, str, str]] = (),
    ) -> None:
        """`prices`: provider, model and currency of every price that is known."""
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return _found_once(Counter(name, text, labels, registry=registry))

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return _found_once(Gauge(name, text, labels, registry=registry))

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return _found_once(Histogram(name, text, labels, buckets=buckets, registry=registry))

        build = Info("imagegen_build", "What is running.", registry=registry)
        build.info({"app": app, "version": version, "role": role})
        self.tasks_submitted = counter("imagegen_tasks_submitted_total", "Tasks accepted, by model.", "model")
        self.tasks_finished = counter(
            "imagegen_tasks_finished_total",
            "Tasks this process ended, by the state they ended in.",
            "outcome",
        )
        self.task_wait = histogram(
            "imagegen_task_wait_seconds",
            "From acceptance to the first attempt.",
            (0.005, 0.02, 0.1, *_TASK_SECONDS),
        )
        self.task_duration = histogram(
            "imagegen_task_duration_seconds", "From acceptance to the task's end.", _TASK_SECONDS
        )
        self.provider_duration = histogram(
            "imagegen_provider_request_duration_seconds",
            "One attempt: its calls, fetches and the storing of its images.",
            _TASK_SECONDS,
            "provider",
        )
        self.provider_requests = counter(
            "imagegen_provider_requests_total",
            "Attempts that ended by themselves, neither cancelled nor stopped, by how.",
            "provider",
            "outcome",
        )
        self.attempt_failures = counter(
            "imagegen_attempt_failures_total", "Attempts that failed, by why.", "provider", "reason"
        )
        self.paid_calls = counter(
            "imagegen_paid_calls_total",
            "Calls that cost money, by what became of them: charged, in_doubt, or refused and free.",
            "provider",
            "end",
        )
        self.cost = counter(
            "imagegen_cost_total",
            "What the pictures stored by this process cost, in the currency's unit, where a price is known.",
            "provider",
            "model",
            "currency",
        )
        self.results_recovered = counter(
            "imagegen_results_recovered_total",
            "Results that were bought by an earlier attempt and not bought again, by what named them.",
            "source",
        )
        self.queue_tasks = gauge(
            "imagegen_queue_tasks", "Tasks in the queue; the same from every process: take the max.", "state"
        )
        self.oldest_ready_age = gauge(
            "imagegen_oldest_ready_task_age_seconds", "Age of the oldest task that is ready and unclaimed."
        )
        self.leases_expired = counter(
            "imagegen_leases_expired_total", "Leases that ran out and were resolved."
        )
        self.workers_lost = counter("imagegen_workers_lost_total", "Workers this process declared lost.")
        self.queue_rebuilds = counter(
            "imagegen_queue_rebuilds_total", "Rebuilds of the queue from the store."
        )
        self.queue_repaired = counter("imagegen_queue_repaired_total", "Entries the sweep put right.")
        self.stale_writes = counter(
            "imagegen_stale_writes_total", "Writes the store refused because a successor had taken over."
        )
        self.task_crashes = counter(
            "imagegen_task_crashes_total",
            "Tasks that ran into a bug of the worker and were left to their lease.",
        )
        self.worker_slots = gauge("imagegen_worker_slots", "Slots of this worker.", "state")
        self.waiting_calls = gauge(
            "imagegen_waiting_calls", "Calls that wait for a task's end in this process."
        )
        self.redis_up = gauge("imagegen_redis_up", "1 while Redis answers.")
        self.store_up = gauge("imagegen_store_up", "1 while the task store takes writes.")
        self.rpc_handled = counter(
            "grpc_server_handled_total", "RPCs answered, by code.", "grpc_method", "grpc_code"
        )
        self.rpc_seconds = histogram(
            "grpc_server_handling_seconds", "RPCs from request to answer.", _RPC_SECONDS, "grpc_method"
        )
        for model in models:
            self.tasks_submitted.labels(model)
        for provider in providers:
            self.provider_duration.labels(provider)
            for outcome in ("SUCCEEDED", "NOT_SENT", "REJECTED", "IN_DOUBT"):
                self.provider_requests.labels(provider, outcome)
            for end in ("charged", "in_doubt", "refused"):
                self.paid_calls.labels(provider, end)
            for reason in reasons:
                self.attempt_failures.labels(provider, reason)
        for labels in prices:
            self.cost.labels(*labels)
        for outcome in ("COMPLETED", "FAILED", "CANCELLED"):
            self.tasks_finished.labels(outcome)
        for source in ("receipt", "file"):
            self.results_recovered.labels(source)
        for state in ("ready", "leased", "delayed"):
            self.queue_tasks.labels(state)
        for state in ("busy", "free"):
            self.worker_slots.labels(state)

    def expose(self) -> bytes:
        """Everything, as `/metrics` answers it."""
        return generate_latest(self.registry)


def _found_once(metric: Family) -> Family:
    # A child lives as long as its family here; finding one again by locks and strings takes 5 µs, and a
    # call does it twice, a task half a dozen times.
    metric.labels = cache(metric.labels)  # type: ignore[method-assign]
    return metric


class ProcessesMetrics:
    """What the supervisor of several processes itself has to say, also while none of them answers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._processes = Gauge(
            "imagegen_api_processes",
            "Processes of `--processes`: those that take calls, and those that start or are about to.",
            ["state"],
            registry=self.registry,
        )

    def expose(self, *, listening: int, starting: int) -> bytes:
        """The numbers as they are now, as `/metrics` answers them."""
        self._processes.labels("listening").set(listening)
        self._processes.labels("starting").set(starting)
        return generate_latest(self.registry)


def exposed_together(texts: Mapping[str, bytes]) -> bytes:
    """What several processes expose, by their names, as one answer: every series with the label `process`.

    They are not added up: a sum would fall when one process starts anew, which no counter may, and what is
    the same from every process would count twice.
    """
    return generate_latest(_Together(texts))


class _Together(Collector):
    def __init__(self, texts: Mapping[str, bytes]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Metric]:
        together: dict[str, Metric] = {}
        for process, text in self._texts.items():
            for family in text_string_to_metric_families(text.decode()):
                metric = Metric(family.name, family.documentation, family.type)
                together.setdefault(family.name, metric).samples += [
                    sample._replace(labels={**sample.labels, "process": process}) for sample in family.samples
                ]
        return together.values()

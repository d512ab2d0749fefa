"""Metrics for Prometheus: counters of predictions, gauges of versions and jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.engine.serving.router import Router
from pipeline.engine.store import JobRow, Store
from pipeline.engine.supervision import FAILURES
from pipeline.engine.telemetry.traffic import Traffic

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PICTURES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one engine.

    Args:
        store: Holds the jobs.
        router: Holds the versions.
        sandbox: Restricts jobs and models.
        traffic: Counts what clients ask.
    """

    def __init__(self, store: Store, router: Router, sandbox: Sandbox, traffic: Traffic) -> None:
        self._registry = CollectorRegistry()
        self._router = router
        counter = partial(Counter, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry)
        by_version = ("model", "version")
        self._predictions = counter("graft_predictions", "Predictions answered.", (*by_version, "code"))
        self._seconds = histogram(
            "graft_prediction_seconds", "From body to answer.", by_version, buckets=SECONDS
        )
        self._batches = histogram(
            "graft_batch_pictures", "Pictures in a forward pass.", by_version, buckets=PICTURES
        )
        self._http = counter("graft_http_requests", "HTTP requests answered.", ("method", "code"))
        restricted = Gauge(
            "graft_sandbox",
            "1 if jobs and models are restricted.",
            ("mode", "landlock"),
            registry=self._registry,
        )
        restricted.labels(sandbox.mode, str(sandbox.abi)).set(sandbox.is_active)
        self._registry.register(_State(store, router, traffic))
        self._registry.register(FAILURES)
        self._labels: set[tuple[str, str, str]] = set()

    def count_prediction(self, name: str, *, code: int, seconds: float, batches: Sequence[int] = ()) -> None:
        """Count one online prediction of a version, and the forward passes that its worker reported."""
        model, _, version = name.partition("/")
        self._labels.add((model, version, str(code)))
        self._predictions.labels(model, version, str(code)).inc()
        self._seconds.labels(model, version).observe(seconds)
        for size in batches:
            self._batches.labels(model, version).observe(size)

    def count_request(self, method: str, code: int) -> None:
        """Count one HTTP request; a method that HTTP does not define is `other`."""
        is_standard = method in ("GET", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "PUT")
        self._http.labels(method if is_standard else "other", str(code)).inc()

    def render(self) -> bytes:
        """Return the text that Prometheus reads, without the versions that are gone."""
        served = {(model, version) for model, version, _ in self._router.versions()}
        for model, version, code in [each for each in self._labels if each[:2] not in served]:
            self._labels.discard((model, version, code))
            self._predictions.remove(model, version, code)
            self._seconds.remove(model, version)
            self._batches.remove(model, version)
        return generate_latest(self._registry)


class _State(Collector):
    """Figures that are computed when they are collected."""

    def __init__(self, store: Store, router: Router, traffic: Traffic) -> None:
        self._store = store
        self._router = router
        self._traffic = traffic

    def collect(self) -> Iterator[Metric]:
        loaded = GaugeMetricFamily(
            "graft_version_loaded", "1 while a version is loaded.", labels=("model", "version", "runtime")
        )
        waiting = GaugeMetricFamily(
            "graft_predictions_in_flight",
            "Predictions not yet answered, waiting ones counted.",
            labels=("model", "version"),
        )
        damaged = GaugeMetricFamily(
            "graft_version_damaged",
            "1 while the files of a version are damaged and it is refused.",
            labels=("model", "version"),
        )
        for model, version, deployment in self._router.versions():
            damaged.add_metric((model, version), int(bool(deployment.damage)))
            loaded.add_metric((model, version, deployment.runtime), int(deployment.is_loaded))
            waiting.add_metric((model, version), deployment.in_flight)
        yield loaded
        yield damaged
        yield waiting
        yield self._jobs()
        answered = CounterMetricFamily(
            "graft_model_predictions",
            "Predictions answered for clients since the model was made, across restarts.",
            labels=("model",),
        )
        for name, count in self._traffic.counts.items():
            answered.add_metric((name,), count)
        yield answered

    def _jobs(self) -> GaugeMetricFamily:
        jobs = GaugeMetricFamily("graft_jobs", "Jobs by kind and state.", labels=("kind", "state"))
        with self._store.begin() as session:
            query = select(JobRow.kind, JobRow.state, func.count()).group_by(JobRow.kind, JobRow.state)
            for kind, state, count in session.execute(query):
                jobs.add_metric((str(kind), str(state)), count)
        return jobs

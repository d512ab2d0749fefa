"""Metrics for Prometheus: predictions as they are answered, versions and jobs as they are when asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.engine.store import Job, Store

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PICTURES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Served(Protocol):
    """A version as the metrics see it."""

    @property
    def runtime(self) -> str:
        """Return what runs it."""

    @property
    def is_loaded(self) -> bool:
        """Return True if a worker has it in memory."""

    @property
    def in_flight(self) -> int:
        """Return how many predictions are not yet answered."""


class Versions(Protocol):
    """Where the versions are: the router."""

    def versions(self) -> Iterable[tuple[str, str, Served]]:
        """Return model, version and what serves it."""


class Metrics:
    """The metrics of one engine.

    Args:
        store: Knows the jobs.
        router: Knows the versions.
        sandbox: What restricts jobs and models.
    """

    def __init__(self, store: Store, router: Versions, sandbox: Sandbox) -> None:
        self._registry = CollectorRegistry()
        self._router = router
        given: dict[str, Any] = {"registry": self._registry}
        by_version = ("model", "version")
        self._predictions = Counter(
            "graft_predictions", "Predictions answered.", (*by_version, "code"), **given
        )
        self._seconds = Histogram(
            "graft_prediction_seconds", "From body to answer.", by_version, buckets=SECONDS, **given
        )
        self._batches = Histogram(
            "graft_batch_pictures", "Pictures in a forward pass.", by_version, buckets=PICTURES, **given
        )
        self._http = Counter("graft_http_requests", "HTTP requests answered.", ("method", "code"), **given)
        held = Gauge("graft_sandbox", "1 if jobs and models are restricted.", ("mode", "landlock"), **given)
        held.labels(sandbox.mode, str(sandbox.abi)).set(sandbox.is_active)
        self._registry.register(_State(store, router))
        self._seen: set[tuple[str, str, str]] = set()

    def count_prediction(
        self, name: str, *, code: int, seconds: float, batches: list[int] | None = None
    ) -> None:
        """Count one online prediction of a version, and the forward passes its worker told with it."""
        model, _, version = name.partition("/")
        self._seen.add((model, version, str(code)))
        self._predictions.labels(model, version, str(code)).inc()
        self._seconds.labels(model, version).observe(seconds)
        for size in batches or ():
            self._batches.labels(model, version).observe(size)

    def count_request(self, method: str, code: int) -> None:
        """Count one HTTP request; a method of the client's own invention is `other`."""
        known = method in ("GET", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "PUT")
        self._http.labels(method if known else "other", str(code)).inc()

    def render(self) -> bytes:
        """Return the text that Prometheus reads, without the versions that are gone."""
        served = {(model, version) for model, version, _ in self._router.versions()}
        for model, version, code in [each for each in self._seen if each[:2] not in served]:
            self._seen.discard((model, version, code))
            self._predictions.remove(model, version, code)
            self._seconds.remove(model, version)
            self._batches.remove(model, version)
        return generate_latest(self._registry)


class _State(Collector):
    """What is counted at the moment it is asked for."""

    def __init__(self, store: Store, router: Versions) -> None:
        self._store = store
        self._router = router

    def collect(self) -> Iterator[GaugeMetricFamily]:
        loaded = GaugeMetricFamily(
            "graft_version_loaded", "1 while a version is loaded.", labels=("model", "version", "runtime")
        )
        waiting = GaugeMetricFamily(
            "graft_predictions_in_flight",
            "Predictions not yet answered, waiting ones counted.",
            labels=("model", "version"),
        )
        for model, version, served in self._router.versions():
            loaded.add_metric((model, version, served.runtime), int(served.is_loaded))
            waiting.add_metric((model, version), served.in_flight)
        yield loaded
        yield waiting
        yield self._jobs()

    def _jobs(self) -> GaugeMetricFamily:
        jobs = GaugeMetricFamily("graft_jobs", "Jobs by kind and state.", labels=("kind", "state"))
        with self._store.begin() as session:
            query = select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state)
            for kind, state, count in session.execute(query):
                jobs.add_metric((str(kind), str(state)), count)
        return jobs

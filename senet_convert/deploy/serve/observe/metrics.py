"""Prometheus metrics: Triton's names for models, read from their counts when they are asked for, and HTTP's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Scope

from ..models.repository import READY, Repository
from ..models.stats import BOUNDS, Spread, Stats
from ..openapi.operation import Operation
from . import logs

MODEL = ("model", "version")
OTHER = "other"  # the route of what is no route of ours: the names of labels are not the clients' to choose
_TRITONS = re.compile(rb"\b(nv_\w+)_total\b")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# Triton's counters: name, what it says, and where it is in a model's counts; durations are in microseconds.
_COUNTS: dict[str, tuple[str, Callable[[Stats], float]]] = {
    "nv_inference_request_success": ("Requests that were answered", lambda stats: stats.success.count),
    "nv_inference_count": ("Items that were computed", lambda stats: stats.inferences),
    "nv_inference_exec_count": ("Runs of the model", lambda stats: stats.executions),
    "nv_inference_request_duration_us": ("Time of answered requests", lambda stats: _us(stats.success.ns)),
    "nv_inference_queue_duration_us": ("Time in the queue", lambda stats: _us(stats.stages["queue"].ns)),
    "nv_inference_compute_input_duration_us": (
        "Time of joining inputs",
        lambda stats: _us(stats.stages["compute_input"].ns),
    ),
    "nv_inference_compute_infer_duration_us": ("Time of runs", lambda stats: _us(stats.stages["compute_infer"].ns)),
    "nv_inference_compute_output_duration_us": (
        "Time of cutting outputs",
        lambda stats: _us(stats.stages["compute_output"].ns),
    ),
}
_SPREADS: dict[str, tuple[str, Callable[[Stats], Spread]]] = {
    "senet_convert_request_seconds": ("Time of an answered request", lambda stats: stats.latency),
    "senet_convert_queue_seconds": ("Its time in the queue", lambda stats: stats.waits),
}


class Metrics:
    """What a server counts, and how it is told."""

    def __init__(self, repository: Repository) -> None:
        """A registry of its own: several servers in one process do not mix."""
        self._registry = CollectorRegistry()
        self._registry.register(_Models(repository))
        ProcessCollector(registry=self._registry)
        labels = ("route", "method", "status")
        self._answers = Counter("senet_convert_http_responses", "Answers over HTTP", labels, registry=self._registry)
        self._times = Histogram(
            "senet_convert_http_seconds", "Time until an answer", ("route",), registry=self._registry, buckets=BOUNDS
        )
        lost = Gauge("senet_convert_log_lines_dropped", "Lines of the log that nobody took", registry=self._registry)
        lost.set_function(logs.dropped)
        self._calls = Counter(
            "senet_convert_grpc_responses", "Answers over gRPC", ("method", "code"), registry=self._registry
        )
        self._call_times = Histogram(
            "senet_convert_grpc_seconds", "Time until an answer", ("method",), registry=self._registry, buckets=BOUNDS
        )
        self._grpc: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._routes: dict[object, str] = {}

    def learn(self, routes: Iterable[BaseRoute]) -> None:
        """The routes by whose paths answers are counted."""
        for route in routes:
            if isinstance(route, Route):
                self._routes.setdefault(route.endpoint, route.path)
            elif isinstance(route, Mount):
                self._routes.setdefault(route.app, f"{route.path}/*")

    def route(self, scope: Scope) -> str:
        """The path of the route that a request has taken, OTHER for none."""
        return self._routes.get(scope.get("endpoint"), OTHER)

    def http(self, scope: Scope, status: int, seconds: float) -> None:
        """Count an answer."""
        route = self.route(scope)
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        self._answers.labels(route, method, str(status)).inc()
        self._times.labels(route).observe(seconds)

    def grpc(self, method: str, code: str, seconds: float) -> None:
        """Count an answer; `method` is one of ours, or OTHER."""
        if (method, code) not in self._grpc:
            self._grpc[method, code] = self._calls.labels(method, code), self._call_times.labels(method)
        count, times = self._grpc[method, code]
        count.inc()
        times.observe(seconds)

    def text(self) -> bytes:
        """Everything, in Prometheus' text form. Triton's counters do not end in _total, which the library adds."""
        return _TRITONS.sub(rb"\1", generate_latest(self._registry))


class _Models(Collector):
    """Reads the models' counts when they are asked for: a request costs no more for being counted twice."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def collect(self) -> Iterable[Metric]:
        """The families of all models."""
        totals = self._repository.totals()
        for name, (text, read) in _COUNTS.items():
            counter = CounterMetricFamily(name, text, labels=MODEL)
            for model, version, stats in totals:
                counter.add_metric([model, version], read(stats))
            yield counter
        yield _failures(totals)
        pending = GaugeMetricFamily(
            "nv_inference_pending_request_count", "Requests that wait or are computed", labels=MODEL
        )
        for model, version, stats in totals:
            pending.add_metric([model, version], stats.pending)
        yield pending
        for name, (text, spread) in _SPREADS.items():
            histogram = HistogramMetricFamily(name, text, labels=MODEL)
            for model, version, stats in totals:
                found = spread(stats)
                histogram.add_metric([model, version], _buckets(found), found.seconds)
            yield histogram
        yield from self._loaded()

    def _loaded(self) -> Iterable[Metric]:
        loaded = GaugeMetricFamily("senet_convert_model_ready", "1 for a version that answers", labels=MODEL)
        for row in self._repository.index():
            loaded.add_metric([row["name"], row["version"]], float(row["state"] == READY))
        yield loaded
        stuck = GaugeMetricFamily(
            "senet_convert_model_stuck_instances", "Instances whose run was ended by force, just now", labels=MODEL
        )
        for running in self._repository.all():
            stuck.add_metric([running.served.name, running.served.version], running.batcher.stuck)
        yield stuck


def routes() -> list[BaseRoute]:
    """GET /metrics."""
    return [
        Operation(
            "GET",
            "/metrics",
            _metrics,
            "Counts and durations for Prometheus",
            tag="operation",
            answers={200: {"text/plain": {"type": "string"}}},
        )
    ]


async def _metrics(request: Request) -> Response:
    return Response(request.app.state.server.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _failures(totals: list[tuple[str, str, Stats]]) -> Metric:
    failures = CounterMetricFamily(
        "nv_inference_request_failure", "Requests that failed, by reason", labels=(*MODEL, "reason")
    )
    for model, version, stats in totals:
        for reason, count in sorted(stats.reasons.items()):
            failures.add_metric([model, version, reason], count)
    return failures


def _buckets(spread: Spread) -> list[tuple[str, float]]:
    found, below = [], 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), spread.counts, strict=True):
        below += count
        found.append((bound, float(below)))
    return found


def _us(ns: int) -> float:
    return ns / 1000

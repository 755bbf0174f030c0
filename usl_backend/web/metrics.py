"""What Prometheus reads: sums that the processes of runs left in the store, and how things stand. Nothing counts here.

Runs are computed in processes that end, so their counters live in the run store and not in a client's memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request
from prometheus_client import GC_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from usl_backend.jobs.tally import BOUNDS
from usl_backend.runs import RunState
from usl_backend.web.services import services

if TYPE_CHECKING:
    from usl_backend.runs import RunStore

blueprint = Blueprint("metrics", __name__)

_Sums = dict[tuple[tuple[str, str], ...], float]
"""Labels -> value."""


@blueprint.get("/metrics")
def metrics() -> Response:
    """Metrics for Prometheus: runs by state, stage seconds, tasks, retries, Label Studio's latency, disk, memory."""
    registry = CollectorRegistry()
    registry.register(PROCESS_COLLECTOR)
    registry.register(GC_COLLECTOR)
    registry.register(_Runs(services().store))
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry), content_type=content_type)


class _Runs(Collector):
    """What is known of the runs of a data directory."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Every family, read from the store at this moment."""
        sums: dict[str, _Sums] = {}
        for count in self._store.counts():
            sums.setdefault(count.name, {})[tuple(sorted(count.labels.items()))] = count.value
        yield from self._now()
        yield _summary(sums.get("stage_seconds", {}), sums.get("stages", {}))
        for name, label, text in (
            ("tasks", "outcome", "Tasks that runs have read, or skipped because they could not be read."),
            ("embeddings", "", "Embeddings computed; those found in the cache do not count."),
            ("studio_retries", "", "Requests to Label Studio that were repeated."),
        ):
            family = CounterMetricFamily(f"usl_{name}", text, labels=[label] if label else [])
            for labels, value in sums.get(name, {}).items():
                family.add_metric([text for _, text in labels], value)
            yield family
        requests = CounterMetricFamily(
            "usl_studio_requests",
            "Requests of runs to Label Studio; status 0 where no answer came.",
            labels=["method", "status"],
        )
        for labels, value in sums.get("studio_requests", {}).items():
            requests.add_metric([text for _, text in labels], value)
        yield requests
        yield _histogram(sums.get("studio_latencies", {}), sums.get("studio_seconds", {}).get((), 0.0))

    def _now(self) -> Iterator[Metric]:
        """How things stand."""
        states = self._store.count_by_state()
        runs = GaugeMetricFamily("usl_runs", "Runs in the record, by state.", labels=["state"])
        for state in RunState:
            runs.add_metric([state.value], states.get(state, 0))
        yield runs
        free = shutil.disk_usage(self._store.directory).free
        yield GaugeMetricFamily("usl_disk_free_bytes", "Free space where the data directory is.", free)


def _summary(seconds: _Sums, ended: _Sums) -> Metric:
    """Seconds per stage."""
    family = SummaryMetricFamily(
        "usl_stage_seconds", "Time that completed stages of runs took.", labels=["stage"]
    )
    for labels, total in seconds.items():
        family.add_metric([text for _, text in labels], int(ended.get(labels, 0)), total)
    return family


def _histogram(counted: _Sums, total: float) -> Metric:
    """Latency of Label Studio, cumulated as Prometheus wants it."""
    buckets: list[tuple[str, float]] = []
    below = 0.0
    for bound in (*map(str, BOUNDS), "+Inf"):
        below += counted.get((("le", bound),), 0.0)
        buckets.append((bound, below))
    family = HistogramMetricFamily("usl_studio_request_seconds", "Time until Label Studio's answer began.")
    family.add_metric([], buckets, total)
    return family

"""Prometheus metrics: sums that runs have stored, and the current state.

Runs are computed in short-lived processes, so their counters are kept in the run store and not in memory.
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
"""Values by labels."""


@blueprint.get("/metrics")
def metrics() -> Response:
    """Return metrics for Prometheus: runs by state, stage seconds, tasks, retries, Studio latency, disk, memory."""
    registry = CollectorRegistry()
    registry.register(PROCESS_COLLECTOR)
    registry.register(GC_COLLECTOR)
    registry.register(_Runs(services().store))
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry), content_type=content_type)


class _Runs(Collector):
    """Collector for the runs of a data directory."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family, read from the store now."""
        sums: dict[str, _Sums] = {}
        for count in self._store.counts():
            sums.setdefault(count.name, {})[tuple(sorted(count.labels.items()))] = count.value
        yield from self._now()
        yield _summary(sums.get("stage_seconds", {}), sums.get("stages", {}))
        for name, label, text in (
            ("tasks", "outcome", "Tasks read by runs, or skipped because they could not be read."),
            ("embeddings", "", "Embeddings computed, not counting those found in the cache."),
            ("studio_retries", "", "Retries of requests to Label Studio."),
        ):
            family = CounterMetricFamily(f"usl_{name}", text, labels=[label] if label else [])
            for labels, value in sums.get(name, {}).items():
                family.add_metric([text for _, text in labels], value)
            yield family
        requests = CounterMetricFamily(
            "usl_studio_requests",
            "Requests of runs to Label Studio; status 0 if no response came.",
            labels=["method", "status"],
        )
        for labels, value in sums.get("studio_requests", {}).items():
            requests.add_metric([text for _, text in labels], value)
        yield requests
        yield _histogram(sums.get("studio_latencies", {}), sums.get("studio_seconds", {}).get((), 0.0))

    def _now(self) -> Iterator[Metric]:
        """Yield the gauges of the current state."""
        states = self._store.count_by_state()
        runs = GaugeMetricFamily("usl_runs", "Runs in the record, by state.", labels=["state"])
        for state in RunState:
            runs.add_metric([state.value], states.get(state, 0))
        yield runs
        free = shutil.disk_usage(self._store.directory).free
        yield GaugeMetricFamily("usl_disk_free_bytes", "Free space on the disk of the data directory.", free)


def _summary(seconds: _Sums, ended: _Sums) -> Metric:
    """Return the seconds per stage."""
    family = SummaryMetricFamily(
        "usl_stage_seconds", "Duration of completed stages of runs.", labels=["stage"]
    )
    for labels, total in seconds.items():
        family.add_metric([text for _, text in labels], int(ended.get(labels, 0)), total)
    return family


def _histogram(counted: _Sums, total: float) -> Metric:
    """Return Label Studio's latency with cumulative buckets, as Prometheus expects."""
    buckets: list[tuple[str, float]] = []
    below = 0.0
    for bound in (*map(str, BOUNDS), "+Inf"):
        below += counted.get((("le", bound),), 0.0)
        buckets.append((bound, below))
    family = HistogramMetricFamily("usl_studio_request_seconds", "Time to Label Studio's response headers.")
    family.add_metric([], buckets, total)
    return family

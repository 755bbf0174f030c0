import pytest
from prometheus_client.parser import text_string_to_metric_families

from usl_backend.jobs.tally import Tally
from usl_backend.runs import RunState
from usl_backend.runs.counters import Count


@pytest.fixture
def samples(client):
    """What Prometheus understands of /metrics: {(name, labels): value}."""

    def read():
        answer = client.get("/metrics")
        assert answer.status_code == 200
        assert answer.mimetype == "text/plain"
        return {
            (one.name, *sorted(one.labels.values())): one.value
            for family in text_string_to_metric_families(answer.text)
            for one in family.samples
        }

    return read


def test_metrics__runs_by_state(samples, store):
    assert {samples()["usl_runs", state.value] for state in RunState} == {0}
    for project in (1, 2, 3):
        store.create(project=project, settings={})
    store.claim_next(1)
    found = samples()
    assert (found["usl_runs", "running"], found["usl_runs", "queued"]) == (1, 2)


def test_metrics__what_other_processes_counted(samples, store):
    store.add_counts(
        [Count("stages", 1, {"stage": "embed"}), Count("stage_seconds", 12.5, {"stage": "embed"})]
    )
    store.add_counts(
        [Count("stages", 1, {"stage": "embed"}), Count("stage_seconds", 2.5, {"stage": "embed"})]
    )
    store.add_counts([Count("tasks", 90, {"outcome": "read"}), Count("tasks", 3, {"outcome": "skipped"})])
    store.add_counts([Count("embeddings", 80, {})])
    found = samples()
    assert (found["usl_stage_seconds_sum", "embed"], found["usl_stage_seconds_count", "embed"]) == (15.0, 2)
    assert (found["usl_tasks_total", "read"], found["usl_tasks_total", "skipped"]) == (90, 3)
    assert found["usl_embeddings_total",] == 80


def test_metrics__latency_of_label_studio_is_cumulated(samples, store):
    tally = Tally(store)
    for seconds in (0.01, 0.05, 0.3, 70.0):
        tally.request(method="GET", status=200, seconds=seconds, attempt=int(seconds > 0.2))
    tally.close()
    found = samples()
    buckets = [
        found["usl_studio_request_seconds_bucket", bound] for bound in ("0.05", "0.1", "0.5", "60.0", "+Inf")
    ]
    assert buckets == [2, 2, 3, 3, 4]
    assert found["usl_studio_request_seconds_count",] == 4
    assert found["usl_studio_request_seconds_sum",] == pytest.approx(70.36)
    assert found["usl_studio_requests_total", "200", "GET"] == 4
    assert found["usl_studio_retries_total",] == 2


def test_metrics__disk_and_this_process(samples):
    found = samples()
    assert found["usl_disk_free_bytes",] > 0
    assert found["process_resident_memory_bytes",] > 1e6


def test_metrics__open_metrics_for_who_asks(client):
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.mimetype == "application/openmetrics-text"
    assert answer.text.endswith("# EOF\n")

import socket
import time

import pytest

from usl_backend.runs.inventory import Inventory
from usl_backend.runs.summary import ProjectNote, Summary
from usl_backend.web import create_app
from usl_backend.web.api import exports


def test_export_run__unknown_run_is_a_404(client):
    assert client.get("/usl/api/runs/12-1/export").status_code == 404


@pytest.mark.parametrize("dry_run", [False, True])
def test_export_run__unfinished_or_dry_run_is_refused_by_name(client, store, dry_run):
    run = store.create(project=12, settings={}, dry_run=dry_run)
    answer = client.get(f"/usl/api/runs/{run.id}/export?format=csv")
    assert answer.status_code == 400
    message = answer.json["error"]["message"]
    assert message == f"run 12-1 is {'a dry run' if dry_run else 'queued, not done'}; export a completed run"


def test_export_run__bad_switch_is_a_400(client, store):
    run = store.create(project=12, settings={})
    answer = client.get(f"/usl/api/runs/{run.id}/export?include_labeled=maybe")
    assert (answer.status_code, answer.json["error"]["message"]) == (
        400,
        'include_labeled is "maybe"; give true or false',
    )


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("suggested=maybe", 'suggested is "maybe"; give true or false'),
        ("min_confidence=0.9", "min_confidence is about suggestions; give suggested=true too"),
        ("suggested=true&min_confidence=much", 'min_confidence is "much"; give a share such as 0.9'),
        ("suggested=true&format=eman", "eman cannot hold suggested labels"),
        ("suggested=true&format=nothing", "nothing cannot hold suggested labels"),
    ],
)
def test_export_run__what_cannot_be_asked_of_suggestions(client, store, query, said):
    run = store.create(project=12, settings={})
    answer = client.get(f"/usl/api/runs/{run.id}/export?{query}")
    assert answer.status_code == 400
    assert said in answer.json["error"]["message"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("query", ["format=csv", "format=csv&suggested=true"])
def test_export_run__a_silent_label_studio_is_told_in_time(host, jobs, store, monkeypatch, query):
    monkeypatch.setattr(exports, "STUDIO_SECONDS", 0.5)
    run = store.claim(store.create(project=12, settings={}).id)
    store.files(run.id).write_instances([], Inventory(id=12, key="12.100"))
    store.finish(run.id, Summary(project=ProjectNote(id=12, key="12.100")))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = create_app(host.model_copy(update={"label_studio_url": address}), jobs).test_client()
        began = time.monotonic()
        answer = client.get(f"/usl/api/runs/{run.id}/export?{query}")
    assert time.monotonic() - began < 10
    assert answer.status_code == 502
    said = answer.json["error"]["message"]
    assert said == (
        f"Label Studio at {address} did not answer GET /api/projects/12/ in time: usl-backend waits 0.5 s here; "
        "check whether Label Studio is overloaded"
    )

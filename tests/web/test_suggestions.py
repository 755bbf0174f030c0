"""Suggestions asked for by pages and scripts; the process that makes them is replaced by one that waits or fails."""

import json
import time

import pytest
from page_forms import form_of

from usl_backend.instances import Queue, QueueState
from usl_backend.jobs import side_process
from usl_backend.runs import RunStore
from usl_backend.runs.lock import Lock
from usl_backend.runs.published import Published
from usl_backend.runs.suggest_job import SuggestJob, lock_of, read_job, write_job
from usl_backend.runs.summary import ProjectNote, Summary

PATH = "/usl/api/projects/12/suggestions"


@pytest.fixture
def run(store: RunStore):
    run = store.claim(store.create(project=12, project_key="12.100", settings={"seed": 1}).id)
    store.files(run.id).write_published(Published(Queue.of([1, 2])))
    store.finish(run.id, Summary(ProjectNote(12, "12.100", "Pets"), model_version="usl-12-1"))
    store.save_queue_state("12.100", QueueState(run.id, "usl-12-1", "u", 7, None, "s", None))
    return store.get(run.id)


def ended(store, run):
    """The record once the process is gone."""
    until = time.monotonic() + 60
    while (job := read_job(store.files(run.id))).state == "running":
        assert time.monotonic() < until
        time.sleep(0.05)
    return job


def test_start__process_records_its_failure_without_secrets(
    client, store, run, refusing_studio, host, monkeypatch
):
    monkeypatch.setattr(side_process, "child_environment", lambda host: child_with(host, refusing_studio))
    response = client.post(PATH, json={"review": True, "accept": 0.9})
    assert response.status_code == 202
    assert response.headers["Location"] == PATH
    assert response.json["state"] == "running"
    assert response.json["request"] == {
        "dry_run": False, "review": True, "accept": 0.9, "annotate": False, "control": None,
    }  # fmt: skip
    assert client.post(PATH, json={}).status_code == 409
    job = ended(store, run)
    assert job.state == "failed"
    assert job.error["type"] == "StudioAuthError"
    assert "tok-secret-123" not in client.get(PATH).text + client.get(f"/usl/runs/{run.id}").text
    assert job.error["message"][:20] in client.get(f"/usl/runs/{run.id}").text


def child_with(host, url):
    from usl_backend.jobs.environment import child_environment

    return child_environment(host.model_copy(update={"label_studio_url": url}))


def test_start__button_asks_for_the_same(client, store, run, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "usl_backend.web.suggest_pages.start_suggesting", lambda *given: asked.append(given[2:])
    )
    page = f"/usl/runs/{run.id}"
    told = client.post(f"{page}/suggestions", data={**form_of(client, page), "review": "on", "accept": "0.9"})
    assert told.status_code == 303
    ((of, wanted),) = asked
    assert (of.id, wanted.review, wanted.accept, wanted.annotate) == (run.id, True, 0.9, False)
    assert client.post(f"{page}/suggestions", data={"review": "on"}).status_code == 403
    told = client.post(f"{page}/suggestions", data={**form_of(client, page), "accept": "most"})
    assert told.status_code == 400


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"accept": 95}, "accept is 95; give a share between 0 and 1"),
        ({"accept": True}, "accept is 'True'; give a share such as 0.95"),
        ({"review": 1}, "review is '1'; give true or false"),
        ({"annotate": True}, "annotate needs accept"),
        ({"revew": True}, '"revew" is not known here'),
    ],
)
def test_start__bad_requests_start_nothing(client, store, run, body, message):
    response = client.post(PATH, json=body)
    assert response.status_code == 400
    assert message in response.json["error"]["message"]
    assert read_job(store.files(run.id)) is None


def test_start__needs_a_completed_run_and_no_active_one(client, store, run):
    assert client.post("/usl/api/projects/13/suggestions", json={}).status_code == 409
    assert client.get(PATH).status_code == 404
    store.create(project=12, project_key="12.100", settings={})
    assert client.post(PATH, json={}).status_code == 409
    assert read_job(store.files(run.id)) is None


def test_start__for_the_run_in_force_and_not_the_newest(client, store, run, monkeypatch):
    later = store.claim(store.create(project=12, project_key="12.100", settings={"seed": 2}).id)
    store.files(later.id).write_published(Published(Queue.of([1, 2])))
    store.finish(later.id, Summary(ProjectNote(12, "12.100", "Pets"), model_version="usl-12-2"))
    # `usl-backend publish` has put the older run in force again: its queue state is the fixture's.
    asked = []

    def start(store, host, of, request):
        asked.append(of.id)
        return SuggestJob(of.id)

    monkeypatch.setattr("usl_backend.web.api.suggestions.start_suggesting", start)
    assert client.post(PATH, json={}).status_code == 202
    assert asked == [run.id]
    write_job(store.files(run.id), SuggestJob(run.id, state="done", result=None, finished_at=1.0))
    assert client.get(PATH).json["run"] == run.id
    assert "Suggest labels</button>" in client.get(f"/usl/runs/{run.id}").text
    assert "Suggest labels</button>" not in client.get(f"/usl/runs/{later.id}").text
    store.save_queue_state("12.100", QueueState("12-99", "usl-12-99", "u", 7, None, "s", None))
    client.post(PATH, json={})
    assert asked[1:] == [later.id], "the run in force was forgotten"


def test_read_job__one_whose_process_died_has_failed(client, store, run):
    files = store.files(run.id)
    with Lock(lock_of(files)):
        write_job(files, SuggestJob(run.id, stage="publish", done=3, total=9))
        assert client.get(PATH).json["state"] == "running"
        assert 'value="3" max="9"' in client.get(f"/usl/runs/{run.id}").text
    assert client.get(PATH).json["state"] == "failed"
    assert "suggest again, what was written is kept" in client.get(f"/usl/runs/{run.id}").text


def test_show_run__result_is_said_in_words(client, store, run):
    written = {"suggestions": 90, "accepted": 40, "queued": 3}
    result = {
        "labels": {"cat": 4, "<dog>": 6}, "control_labels": 60, "calibrated": True, "promise": "40 accepted at 95 %",
        "notes": ["a note on <dog>"], "written": written,
    }  # fmt: skip
    write_job(store.files(run.id), SuggestJob(run.id, state="done", result=result, finished_at=1.0))
    page = client.get(f"/usl/runs/{run.id}").text
    assert "90 choices are filled in, 40 of them accepted; 3 tasks of the queue come first." in page
    assert "from 10 labels and measured on 60 in the control set" in page
    assert "a note on &lt;dog&gt;" in page
    assert json.loads(client.get(PATH).text)["result"]["written"] == written

import subprocess
import sys

import pytest

from usl_backend.instances import QueueState
from usl_backend.runs import RunState
from usl_backend.runs.summary import Summary
from usl_backend.web import create_app

SCHEMA = '<View><Image name="image" value="$image"/></View>'
CREATED = "2026-11-23T16:47:23.742803Z"
KEY = "12.1795452443"


def _setup(client, extra_params=None, project=KEY, **more):
    body = {
        "project": project,
        "schema": SCHEMA,
        "hostname": "http://ls",
        "access_token": "creator-token",
        "extra_params": extra_params,
        **more,
    }
    return client.post("/setup", json=body)


def _start(client, project=12, created_at=CREATED):
    told = {"id": project, "title": "pets", "token": "invite-token", "created_at": created_at}
    return client.post("/webhook", json={"action": "START_TRAINING", "project": told})


def test_health__is_up(client):
    answer = client.get("/health")
    assert (answer.status_code, answer.json["status"]) == (200, "UP")


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ('{"budget": 7}', {"budget": 7}),
        ({"budget": 7}, {"budget": 7}),
        (None, {}),
        ("", {}),
        ({}, {}),
        ("null", {}),
        ("{}", {}),
    ],
)
def test_setup__extra_params_in_every_form(client, store, told, kept):
    answer = _setup(client, told)
    assert (answer.status_code, answer.json) == (200, {"model_version": "usl"})
    setup = store.setup(12)
    assert (setup.project_key, setup.extra_params, setup.label_config) == (KEY, kept, SCHEMA)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("http://localhost:8080", "http://localhost:8080"),
        ("https://host/ls/", "https://host/ls"),
        ("/ls", "/ls"),
        ("ftp://host", ""),
        ("http://host/?a=b", ""),
        ("http://ho st", ""),
        ("http://" + "h" * 3000, ""),
        (None, ""),
        (["http://host"], ""),
    ],
)
def test_setup__label_studios_public_address_is_learned(client, store, told, kept):
    assert _setup(client, hostname=told).status_code == 200
    assert store.setup(12).hostname == kept


def test_setup__the_last_one_wins(client, store):
    for told in ('{"budget": 1}', {"budget": 2}, '{"budget": 3}'):
        _setup(client, told)
    assert store.setup(12).extra_params == {"budget": 3}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ('{"budegt": 7}', 'unknown setting "budegt"; did you mean "budget"?'),
        ('{"budget": 0}', 'budget is "0"; give a positive number'),
        ('{"budget": ', "extra params are not JSON"),
        ("[1]", "extra params are a JSON list, not an object"),
        ('{"label_studio_api_key": "x"}', '"label_studio_api_key" belongs to the host'),
    ],
)
def test_setup__refusal_stands_in_the_reason_phrase(client, store, told, said):
    _setup(client, {"budget": 5})
    answer = _setup(client, told)
    assert answer.status_code == 400
    assert said in answer.status
    assert said in answer.json["error"]["message"]
    assert store.setup(12).extra_params == {"budget": 5}


def test_setup__refused_from_the_start_is_told_again_at_start_training(client, store):
    _setup(client, '{"budegt": 7}')
    answer = _start(client)
    assert answer.status_code == 400
    assert 'did you mean "budget"' in answer.status
    run = store.get(answer.json["run"])
    assert run.state is RunState.FAILED
    assert 'did you mean "budget"' in run.error["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'"x"', b"\xff", b"{}", b'{"project": {}}'])
def test_setup__nonsense_is_a_400(client, body):
    answer = client.post("/setup", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json["error"]["type"] == "InputError"


def test_setup__tells_the_version_in_force(client, store):
    run = store.create(project=12, project_key=KEY, settings={})
    store.claim(run.id)
    store.finish(run.id, Summary(model_version="usl-12-1"))
    assert _setup(client).json == {"model_version": "usl-12-1"}
    assert _setup(client, project="12.99").json == {"model_version": "usl"}


def test_setup__tells_the_version_of_an_earlier_run_that_was_published_again(client, store):
    for number in (1, 2):
        run = store.create(project=12, project_key=KEY, settings={})
        store.claim(run.id)
        store.finish(run.id, Summary(model_version=f"usl-12-{number}"))
    assert _setup(client).json == {"model_version": "usl-12-2"}
    state = QueueState("12-1", "usl-12-1", "Uncertainty sampling", 3, None, "Sequential sampling", None)
    store.save_queue_state(KEY, state)
    assert _setup(client).json == {"model_version": "usl-12-1"}
    for named in ("12", KEY):
        assert client.get(f"/versions?project={named}").json == {"versions": ["usl-12-1", "usl-12-2"]}


def test_predict__one_empty_list_per_task(client):
    answer = client.post("/predict", json={"tasks": [{"id": 1}, {"id": 2}], "project": KEY})
    assert answer.json == {"results": [[], []]}


@pytest.mark.parametrize("body", [{}, {"tasks": None}, {"tasks": {"id": 1}}])
def test_predict__without_tasks_is_a_400(client, body):
    assert client.post("/predict", json=body).status_code == 400


def test_webhook__start_training_queues_a_run_of_that_very_project(client, store):
    _setup(client, '{"budget": 7}')
    answer = _start(client)
    assert answer.status_code == 202
    run = store.get(answer.json["run"])
    assert (run.state, run.project, run.project_key) == (RunState.QUEUED, 12, KEY)
    assert run.settings["budget"] == "7"
    assert answer.json["page"] == f"http://localhost/usl/runs/{run.id}"


@pytest.mark.parametrize("pages", ["", "http://localhost:9090"])
def test_webhook__the_page_is_where_browsers_reach_it(host, jobs, pages):
    apart = host.model_copy(update={"public_url": "http://backend:9090", "pages_url": pages})
    client = create_app(apart, jobs).test_client()
    _setup(client, "")
    assert _start(client).json["page"].startswith(f"{pages or 'http://backend:9090'}/usl/runs/12-1")


def test_webhook__a_recreated_project_does_not_inherit_settings(client, store):
    _setup(client, '{"budget": 7}', project="12.1000000000")
    run = store.get(_start(client).json["run"])
    assert run.settings["budget"] is None


def test_webhook__a_second_start_training_says_which_run_is_active(client, store):
    first = _start(client).json["run"]
    answer = _start(client)
    assert answer.status_code == 409
    assert answer.json["run"] == first
    assert answer.json["error"]["type"] == "ActiveRunError"
    assert f"run {first} of project 12 is queued" in answer.status
    assert len(store.list()) == 1


@pytest.mark.parametrize(
    "action",
    [
        "PROJECT_UPDATED",
        "ANNOTATION_CREATED",
        "TASKS_DELETED",
        "start_training",
        "",
        None,
        7,
        ["START_TRAINING"],
    ],
)
def test_webhook__everything_else_is_nothing(client, store, action):
    answer = client.post("/webhook", json={"action": action, "project": {"id": 12}})
    assert (answer.status_code, answer.json) == (200, {})
    assert store.list() == []


@pytest.mark.parametrize("project", [None, 12, "12", {}, {"id": None}, {"id": "x"}, {"id": -1}, {"id": True}])
def test_webhook__start_training_without_a_project_is_a_400(client, store, project):
    answer = client.post("/webhook", json={"action": "START_TRAINING", "project": project})
    assert answer.status_code == 400
    assert store.list() == []


@pytest.mark.parametrize(
    "created_at", [None, "", "soon", 7, "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
)
def test_webhook__an_odd_creation_time_is_as_if_not_told(client, store, created_at):
    _setup(client, '{"budget": 7}')
    assert store.get(_start(client, created_at=created_at).json["run"]).project_key in (
        KEY,
        "12.-62135683140",
        "12.253402387139",
    )


def test_versions__of_a_named_project(client, store):
    assert client.get("/versions").status_code == 404
    assert client.get("/versions?project=12").json == {"versions": ["usl"]}
    run = store.create(project=12, settings={})
    store.claim(run.id)
    store.finish(run.id, Summary(model_version="usl-12-1"))
    assert client.get(f"/versions?project={KEY}").json == {"versions": ["usl-12-1"]}


def test_bodies__are_never_logged_or_stored(client, store, caplog):
    caplog.set_level(0)
    _setup(client, '{"budget": 7}')
    _setup(client, "{")
    _start(client)
    _start(client)
    client.post("/setup", data=b'{"access_token": "creator-token", ', content_type="application/json")
    client.post("/webhook", json={"action": "START_TRAINING", "project": {"token": "invite-token"}})
    assert "-token" not in caplog.text
    store.close()
    for path in store.directory.rglob("*"):
        if path.is_file():
            assert b"-token" not in path.read_bytes()


def test_server_process__starts_without_what_only_some_requests_need(tmp_path):
    code = f"""
import pathlib, sys
from usl_backend.jobs import Jobs
from usl_backend.runs import RunStore
from usl_backend.settings import HostSettings
from usl_backend.web import create_app
host = HostSettings(label_studio_api_key="x" * 40, model_dir=pathlib.Path({str(tmp_path)!r}))
client = create_app(host, Jobs(RunStore(host.model_dir), host)).test_client()
assert client.get("/livez").status_code == 200
print(sorted({{"requests", "urllib3", "PIL", "selectolax"}} & set(sys.modules)))
rooms = {{".".join(name.split(".")[:2]) for name in sys.modules if name.startswith("usl_backend.")}}
late = {{"embedding", "evaluation", "exports", "labeling", "pipeline", "sinks", "sources", "suggestions"}}
print(sorted(room for room in late if f"usl_backend.{{room}}" in rooms))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["[]", "[]", ""]


def test_server_process__loads_no_engine(tmp_path):
    code = f"""
import pathlib, sys
from usl_backend.jobs import Jobs
from usl_backend.runs import RunStore
from usl_backend.settings import HostSettings
from usl_backend.web import create_app
host = HostSettings(label_studio_api_key="x" * 40, model_dir=pathlib.Path({str(tmp_path)!r}))
jobs = Jobs(RunStore(host.model_dir), host)
client = create_app(host, jobs).test_client()
setup = {{"project": "12.5", "schema": "", "extra_params": '{{"budget": 5, "method": "usl"}}'}}
assert client.post("/setup", json=setup).status_code == 200
assert client.post("/predict", json={{"tasks": [{{}}]}}).status_code == 200
body = {{"action": "START_TRAINING", "project": {{"id": 12}}}}
assert client.post("/webhook", json=body).status_code == 202
assert client.get("/usl/runs/12-1").status_code == 200
heavy = sorted({{name.partition(".")[0] for name in sys.modules}} & {{
    "torch", "torchvision", "label_studio_sdk", "sklearn", "scipy", "pandas"}})
print(heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"

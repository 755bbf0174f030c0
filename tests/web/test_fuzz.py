"""Whatever is sent: a clear answer, never a 500, never more than one active run of a project."""

import json
import string
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usl_backend.jobs import Jobs
from usl_backend.runs import RunState, RunStore
from usl_backend.settings import OPTIONS, HostSettings
from usl_backend.web import create_app

EXAMPLES = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# surrogates too: JSON can carry them as \ud800, and neither SQLite nor UTF-8 can
TEXT = st.text(st.characters(), max_size=20) | st.sampled_from(
    ["\ud800", "\x00", "x\ud800.y", "1e400", "9" * 5000]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([option.name for option in OPTIONS]) | TEXT
PARAMETERS = st.dictionaries(NAMES, VALUES, max_size=4)
PROJECTS = st.sampled_from(["12.1795452443", "12", 12, "13.5"]) | VALUES


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path / "data")
    yield store
    store.close()


@pytest.fixture
def client(store):
    host = HostSettings(label_studio_api_key="x" * 40, model_dir=store.directory)
    return create_app(host, Jobs(store, host)).test_client()


def _send(client, path, body, *, method="POST"):
    answer = client.open(path, method=method, data=json.dumps(body), content_type="application/json")
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        error = answer.json["error"]
        assert error["type"]
        assert error["message"]
        assert error["type"] != "InternalError"
    return answer


@EXAMPLES
@given(project=PROJECTS, extra=VALUES | PARAMETERS | PARAMETERS.map(json.dumps), schema=VALUES)
def test_setup__any_body(client, project, extra, schema):
    _send(
        client, "/setup", {"project": project, "schema": schema, "extra_params": extra, "access_token": "t"}
    )


@EXAMPLES
@given(action=st.just("START_TRAINING") | VALUES, project=VALUES, number=PROJECTS, created=VALUES)
def test_webhook__any_body(client, store, action, project, number, created):
    _send(client, "/webhook", {"action": action, "project": project})
    _send(client, "/webhook", {"action": action, "project": {"id": number, "created_at": created}})
    active = [run.project for run in store.list(limit=1000) if run.state.is_active]
    assert len(active) == len(set(active))


@EXAMPLES
@given(body=VALUES, tasks=VALUES)
def test_predict__any_body(client, body, tasks):
    _send(client, "/predict", body)
    answer = _send(client, "/predict", {"tasks": tasks})
    if isinstance(tasks, list):
        assert answer.json == {"results": [[] for _ in tasks]}


@EXAMPLES
@given(project=PROJECTS, parameters=PARAMETERS)
def test_api__any_run(client, store, project, parameters):
    _send(client, "/usl/api/runs", {"project": project, **parameters})
    for run in store.list(state=RunState.QUEUED, limit=1000):
        _send(client, f"/usl/api/runs/{run.id}", None, method="GET")
        assert client.get(f"/usl/runs/{run.id}").status_code == 200
        store.cancel(run.id)


@EXAMPLES
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"]),
    path=st.sampled_from(["/usl/runs/", "/usl/api/runs/", "/", "/usl/", "/versions", "/usl/static/"]),
    rest=st.text(string.printable, max_size=12),
    query=st.dictionaries(
        st.sampled_from(["project", "state", "limit", "role", "format"]), st.text(max_size=8)
    ),
    accept=st.sampled_from(["text/html", "application/json", "*/*", ""]),
)
def test_paths__any(client, method, path, rest, query, accept):
    answer = client.open(
        path + quote(rest), method=method, query_string=query, headers={"Accept": accept}, buffered=True
    )
    assert answer.status_code < 500, answer.text


@EXAMPLES
@given(body=st.binary(max_size=60), path=st.sampled_from(["/setup", "/predict", "/webhook", "/usl/api/runs"]))
def test_bodies__any_bytes(client, body, path):
    answer = client.post(path, data=body, content_type="application/json")
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"project": "12.5", "schema": "\ud800"},
        {"project": "12.5", "schema": "", "extra_params": {"\ud800": 1}},
        {"project": "12.5", "schema": "", "extra_params": {"data_key": "\ud800"}},
        {"project": "12.5", "schema": "", "extra_params": '{"data_key": "\\ud800"}'},
        {"project": "12.5", "schema": "", "extra_params": '{"\\ud800": 1}'},
        {"project": "\ud800"},
    ],
)
def test_setup__half_a_character_is_refused(client, body):
    assert _send(client, "/setup", body).status_code == 400


def test_setup__a_whole_emoji_is_fine(client, store):
    schema = "<View>\N{GRINNING FACE}</View>"
    assert _send(client, "/setup", {"project": "12.5", "schema": schema}).status_code == 200
    assert store.setup(12).label_config == schema


def _nested(depth, opening, closing):
    return opening * depth + "1" + closing * depth


@pytest.mark.parametrize("depth", [70, 960, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/setup", '{"project": "12.5", "schema": "", "extra_params": DEEP}'),
        ("/setup", '{"project": "12.5", "schema": "", "extra_params": {"budget": DEEP}}'),
        ("/setup", '{"project": "12.5", "schema": "", "deep": DEEP}'),
        ("/webhook", '{"action": "START_TRAINING", "project": {"id": 12, "deep": DEEP}}'),
        ("/usl/api/runs", '{"project": 12, "budget": DEEP}'),
        ("/usl/api/runs", "DEEP"),
    ],
)
def test_bodies__very_deep_ones_are_refused(client, path, body, depth, opening, closing):
    sent = body.replace("DEEP", _nested(depth, opening, closing))
    answer = client.post(path, data=sent, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json["error"]["type"] in ("InputError", "SettingsError")


@pytest.mark.parametrize("depth", [70, 960, 100_000])
def test_setup__very_deep_json_in_json_is_refused(client, depth):
    extra = '{"budget": ' + _nested(depth, "[", "]") + "}"
    body = {"project": "12.5", "schema": "", "extra_params": extra}
    assert _send(client, "/setup", body).status_code == 400


@pytest.mark.parametrize(
    ("depth", "answers"),
    [
        (2_000, (200, 400)),  # Python's parser takes 1,000 up to 3.11, and ten times as many since
        (100_000, (400,)),
    ],
)
def test_predict__very_deep_tasks_are_refused_and_deep_ones_taken(client, depth, answers):
    sent = '{"tasks": [DEEP]}'.replace("DEEP", _nested(depth, "[", "]"))
    assert client.post("/predict", data=sent, content_type="application/json").status_code in answers
    assert _send(client, "/predict", {"tasks": [[[[]]]]}).json == {"results": [[]]}

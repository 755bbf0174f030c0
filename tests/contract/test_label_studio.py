"""What a real Label Studio 1.23.2 sent, replayed: `recorded/` holds its requests, tokens scrubbed."""

import base64
import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from usl_backend.jobs import Jobs
from usl_backend.runs import RunState, RunStore
from usl_backend.settings import HostSettings
from usl_backend.web import create_app

RECORDED = Path(__file__).parent / "recorded"
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"usl:pw").decode()}
KEY = "1.1795452443"


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path / "data")
    yield store
    store.close()


@pytest.fixture(params=[False, True], ids=["open", "basic_auth"])
def client(request, store):
    login = {"basic_auth_user": "usl", "basic_auth_pass": SecretStr("pw")} if request.param else {}
    host = HostSettings(label_studio_api_key="x" * 40, model_dir=store.directory, **login)
    return create_app(host, Jobs(store, host)).test_client()


def _replay(client, name):
    """Answers of the recorded requests, in order."""
    answers = []
    for sent in json.loads((RECORDED / f"{name}.json").read_text()):
        answers.append(
            client.open(
                sent["path"],
                method=sent["method"],
                data=None if sent["body"] is None else json.dumps(sent["body"]),
                content_type=sent["content_type"],
                headers=LOGIN if sent["authorized"] else {},
            )
        )
    return answers


def _guarded(client):
    return client.get("/health").status_code == 401


def test_connect__is_answered_and_remembered(client, store):
    answers = _replay(client, "connect")
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.json for answer in answers[1::2]] == [{"model_version": "usl"}] * 2
    setup = store.setup(1)
    assert (setup.project_key, setup.extra_params) == (KEY, {"budget": 3})
    assert "<Choice value=" in setup.label_config


@pytest.mark.parametrize(
    ("name", "kept"), [("save_object", {"budget": 4}), ("save_null", {}), ("save_empty", {})]
)
def test_save__tells_the_old_parameters_first_and_the_last_win(client, store, name, kept):
    answers = _replay(client, name)
    assert len(answers) == 6
    expected = (
        401 if _guarded(client) else 200
    )  # the form's own check carries no login unless it is typed again
    assert [answer.status_code for answer in answers] == [200, 200, expected, expected, 200, 200]
    assert store.setup(1).extra_params == kept


def test_save__refused_parameters_leave_the_old_ones(client, store):
    _replay(client, "connect")
    answers = _replay(client, "save_refused")
    if not _guarded(client):
        assert 'did you mean "budget"' in answers[-1].status
    assert answers[-1].status_code in (400, 401)
    assert store.setup(1).refused is None


@pytest.mark.parametrize("name", ["model_page", "open_task", "retrieve_predictions", "test_request"])
def test_reading__starts_nothing(client, store, name):
    answers = _replay(client, name)
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert store.list() == []


@pytest.mark.parametrize(
    ("name", "tasks"), [("open_task", 1), ("test_request", 1), ("retrieve_predictions", 6)]
)
def test_predict__as_many_empty_lists_as_tasks(client, name, tasks):
    assert _replay(client, name)[-1].json == {"results": [[]] * tasks}


def test_versions__a_404_lets_label_studio_answer_itself(client):
    assert [answer.status_code for answer in _replay(client, "versions")] == [404]


def test_start_training__starts_one_run_with_the_projects_settings(client, store):
    _replay(client, "connect")
    (answer,) = _replay(client, "start_training")
    assert answer.status_code == 202
    run = store.get(answer.json["run"])
    assert (run.state, run.project_key, run.settings["budget"]) == (RunState.QUEUED, KEY, "3")
    (again,) = _replay(client, "start_training")
    assert (again.status_code, again.json["run"]) == (409, run.id)
    assert len(store.list()) == 1


@pytest.mark.parametrize(
    "name",
    [
        "annotation_created",
        "annotation_updated",
        "annotation_skipped",
        "annotations_deleted",
        "tasks_created",
        "tasks_deleted_and_project_updated",
    ],
)
def test_events__start_nothing_and_need_a_login_where_there_is_one(client, store, name):
    expected = 401 if _guarded(client) else 200
    answers = _replay(client, name)
    assert answers
    assert [answer.status_code for answer in answers] == [expected] * len(answers)
    assert store.list() == []


def test_recorded__every_file_is_replayed_and_holds_no_token():
    source = Path(__file__).read_text()
    for path in RECORDED.glob("*.json"):
        assert f'"{path.stem}"' in source
        for sent in json.loads(path.read_text()):
            body = sent["body"] or {}
            assert body.get("access_token", "scrubbed") == "scrubbed"
            assert (body.get("project") if isinstance(body.get("project"), dict) else {}).get("token") in (
                None,
                "scrubbed",
            )

"""The adapter alone, with both signatures of `fit`, and inside the real label-studio-ml 1.0.9 from PyPI."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

import usl_backend.adapter
from usl_backend.adapter import SelectionModel
from usl_backend.errors import InputError
from usl_backend.runs import RunState, RunStore
from usl_backend.runs.lock import held

ROOT = Path(__file__).parent.parent
RECORDED = ROOT / "tests" / "contract" / "recorded" / "start_training.json"
KEY = "1.1795452443"


@pytest.fixture
def body():
    """What a real Label Studio sends on Start Training."""
    return json.loads(RECORDED.read_text())[0]["body"]


@pytest.fixture
def environment(tmp_path):
    return {
        "MODEL_DIR": str(tmp_path / "data"),
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "LABEL_STUDIO_API_KEY": "tok-secret-123",
        "USL_BUDGET": "5",
    }


@pytest.fixture
def store(environment):
    store = RunStore(Path(environment["MODEL_DIR"]))
    yield store
    store.close()


@pytest.fixture
def supervised(environment, monkeypatch):
    """Environment in place; counts how often a supervisor is asked for instead of starting it."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked = []
    monkeypatch.setattr(usl_backend.adapter, "supervise_detached", asked.append)
    return asked


def test_predict__one_empty_list_per_task_in_both_signatures():
    tasks = [{"id": 1}, {"id": 2}]
    assert SelectionModel().predict(tasks, login=None, password=None, context=None) == [[], []]
    assert SelectionModel().predict(tasks, {"result": []}) == [[], []]


def test_fit__signature_of_1_0_9(supervised, store, body):
    data = {"project": body["project"]}
    told = SelectionModel().fit((), workdir="/x", event="START_TRAINING", data=data, job_id="7")
    assert told == {"run": "1-1", "state": "queued"}
    (run,) = store.list()
    assert (run.project_key, run.settings["budget"]) == (KEY, "5")
    assert len(supervised) == 1


def test_fit__signature_of_2(supervised, store, body):
    assert SelectionModel().fit("START_TRAINING", body, some="thing") == {"run": "1-1", "state": "queued"}
    assert len(store.list()) == 1


@pytest.mark.parametrize("event", ["ANNOTATION_CREATED", "PROJECT_UPDATED", "start_training", "", None])
def test_fit__any_other_event_starts_nothing(supervised, store, body, event):
    data = {"project": body["project"]}
    assert SelectionModel().fit((), event=event, data=data) == {}
    assert SelectionModel().fit(event, data) == {}
    assert store.list() == []
    assert supervised == []


def test_fit__a_second_one_names_the_active_run(supervised, store, body):
    model = SelectionModel()
    model.fit("START_TRAINING", body)
    assert model.fit("START_TRAINING", body) == {"run": "1-1", "state": "queued"}
    assert len(store.list()) == 1


def test_fit__extra_params_where_the_framework_hands_them_over(supervised, store, body):
    class Model(SelectionModel):
        extra_params = '{"budget": 9}'

    Model().fit("START_TRAINING", body)
    assert store.get("1-1").settings["budget"] == "9"


@pytest.mark.parametrize("extra_params", ['{"budegt": 9}', "{"])
def test_fit__bad_extra_params_are_a_failed_run(supervised, store, body, extra_params):
    model = SelectionModel()
    model.extra_params = extra_params
    assert model.fit("START_TRAINING", body) == {"run": "1-1", "state": "failed"}
    assert store.get("1-1").error["type"] == "SettingsError"
    assert supervised == []


@pytest.mark.parametrize("data", [None, {}, {"project": None}, {"project": 12}, {"project": {"id": "x"}}])
def test_fit__without_a_project_says_so(supervised, data):
    with pytest.raises(InputError, match="project"):
        SelectionModel().fit("START_TRAINING", data)


def test_usl_backend__without_the_framework_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "label_studio_ml", None)
    with pytest.raises(ImportError, match="pip install label-studio-ml redis rq"):
        _ = usl_backend.adapter.USLBackend
    with pytest.raises(AttributeError, match="it has SelectionModel, USLBackend"):
        _ = usl_backend.adapter.Nothing


@pytest.fixture(scope="module")
def framework(tmp_path_factory):
    """A virtual environment with the real framework and this project; the path of its `bin`."""
    folder = tmp_path_factory.mktemp("framework")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # a copy: building in the working tree would leave its traces there
    shutil.copytree(
        ROOT / "usl_backend", source / "usl_backend", ignore=shutil.ignore_patterns("__pycache__", "data")
    )
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=120)
    pip = [folder / "venv" / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    # redis and rq are what the framework forgot to ask for; the last three are what our server side needs
    subprocess.run(
        [*pip, "label-studio-ml==1.0.9", "redis", "rq", "numpy", "pydantic", "selectolax"],
        check=True,
        timeout=240,
    )
    subprocess.run([*pip, "--no-deps", source], check=True, timeout=240)
    return folder / "venv" / "bin"


@pytest.mark.timeout(600)
def test_framework__one_start_training_is_exactly_one_run(
    framework, environment, store, body, refusing_studio, tmp_path
):
    environment["LABEL_STUDIO_URL"] = refusing_studio
    (tmp_path / "model.py").write_text("from usl_backend.adapter import USLBackend\n")
    command = [framework / "label-studio-ml", "init", "backend", "--script", "model.py"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [framework / "python", "backend/_wsgi.py", "--host", "127.0.0.1", "--port", str(port)]
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "USE_REDIS"))
    }
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env={**clean, **environment}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(lambda: _answers(f"{address}/health"))
        setup = {"project": KEY, "schema": body["project"]["label_config"], "extra_params": '{"budget": 3}'}
        assert requests.post(f"{address}/setup", json=setup, timeout=30).status_code == 200
        predict = {"tasks": [{"id": 1}, {"id": 2}], "project": KEY, "label_config": "<View/>", "params": {}}
        assert requests.post(f"{address}/predict", json=predict, timeout=30).json()["results"] == [[], []]
        for event in ("PROJECT_UPDATED", "ANNOTATION_CREATED"):
            told = {"action": event, "project": body["project"]}
            assert requests.post(f"{address}/webhook", json=told, timeout=30).status_code == 201
        assert requests.post(f"{address}/webhook", json=body, timeout=30).status_code == 201
        _wait(lambda: any(not run.state.is_active for run in store.list()), seconds=120)
    finally:
        server.terminate()
        server.wait(30)
    (run,) = store.list()
    assert (run.id, run.project_key, run.settings["budget"]) == ("1-1", KEY, "5")
    # the run was really begun: it got as far as can be without a token
    assert (run.state, run.error["type"]) == (RunState.PAUSED, "StudioAuthError")
    _wait(lambda: not held(store.directory / "server.lock"))


def _answers(address):
    try:
        return requests.get(address, timeout=5).ok
    except requests.ConnectionError:
        return False


def _wait(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)

"""The server between a real Label Studio and its users: connect, Start Training, refusal, silence."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from usl_backend.demo.dataset import write_images
from usl_backend.demo.studio_server import free_port
from usl_backend.errors import StudioError
from usl_backend.runs import RunState, RunStore
from usl_backend.settings import OPTIONS
from usl_backend.studio import backend

LOGIN = ("usl", "pw-secret-123")
PICTURES = 60


@pytest.fixture
def serve(label_studio, tmp_path):
    """A real server, and its address."""
    port = free_port()
    ours = {option.environment for option in OPTIONS}
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ours},
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.token,
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(label_studio.documents_root),
        "MODEL_DIR": str(tmp_path / "data"),
        "BASIC_AUTH_USER": LOGIN[0],
        "BASIC_AUTH_PASS": LOGIN[1],
    }
    command = [sys.executable, "-m", "usl_backend", "serve", "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(lambda: server.poll() is not None or _ready(address))
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            yield address
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(60)
    assert code == 0
    said = (tmp_path / "server.log").read_text()
    for secret in (label_studio.token, LOGIN[1]):
        assert secret not in said


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path / "data")
    yield store
    store.close()


@pytest.fixture
def pictures(label_studio, make_project):
    """A project of real pictures."""
    folder = label_studio.documents_root / "serve"
    folder.mkdir(parents=True, exist_ok=True)
    names = [path.name for path in _written(folder)]
    return make_project(data=[{"image": f"/data/local-files/?d=serve/{name}"} for name in names])


def test_start_training__from_connect_to_the_first_task(serve, store, client, pictures):
    connection = backend.connect(client, pictures.id, serve, basic_auth=LOGIN, extra_params={"budget": 5})
    assert connection.backend.connected
    assert store.setup(pictures.id).extra_params == {"budget": 5}
    backend.start_training(client, pictures.id, serve)
    (run,) = store.list()
    assert run.state.is_active
    assert run.project_key == client.project(pictures.id).key
    backend.start_training(client, pictures.id, serve)
    assert len(store.list()) == 1
    _wait(lambda: not store.get(run.id).state.is_active, seconds=240)
    done = store.get(run.id)
    assert (done.state, done.error) == (RunState.DONE, None)
    answer = requests.get(f"{serve}/usl/api/runs/{run.id}/picks?role=pick", auth=LOGIN, timeout=30)
    picks = [entry["task"] for entry in answer.json()["picks"]]
    assert len(picks) == 5
    assert pictures.now.model_version == done.summary.model_version
    assert pictures.serve([client], 5) == picks
    # publishing has patched the project and annotators have annotated: none of that was taken for a wish
    assert len(store.list()) == 1


def test_setup__unknown_setting_is_told_to_who_connects(serve, store, client, pictures):
    with pytest.raises(StudioError, match=r'unknown setting \\?"budegt\\?"; did you mean \\?"budget\\?"'):
        backend.connect(client, pictures.id, serve, basic_auth=LOGIN, extra_params={"budegt": 5})
    assert backend.backends(client, pictures.id) == []


def test_webhook__made_by_the_form_is_switched_off(serve, client, pictures):
    """As the form does it: nobody but the server is there to switch it off."""
    form = {"url": serve, "project": pictures.id, "title": "USL", "auth_method": "BASIC_AUTH"}
    form |= {"basic_auth_user": LOGIN[0], "basic_auth_pass": LOGIN[1], "extra_params": '{"budget": 5}'}
    client.http.json("POST", "/api/ml/", body=form)

    def active():
        rows = client.http.json("GET", "/api/webhooks/", params={"project": pictures.id})
        assert [row["url"] for row in rows] == [f"{serve}/webhook"]
        return rows[0]["is_active"]

    assert active()
    _wait(lambda: not active())


def test_credentials__wrong_ones_are_told_to_who_connects(serve, client, pictures):
    with pytest.raises(StudioError, match="BASIC_AUTH_USER and BASIC_AUTH_PASS"):
        backend.connect(client, pictures.id, serve, basic_auth=("usl", "wrong"))


def _written(folder: Path) -> list[Path]:
    """Some of the demo's pictures, written once."""
    present = sorted(folder.glob("*.png"))
    return (present or write_images(folder))[:PICTURES]


def _ready(address):
    try:
        return requests.get(f"{address}/readyz", timeout=5).ok
    except requests.ConnectionError:
        return False


def _wait(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)

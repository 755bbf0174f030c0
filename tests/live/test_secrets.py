"""Marked secrets go through a whole run; afterwards they are looked for wherever somebody might read them."""

import base64
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from usl_backend.demo.studio_server import free_port
from usl_backend.runs import RunState, RunStore
from usl_backend.settings import OPTIONS

USER = "canary-user"


def marked(kind: str) -> str:
    """A secret that stands nowhere by chance."""
    return f"canary-{kind}-{secrets.token_hex(12)}"


class ProcessWatch(threading.Thread):
    """Notes the arguments of every process that descends from one, as `ps` would show them to anybody."""

    def __init__(self, ancestor: int) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.over = threading.Event()
        self._family = {ancestor}

    def run(self) -> None:
        while not self.over.wait(0.05):
            for place in Path("/proc").glob("[0-9]*"):
                try:
                    parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                    if int(place.name) in self._family or parent in self._family:
                        self._family.add(int(place.name))
                        self.seen.add((place / "cmdline").read_bytes())
                except (OSError, ValueError, IndexError):
                    continue  # it has ended meanwhile


@pytest.fixture(params=["accepted", "refused"])
def hidden(request, label_studio):
    """The secrets by kind; Label Studio accepts the API key, or refuses it."""
    kinds = ("password", "api-token", "webhook", "setup-token", "invite")
    return {kind: marked(kind) for kind in kinds} | {
        "api-key": label_studio.token if request.param == "accepted" else marked("api-key")
    }


@pytest.fixture
def server(label_studio, hidden, tmp_path):
    """A server whose every secret is marked: address, and what its processes were called with."""
    ours = {option.environment for option in OPTIONS}
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name not in ours} | {
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": hidden["api-key"],
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(label_studio.documents_root),
        "MODEL_DIR": str(tmp_path / "data"),
        "BASIC_AUTH_USER": USER,
        "BASIC_AUTH_PASS": hidden["password"],
        "USL_API_TOKEN": hidden["api-token"],
        "USL_WEBHOOK_SECRET": hidden["webhook"],
        "USL_PORT": str(port),
    }
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "usl_backend", "serve"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        watch = ProcessWatch(process.pid)
        watch.start()
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(lambda: _answers(address))
            yield address, watch
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            watch.over.set()
            watch.join()


def test_secrets__are_nowhere_to_be_read(server, hidden, label_studio, make_project, pictures, tmp_path):
    address, watch = server
    project = make_project(data=[{"image": f"/data/local-files/?d=shop/{name}"} for name in pictures[:40]])
    login = (USER, hidden["password"])
    told = []

    def ask(method, path, **more):
        answer = requests.request(method, address + path, timeout=60, **{"auth": login, **more})
        told.append(f"{answer.status_code} {answer.reason} {answer.headers}".encode() + answer.content)
        return answer

    setup = {"project": project.now.key, "schema": "<View/>", "access_token": hidden["setup-token"]}
    started = {
        "action": "START_TRAINING",
        "access_token": hidden["setup-token"],
        "project": {
            "id": project.id,
            "token": hidden["invite"],
            "invite": f"/user/signup/?token={hidden['invite']}",
        },
    }
    ask("POST", "/setup", json=setup | {"extra_params": {"budget": 5}})
    ask("POST", "/setup", json=setup | {"extra_params": {"budegt": 5}})
    ask("POST", "/setup", json=setup | {"project": hidden["setup-token"][:6]})
    ask("POST", "/setup", data=str(setup), headers={"Content-Type": "application/json"})
    run = ask("POST", "/webhook", json=started).json()["run"]
    ask("POST", "/webhook", json=started)
    for wrong in ((USER, hidden["password"] + "x"), (hidden["password"], USER)):
        ask("GET", "/usl/", auth=wrong, headers={"Accept": "text/html"})
    ask("GET", "/metrics", auth=None, headers={"Authorization": f"Bearer {hidden['api-token']}"})
    ask("POST", "/webhook", auth=None, json={}, headers={"X-USL-Webhook-Secret": hidden["webhook"]})

    store = RunStore(tmp_path / "data")
    try:
        _wait(lambda: store.get(run).state not in (RunState.QUEUED, RunState.RUNNING), seconds=240)
        done = store.get(run)
        log = store.files(run).log.read_bytes()
    finally:
        store.close()
    accepted = hidden["api-key"] == label_studio.token
    assert (done.state is RunState.DONE) == accepted, (done.error, log)
    pages = ["", "/map", "/gallery", "/why", "/trust"]
    for page in [f"/usl/runs/{run}{part}" for part in pages] + [
        f"/usl/api/runs/{run}{part}" for part in pages
    ]:
        ask("GET", page, headers={"Accept": "text/html"})
    for path in ("/usl/", "/usl/api/runs", f"/usl/api/runs/{run}/picks", "/readyz", "/metrics", "/nowhere"):
        ask("GET", path)
    if accepted:
        _wait(lambda: "is being made" not in ask("GET", f"/usl/runs/{run}/trust").text, seconds=240)

    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert tmp_path / "data" / "usl.sqlite3" in files
    read = {"answers": b"\n".join(told), "arguments": b"\n".join(watch.seen)} | {
        str(path.relative_to(tmp_path)): content for path, content in files.items()
    }
    # what may be read is found, so what must not be would be
    assert run.encode() in read["arguments"]
    assert run.encode() in read["answers"]
    assert run.encode() in read["server.log"]
    basic = base64.b64encode(f"{USER}:{hidden['password']}".encode())
    for kind, form in [(kind, secret.encode()) for kind, secret in hidden.items()] + [("basic auth", basic)]:
        leaks = [where for where, content in read.items() if form in content]
        assert leaks == [], f"the {kind} stands in {leaks}"
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


def _answers(address):
    try:
        return requests.get(f"{address}/livez", timeout=5).ok
    except requests.ConnectionError:
        return False


def _wait(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)

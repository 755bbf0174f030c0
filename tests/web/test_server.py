"""The real server in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

from usl_backend.runs import RunState
from usl_backend.runs.lock import Lock, held
from usl_backend.runs.serving import running

SERVER = textwrap.dedent(
    """
    import sys
    from usl_backend.errors import USLError
    from usl_backend.settings import HostSettings
    from usl_backend.web import serve

    try:
        serve(HostSettings.load(), ready=lambda address: print(address, flush=True))
    except USLError as error:
        sys.exit(f"Error: {error}")
    """
)


@pytest.fixture
def start(tmp_path):
    """Starts servers; all are gone at the end."""
    started = []

    def start(**environment):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env={
                **os.environ,
                "MODEL_DIR": str(tmp_path / "data"),
                "LABEL_STUDIO_URL": "http://127.0.0.1:9",
                "LABEL_STUDIO_API_KEY": "tok-secret-123",
                "USL_PORT": "0",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def _address(process):
    address = process.stdout.readline().strip()
    assert address, process.stderr.read()
    return address


def _ended(process):
    """Exit code and what was said."""
    return process.wait(60), process.stderr.read()


def test_serve__answers_and_ends_well_on_sigterm(start, tmp_path):
    server = start()
    address = _address(server)
    assert running(tmp_path / "data").pages == f"{address}/usl"
    checks = requests.get(f"{address}/readyz", timeout=10).json()["checks"]
    # where no Label Studio is, nothing else is missing
    assert [name for name, well in checks.items() if not well] == ["label_studio"]
    answer = requests.get(f"{address}/health", timeout=10)
    assert answer.json()["status"] == "UP"
    assert "Server" not in answer.headers
    server.send_signal(signal.SIGTERM)
    code, said = _ended(server)
    assert code == 0
    assert "only this machine can connect" in said
    assert "Traceback" not in said
    assert "tok-secret" not in said
    assert running(tmp_path / "data") is None
    with Lock(tmp_path / "data" / "server.lock"):
        assert running(tmp_path / "data").pages == "", "it took its address with it"


def test_serve__the_reason_phrase_reaches_the_caller(start):
    address = _address(start())
    setup = {"project": "12.5", "schema": "", "extra_params": '{"budegt": 1}'}
    answer = requests.post(f"{address}/setup", json=setup, timeout=10)
    assert answer.reason == 'unknown setting "budegt"; did you mean "budget"?'
    with pytest.raises(requests.HTTPError, match='did you mean "budget"'):
        answer.raise_for_status()


def test_serve__second_server_on_the_directory_is_refused(start):
    _address(start())
    code, said = _ended(start())
    assert code == 1
    assert "is in use by another server" in said
    assert "Traceback" not in said


def test_serve__port_in_use_names_the_remedy(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = _ended(start(USL_PORT=str(taken.getsockname()[1])))
    assert code == 1
    assert "choose another USL_PORT" in said


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"USL_HOST": "0.0.0.0"}, "there are no credentials"),
        ({"BASIC_AUTH_USER": "u"}, "BASIC_AUTH_PASS is not set"),
        ({"USL_BUDGET": "none"}, 'budget is "none"'),
    ],
)
def test_serve__refuses_to_start_unsafe_or_wrong(start, environment, said):
    code, told = _ended(start(**environment))
    assert code == 1
    assert said in told
    assert "Traceback" not in told


def test_serve__public_with_credentials(start, tmp_path):
    address = _address(
        start(
            USL_HOST="0.0.0.0",
            BASIC_AUTH_USER="u",
            BASIC_AUTH_PASS="pw-secret",
            USL_PUBLIC_URL="http://backend:9090",
            USL_PAGES_URL="http://localhost:9090",
        )
    )
    assert running(tmp_path / "data").pages == "http://localhost:9090/usl", "where a browser opens them"
    assert requests.get(f"{address}/health", timeout=10).status_code == 401
    assert requests.get(f"{address}/health", auth=("u", "pw-secret"), timeout=10).status_code == 200
    # 200 MB are announced: who may not send them is answered before any came
    with socket.create_connection(("127.0.0.1", urlsplit(address).port), timeout=10) as stranger:
        stranger.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n")
        assert stranger.makefile("rb").read().startswith(b"HTTP/1.1 401 ")
    for path, size, status in (("/predict", 17 * 2**20, 200), ("/setup", 17 * 2**20, 413)):
        answer = requests.post(
            f"{address}{path}", json={"tasks": ["x" * size]}, auth=("u", "pw-secret"), timeout=60
        )
        assert answer.status_code == status


def test_serve__start_training_that_is_not_let_in_is_a_paused_run_that_says_so(
    start, store, refusing_studio, wait_until
):
    address = _address(start(LABEL_STUDIO_URL=refusing_studio))
    body = {"action": "START_TRAINING", "project": {"id": 12}}
    run_id = requests.post(f"{address}/webhook", json=body, timeout=10).json()["run"]
    wait_until(lambda: not store.get(run_id).state.is_active)
    run = store.get(run_id)
    assert run.state is RunState.PAUSED
    assert run.error["type"] == "StudioAuthError"
    assert f"{refusing_studio} refuses the token in LABEL_STUDIO_API_KEY" in run.error["message"]
    assert "tok-secret" not in store.files(run_id).log.read_text()


def test_serve__json_lines_of_server_and_run_name_the_run(start, store, refusing_studio, wait_until):
    server = start(USL_LOG_FORMAT="json", LABEL_STUDIO_URL=refusing_studio)
    address = _address(server)
    body = {"action": "START_TRAINING", "project": {"id": 12}}
    run_id = requests.post(f"{address}/webhook", json=body, timeout=10).json()["run"]
    wait_until(lambda: not store.get(run_id).state.is_active)
    # what the run's process asked of Label Studio is known to the server
    assert (
        'usl_studio_requests_total{method="GET",status="401"}'
        in requests.get(f"{address}/metrics", timeout=10).text
    )
    server.send_signal(signal.SIGTERM)
    code, said = _ended(server)
    assert code == 0
    lines = [json.loads(line) for line in said.splitlines()]
    assert {line["run"] for line in lines if line["message"].startswith("run ")} == {run_id}
    assert "run" not in next(line for line in lines if line["message"].startswith("listening"))
    lines = [json.loads(line) for line in store.files(run_id).log.read_text().splitlines()]
    assert lines
    assert {line["run"] for line in lines} == {run_id}


def test_serve__sigterm_leaves_the_run_queued_for_the_next_start(start, store, wait_until):
    with socket.socket() as silent:  # a Label Studio that never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        server = start(LABEL_STUDIO_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")
        address = _address(server)
        body = {"action": "START_TRAINING", "project": {"id": 12}}
        run_id = requests.post(f"{address}/webhook", json=body, timeout=10).json()["run"]
        lock = store.files(run_id).lock
        wait_until(lambda: held(lock))
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        code, _ = _ended(server)
    assert code == 0
    assert time.monotonic() - began < 60
    assert not held(lock)
    run = store.get(run_id)
    assert (run.state, run.attempts) == (RunState.QUEUED, 0)


def test_start_training__two_hundred_at_once_make_one_run_per_project(start):
    address = _address(start())
    together = threading.Barrier(200)

    def press(number):
        body = {"action": "START_TRAINING", "project": {"id": 1 + number % 4, "title": "busy"}}
        together.wait(60)
        answer = requests.post(f"{address}/webhook", json=body, timeout=60)
        return 1 + number % 4, answer.status_code, answer.json()

    with ThreadPoolExecutor(200) as hands:
        answers = list(hands.map(press, range(200)))
    runs = requests.get(f"{address}/usl/api/runs", timeout=60).json()["runs"]
    assert sorted(run["id"] for run in runs) == ["1-1", "2-1", "3-1", "4-1"]
    for project in range(1, 5):
        told = [(status, body["run"]) for asked, status, body in answers if asked == project]
        assert sorted(told) == [(202, f"{project}-1"), *[(409, f"{project}-1")] * 49]

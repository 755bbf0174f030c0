import os
import subprocess
import sys
from pathlib import Path

import pytest

from usl_backend.jobs import Jobs
from usl_backend.jobs.detached import drain
from usl_backend.jobs.environment import child_environment
from usl_backend.runs import RunState
from usl_backend.runs.lock import held


def test_child_environment__carries_the_host_but_no_login(host, monkeypatch):
    monkeypatch.setenv("BASIC_AUTH_PASS", "pw-secret")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "another")
    environment = child_environment(host)
    assert environment["LABEL_STUDIO_API_KEY"] == "tok-secret-123"
    assert environment["MODEL_DIR"] == str(host.model_dir)
    assert "BASIC_AUTH_PASS" not in environment
    assert environment["PATH"] == os.environ["PATH"]


@pytest.fixture
def quick(monkeypatch, command):
    """Drains with the test's computation."""
    made = Jobs.__init__

    def make(self, store, host, **named):
        made(self, store, host, **{"command": command, "interval": 0.02, **named})

    monkeypatch.setattr(Jobs, "__init__", make)


def test_drain__computes_what_is_queued_and_leaves(store, host, quick):
    runs = [Jobs(store, host).enqueue(project, explicit={"seed": 0}).id for project in (1, 2)]
    drain(store, host)
    assert [store.get(run).state for run in runs] == [RunState.DONE] * 2


def test_drain__nothing_queued_is_nothing_to_do(store, host):
    drain(store, host)
    assert not (store.directory / "server.lock").exists()


def test_drain__leaves_it_to_a_server_that_is_at_work(jobs, store, host, wait_until):
    jobs.start()
    run_id = jobs.enqueue(12, explicit={"seed": 0}).id
    drain(store, host)
    wait_until(lambda: not store.get(run_id).state.is_active)
    assert store.get(run_id).state is RunState.DONE


def test_supervise_detached__outlives_who_asked(store, host, refusing_studio, wait_until):
    """The real process and the real pipeline, and a Label Studio that lets nobody in."""
    host = host.model_copy(update={"label_studio_url": refusing_studio})
    run_id = Jobs(store, host).enqueue(12).id
    code = (
        "from usl_backend.jobs import supervise_detached\nfrom usl_backend.settings import HostSettings\n"
        "supervise_detached(HostSettings.load())"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=child_environment(host), check=True, timeout=60
    )
    wait_until(lambda: not store.get(run_id).state.is_active, seconds=120)
    assert store.get(run_id).error["type"] == "StudioAuthError"
    assert "tok-secret" not in (store.directory / "detached.log").read_text()
    wait_until(lambda: not _supervised(store))


def _supervised(store):
    return held(store.directory / "server.lock")


def test_main__imported_by_a_process_that_is_spawned_computes_nothing(tmp_path: Path) -> None:
    """Processes that read pictures import the module that the program began with."""
    environment = {**os.environ, "MODEL_DIR": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-c", "import usl_backend.jobs.__main__"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "data").exists()

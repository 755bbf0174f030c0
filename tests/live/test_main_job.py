"""The whole job on a real Label Studio: what annotators are served after `select` or Start Training."""

import csv
import io
import json
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from live_studio import LiveProject, LiveStudio, choice
from shell import FOLDER, Shell, local

from usl_backend.demo.backend_server import BackendServer
from usl_backend.demo.project import fill
from usl_backend.demo.studio_server import free_port
from usl_backend.runs import RunState
from usl_backend.studio import backend
from usl_backend.studio.client import StudioClient

MakeProject = Callable[..., LiveProject]


def queue(shell: Shell, run_id: str, role: str = "pick") -> list[int]:
    entries = shell.store.files(run_id).read_published().queue.places
    return [entry.instance for entry in entries if entry.role == role]


def snapshot(project: LiveProject) -> tuple[object, ...]:
    """Everything of a project that a run may change."""
    now = project.now
    return now.sampling, now.model_version, project.model_versions(), project.views()


def test_main_job__from_the_first_selection_to_reset(
    shell: Shell,
    make_project: MakeProject,
    pictures: list[str],
    second_annotator: StudioClient,
    tmp_path: Path,
) -> None:
    project = make_project(data=[local(name) for name in pictures[:150]])
    before = snapshot(project)
    annotators = [project.client, second_annotator]

    # First selection: two annotators in turn are served ranks 0..m-1, then the reserve.
    told = shell("select", project.id, "--budget", 12, "--reserve", 4, "--json")
    assert told.code == 0, told.err
    first = told.json
    assert (first["state"], first["summary"]["picks"], first["summary"]["reserve"]) == ("done", 12, 4)
    assert first["summary"]["verified"]["outcome"] == "first"
    picks = queue(shell, first["id"])
    assert project.serve(annotators, 5) == picks[:5]

    # New tasks only add their own embeddings; the re-run has predictions and a tab of its own, without labeled tasks.
    added = project.add_tasks([local(name) for name in pictures[1170:1190]])
    told = shell(
        "select", f"{shell.environment['LABEL_STUDIO_URL']}/projects/{project.id}/data?tab=1", "--budget", 8
    )
    assert told.code == 0, told.err
    second = shell.store.latest(project.id)
    assert second is not None
    assert second.summary.pool.encoded == len(added) == 20
    assert second.summary.pool.readable == 150 - 5 + 20
    assert f"run {second.id}: chose 8 of 165 unlabeled tasks" in told.out
    assert project.model_versions() == {
        second.summary.model_version: 28,
        first["summary"]["model_version"]: 16,
    }, "what was just replaced stays for tasks that are open"
    assert [view["data"]["title"] for view in project.views()] == ["Default", f"USL picks {second.id}"]
    picks = queue(shell, second.id)
    assert not set(picks) & set(queue(shell, first["id"])[:5])
    assert project.serve(annotators, 8, label="dog") == picks

    # Export: labels of both runs; the pool of the newest.
    told = shell("export", project.id, "--output", tmp_path / "split", "--format", "csv", "--json")
    assert told.code == 0, told.err
    assert told.json["counts"]["labeled"] == 13
    with (tmp_path / "split" / "labeled.csv").open(newline="") as stream:
        labeled = {int(row["task"]): row for row in csv.DictReader(stream)}
    assert {task for task, row in labeled.items() if row["label"] == "dog"} == set(picks)
    assert [labeled[task]["rank"] for task in picks] == [str(rank) for rank in range(8)]
    # The picks of the first run keep their origin.
    assert [row["run"] for row in labeled.values() if row["role"] == "pick"].count(first["id"]) == 5
    with (tmp_path / "split" / "unlabeled.csv").open(newline="") as stream:
        unlabeled = {int(row["task"]) for row in csv.DictReader(stream)}
    assert not unlabeled & set(labeled)
    assert unlabeled | set(labeled) == set(project.tasks) | set(added)
    manifest = json.loads((tmp_path / "split" / "manifest.json").read_text("utf-8"))
    assert [row["index"] for row in manifest["rows"]] == list(range(170))
    assert (manifest["run"], manifest["classes"], manifest["pool_digest"]) == (
        second.id, ["cat", "dog", "owl"], second.pool_digest,
    )  # fmt: skip

    # Reset: as it was before the first run.
    told = shell("reset", project.id)
    assert told.code == 0, told.err
    assert snapshot(project) == before
    assert "restored: sampling: Sequential sampling" in told.out
    assert "nothing of a run is in project" in shell("reset", project.id).out


def test_main_job__dry_run_writes_nothing_to_label_studio_until_it_is_published(
    shell: Shell, make_project: MakeProject, pictures: list[str]
) -> None:
    project = make_project(data=[local(name) for name in pictures[:60]])
    before = snapshot(project)
    told = shell("select", project.id, "--budget", "5%", "--dry-run")
    assert told.code == 0, told.err
    assert snapshot(project) == before
    run = shell.store.latest(project.id)
    assert run is not None
    assert (run.dry_run, run.summary.model_version) == (True, None)
    chosen = " ".join(map(str, queue(shell, run.id)))
    assert len(queue(shell, run.id)) == 3
    assert told.out.splitlines()[1:] == [
        f"tasks, first to last: {chosen}",
        f"dry run: nothing was written to Label Studio; `usl-backend publish {run.id}` does it",
    ]
    assert shell("export", project.id).err.startswith(f"error: project {project.id} has only dry runs")

    # Published afterwards, it is what was chosen.
    told = shell("publish", run.id)
    assert told.code == 0, told.err
    assert f"tasks, first to last: {chosen}" in told.out
    assert project.now.model_version == shell.store.get(run.id).summary.model_version
    served = project.client.next_task(project.id)
    assert served is not None
    assert str(served["id"]) == chosen.split()[0]


def test_main_job__pre_annotations_stay_in_sight_and_come_back(
    shell: Shell, make_project: MakeProject, pictures: list[str], personal_token: str
) -> None:
    project = make_project(data=[local(name) for name in pictures[:40]])
    project.predict(project.tasks, version="other-model", label="owl")
    project.client.update_project(project.id, model_version="other-model")
    before = snapshot(project)
    told = shell("select", project.id, "--budget", 4, LABEL_STUDIO_API_KEY=personal_token)
    assert told.code == 0, told.err
    run = shell.store.latest(project.id)
    assert run is not None
    assert run.summary.carried_over == 40
    assert "pre-annotations of 40 tasks (other-model) were copied" in told.out
    served = project.client.next_task(project.id)
    assert served is not None
    assert served["id"] == queue(shell, run.id)[0]
    assert [prediction["result"][0]["value"] for prediction in served["predictions"]] == [
        {"choices": ["owl"]}
    ]
    project.client.annotate(served["id"], [choice("owl")])
    assert shell("reset", project.id, LABEL_STUDIO_API_KEY=personal_token).code == 0
    assert snapshot(project)[:3] == before[:3]
    logged = (shell.store.files(run.id).log).read_text("utf-8")
    assert personal_token not in logged
    assert "usl_backend" in logged


def test_main_job__boxes_are_selected_too_and_exported_as_they_are(
    shell: Shell, make_project: MakeProject, pictures: list[str], tmp_path: Path
) -> None:
    boxes = """<View><Image name="image" value="$image"/>
    <RectangleLabels name="box" toName="image"><Label value="shoe"/></RectangleLabels></View>"""
    project = make_project(data=[local(name) for name in pictures[:30]], label_config=boxes)
    told = shell("select", project.id, "--budget", 3)
    assert told.code == 0
    asked = "the label config asks for RectangleLabels"
    assert f"note: {asked}, not for classes of whole tasks: labels can be exported as json, jsonl" in told.err
    run = shell.store.latest(project.id)
    assert run is not None
    picks = shell.store.files(run.id).read_published().queue.of_role("pick")
    value = {"x": 1.5, "y": 2.0, "width": 30.25, "height": 4.0, "rotation": 0, "rectanglelabels": ["shoe"]}
    box = {
        "id": "b1", "from_name": "box", "to_name": "image", "type": "rectanglelabels", "value": value,
        "original_width": 28, "original_height": 28, "image_rotation": 0,
    }  # fmt: skip
    project.client.annotate(picks[0], [box])
    project.client.annotate(picks[1], [])  # nothing to mark
    project.client.annotate(picks[2], [], was_cancelled=True)
    told = shell("export", project.id, "--output", tmp_path / "split", "--check")
    assert told.code == 0, told.err
    rows = {row["task"]: row for row in json.loads((tmp_path / "split" / "labeled.json").read_text("utf-8"))}
    assert set(rows) == set(picks[:2])
    (held,) = rows[picks[0]]["annotations"]
    (there,) = project.client.annotations(picks[0])
    assert held["result"] == there["result"]
    assert held["result"][0]["value"] == value
    assert (held["id"], rows[picks[1]]["annotations"][0]["result"]) == (there["id"], [])
    told = shell("export", project.id, "--format", "csv", "--output", tmp_path / "csv")
    assert (told.code, (tmp_path / "csv").exists()) == (1, False)
    assert told.err.startswith(f"error: format csv holds classes, but {asked}; json and jsonl hold")


def test_main_job__interrupted_shell_leaves_no_queue_and_can_be_resumed(
    shell: Shell, make_project: MakeProject, pictures: list[str]
) -> None:
    project = make_project(data=[local(name) for name in pictures[:60]])
    before = snapshot(project)
    child = shell.spawn("select", project.id, "--budget", 5)
    wait_until(lambda: (run := shell.store.latest(project.id)) is not None and run.stage == "embed")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    run = shell.store.latest(project.id)
    assert run is not None
    # `python -m` ends by the signal, caught or not, where it came while a string was executed (a dataclass made).
    assert child.returncode in (1, -signal.SIGINT)
    assert run.state is RunState.CANCELLED
    assert err.splitlines()[-1] == (
        f"error: run {run.id} was cancelled; `usl-backend resume {run.id}` continues it"
    )
    assert "Traceback" not in err
    assert snapshot(project) == before
    told = shell("resume", run.id)
    assert told.code == 0, told.err
    assert shell.store.get(run.id).summary.verified.outcome == "first"
    assert shell("resume", run.id).err.startswith(
        f"error: run {run.id} is done; only a paused, failed or cancelled run"
    )


def test_main_job__killed_shell_is_told_as_interrupted_and_can_be_resumed(
    shell: Shell, make_project: MakeProject, pictures: list[str]
) -> None:
    project = make_project(data=[local(name) for name in pictures[:60]])
    child = shell.spawn("select", project.id, "--budget", 5)
    wait_until(lambda: (run := shell.store.latest(project.id)) is not None and run.stage == "embed")
    child.kill()
    child.communicate()
    run = shell.store.latest(project.id)
    assert run is not None
    assert run.state is RunState.RUNNING
    assert shell("status", run.id).out.startswith(f"run {run.id}: interrupted")
    refused = shell("select", project.id, "--budget", 5)
    assert refused.err.startswith(
        f"error: run {run.id} of project {project.id} was interrupted and is not finished;"
    )
    assert shell("resume", run.id).code == 0
    assert project.serve([project.client], 5) == queue(shell, run.id)


def test_main_job__start_training_through_the_server(
    shell: Shell, label_studio: LiveStudio, make_project: MakeProject, pictures: list[str]
) -> None:
    project = make_project()
    folder = label_studio.documents_root / FOLDER
    uploaded = fill(project.client, project.id, [folder / name for name in pictures[:80]])
    with served(label_studio, shell) as server:
        told = shell("connect", project.id, "--public-url", server.url, "--budget", 6, "--reserve", 2)
        assert told.code == 0, told.out + told.err
        assert f"connected {server.url} to project {project.id}" in told.out
        backend.start_training(project.client, project.id, server.url)
        wait_until(lambda: bool(server.runs(project.id)))
        backend.start_training(project.client, project.id, server.url)
        wait_until(lambda: server.runs(project.id)[0]["state"] not in ("queued", "running"))
        [run] = server.runs(project.id)
        assert (run["state"], run["settings"]["budget"], run["place"]) == ("done", "6", "server"), run[
            "error"
        ]
        picks = server.picks(run["id"])
        assert (len(picks), set(picks) <= set(uploaded)) == (6, True)
        archive = requests.get(f"{server.url}/usl/api/runs/{run['id']}/export?format=csv", timeout=60)
        with zipfile.ZipFile(io.BytesIO(archive.content)) as packed:
            assert sorted(packed.namelist()) == ["labeled.csv", "manifest.json", "unlabeled.csv"]
            assert packed.read("unlabeled.csv").decode().count("\n") == 81
        address = f"{server.url}/usl/api/runs/{run['id']}/export"
        archive = requests.get(address, params={"format": "huggingface"}, timeout=120)
        with zipfile.ZipFile(io.BytesIO(archive.content)) as packed:
            assert sum(name.startswith("unlabeled/") for name in packed.namelist()) == 81
            assert packed.read(f"unlabeled/{picks[0]}.png").startswith(b"\x89PNG")
        refused_archive = requests.get(address, params={"format": "huggingface", "media": "none"}, timeout=60)
        assert refused_archive.status_code == 400
        assert "reads only files inside the export" in refused_archive.json()["error"]["message"]
        # Our own PATCH of the project started nothing; the shell and the server see the same runs.
        assert shell("status", project.id, "--json").json[0]["id"] == run["id"]
    assert project.serve([project.client], 6) == picks
    log = (shell.data / "backend.log").read_text("utf-8") + shell.store.files(run["id"]).log.read_text(
        "utf-8"
    )
    assert label_studio.token not in log
    # The shell takes the project's extra params too, and flags before them.
    again = shell("select", project.id, "--reserve", 0, "--dry-run", "--json").json
    assert (again["settings"]["budget"], again["settings"]["reserve"]) == ("6", 0)


@contextmanager
def served(studio: LiveStudio, shell: Shell) -> Iterator[BackendServer]:
    """The backend as its own process on the shell's data directory."""
    with BackendServer(shell.data, studio_url=studio.url, api_key=studio.token, port=free_port()) as server:
        yield server


def wait_until(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")

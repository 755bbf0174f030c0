"""How the labeling goes, as a project's page tells it, where tasks of the queue were deleted."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from live_studio import LiveProject, choice
from shell import Shell, local

from usl_backend.errors import StudioNotFoundError
from usl_backend.jobs import Jobs
from usl_backend.runs import RunFiles
from usl_backend.settings import HostSettings
from usl_backend.web import create_app
from usl_backend.web.project_watch import EXTENSION

BUDGET = 4


def shown(shell: Shell, project: LiveProject) -> dict[str, Any]:
    """What the page of the project says now."""
    host = HostSettings.load({}, environ=shell.environment)
    app = create_app(host, Jobs(shell.store, host))
    until = time.monotonic() + 60
    while True:
        answer = app.test_client().get(f"/usl/api/projects/{project.id}")
        if answer.status_code != 503 or time.monotonic() > until:  # it is being read
            break
    assert answer.status_code == 200, answer.json
    app.extensions[EXTENSION]._client.close()
    return answer.json


def picks_of(shell: Shell, project: LiveProject) -> list[int]:
    run = shell.store.latest(project.id)
    assert run is not None
    return list(shell.store.files(run.id).read_published().queue.of_role("pick"))


@pytest.mark.parametrize("when", ["while the run computed", "later"])
def test_labeling__picks_that_nothing_can_replace_are_not_waited_for(
    shell: Shell,
    make_project: Callable[..., LiveProject],
    pictures: list[str],
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    project = make_project(data=[local(name) for name in pictures[:BUDGET]])
    client, gone = project.client, project.tasks[1]

    def delete() -> None:
        with contextlib.suppress(StudioNotFoundError):  # the selection is written again without it
            client.http.request("DELETE", f"/api/tasks/{gone}/").close()

    if when != "later":
        write = RunFiles.write_selection

        def write_then(files: RunFiles, selection: Any) -> None:
            write(files, selection)
            delete()

        monkeypatch.setattr(RunFiles, "write_selection", write_then)
    told = shell("select", project.id, "--budget", BUDGET, "--reserve", 0)
    assert told.code == 0, told.err
    if when == "later":
        delete()
    project.add_tasks([local(name) for name in pictures[BUDGET : BUDGET + 3]])
    assert sorted(picks_of(shell, project)) == sorted(project.tasks), "no other task could take its place"
    left = shown(shell, project)
    assert (left["labeled"]["pick"]["total"], left["next"]) == (3, "Label 3 more picks.")
    assert left["waiting"] == 3
    for task in project.tasks:
        if task != gone:
            client.annotate(task, [choice("cat")])
    done = shown(shell, project)
    assert (done["labeled"]["pick"]["labeled"], done["labeled"]["pick"]["total"]) == (3, 3)
    assert done["next"] == "3 new tasks wait: press Extend to queue them."


def test_labeling__tasks_wait_until_extend_has_seen_them_whatever_was_deleted(
    shell: Shell, make_project: Callable[..., LiveProject], pictures: list[str]
) -> None:
    project = make_project(data=[local(name) for name in pictures[:20]])
    told = shell("select", project.id, "--budget", BUDGET, "--reserve", 0)
    assert told.code == 0, told.err
    spare = [task for task in project.tasks if task not in picks_of(shell, project)]
    assert shown(shell, project)["waiting"] == 0
    new = project.add_tasks([local(name) for name in [*pictures[20:24], "none.png"]])
    project.client.annotate(new[3], [choice("cat")])
    for task in spare[:5]:
        project.client.http.request("DELETE", f"/api/tasks/{task}/").close()
    assert shown(shell, project)["waiting"] == 4, "one of the five has a label"
    assert shell("extend", project.id).code == 0
    assert shown(shell, project)["waiting"] == 0, "also what cannot be read"
    project.add_tasks([local(pictures[30])])
    assert shown(shell, project)["waiting"] == 1

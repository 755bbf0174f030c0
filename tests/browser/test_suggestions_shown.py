"""Suggestions as annotators see them: nested choices filled in, the least sure first."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live_studio import LiveProject, LiveStudio, choice
from playwright.sync_api import Page
from shell import environment_for
from studio_ui import StudioUI

from usl_backend.demo import dataset
from usl_backend.demo import project as demo_project
from usl_backend.runs import RunStore
from usl_backend.studio.client import StudioClient

NESTED = """<View><Image name="image" value="$image"/><Choices name="kind" toName="image" allowNested="true">
<Choice value="clothes"><Choice value="top"/><Choice value="shoe"/></Choice><Choice value="other"/></Choices></View>"""
TOPS, SHOES = (0, 2, 3, 4, 6), (5, 7, 9)


def path_of(label: int) -> list[str]:
    """Nested choice of a class of Fashion-MNIST."""
    return ["clothes", "top" if label in TOPS else "shoe"] if label in (*TOPS, *SHOES) else ["other"]


def checked(ui: StudioUI) -> list[str]:
    """Choices that are filled in on the task that is shown."""
    return ui.page.locator(".lsf-choices input:checked").evaluate_all("nodes => nodes.map(n => n.name)")


def backend(studio: LiveStudio, data: Path, *arguments: object) -> None:
    """A verb in a process of its own."""
    command = [sys.executable, "-m", "usl_backend", *map(str, arguments)]
    environment = os.environ | environment_for(studio, data)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_suggestions__annotator_finds_the_choice_filled_in(
    label_studio: LiveStudio, make_project: Callable[..., LiveProject], ui: StudioUI, tmp_path: Path
) -> None:
    project = make_project(0, NESTED)
    client = project.client
    labels = dataset.load().labels
    pictures = dataset.write_images(tmp_path / "pictures", side=56)[:80]
    right = {
        task: int(labels[number]) for task, number in demo_project.fill(client, project.id, pictures).items()
    }

    data = tmp_path / "data"
    backend(label_studio, data, "select", project.id, "--budget", 12, "--control", 30, "--reserve", 0)
    store = RunStore(data)
    run = store.latest(project.id)
    assert run is not None
    queue = store.files(run.id).read_published().queue
    store.close()
    known = {*queue.of_role("pick")[:11], *queue.of_role("control")}
    for task in known:
        region = {"from_name": "kind", "to_name": "image", "type": "choices"}
        client.annotate(task, [{**region, "value": {"choices": [path_of(right[task])]}}])
    ui.log_in(label_studio.username, label_studio.password)
    ui.page.goto(f"{label_studio.url}/projects/{project.id}/data")
    ui.label_all_tasks()
    opened = ui.task_shown()
    assert opened == queue.of_role("pick")[11]
    backend(label_studio, data, "suggest", project.id)

    rows: list[dict[str, Any]] = client.http.json("GET", "/api/predictions/", params={"project": project.id})
    filled = {row["task"]: row["result"][0]["value"]["choices"] for row in rows if row["result"]}
    score = {row["task"]: row["score"] for row in rows if row["result"]}
    assert filled.keys() == right.keys() - known - set(queue.control_set)
    least_sure = sorted(filled.keys() - {opened}, key=lambda task: (score[task], task))

    # The task that was open meanwhile, begun from a blank prediction of the queue before.
    assert checked(ui) == []
    ui.submit(path_of(right[opened])[-1])
    (submitted,) = client.annotations(opened)
    assert submitted["result"][0]["value"] == {"choices": [path_of(right[opened])]}
    assert submitted["parent_prediction"] in {row["id"] for row in rows if row["task"] == opened}
    for expected in least_sure[:2]:
        assert ui.task_shown() == expected
        ui.page.locator(".lsf-choices input:checked").first.wait_for()
        ui.shot("filled-in")
        assert checked(ui) == [filled[expected][0][-1]]
        ui.confirm()
    (submitted,) = client.annotations(least_sure[0])
    (region,) = submitted["result"]
    assert region["value"] == {"choices": filled[least_sure[0]]}
    assert region["origin"] == "prediction"

    # What is accepted is annotated as a person would have: by paths of choices.
    backend(label_studio, data, "suggest", project.id, "--accept", 0.6, "--annotate")
    annotated = {task.id for task in client.tasks(project.id, only_unlabeled=False) if not task.unlabeled}
    made = annotated - known - {opened, *least_sure[:2]}
    assert made
    paths = {tuple(path_of(label)) for label in right.values()}
    for task in sorted(made)[:3]:
        (one,) = client.annotations(task)
        (region,) = one["result"]
        assert region["id"] == f"usl-accepted-{task}"
        assert region["value"].keys() == {"choices"}
        assert {tuple(path) for path in region["value"]["choices"]} <= paths


@pytest.mark.slow
def test_suggestions__two_annotators_from_picks_over_blank_controls_to_the_review(
    label_studio: LiveStudio,
    make_project: Callable[..., LiveProject],
    second_annotator: StudioClient,
    browse: Callable[[str], Page],
    screenshots: Path,
    tmp_path: Path,
) -> None:
    """By hand: `pytest -m slow tests/browser/test_suggestions_shown.py`."""
    project, data = make_project(), tmp_path / "data"
    client = project.client
    pictures = dataset.write_images(tmp_path / "pictures", side=56)[:80]
    labels = dataset.load().labels
    names = {**dict.fromkeys(TOPS, "cat"), **dict.fromkeys(SHOES, "dog")}
    right = {
        task: names.get(int(labels[number]), "owl")
        for task, number in demo_project.fill(client, project.id, pictures).items()
    }
    backend(label_studio, data, "select", project.id, "--budget", 8, "--control", 20, "--reserve", 3)
    store = RunStore(data)
    run = store.latest(project.id)
    assert run is not None
    queue = store.files(run.id).read_published().queue
    store.close()
    picks, control = list(queue.of_role("pick")), list(queue.of_role("control"))

    people = []
    for name, password in (
        (label_studio.username, label_studio.password),
        ("second@example.com", "second-password-1"),
    ):
        (screenshots / name).mkdir()
        people.append(StudioUI(browse(name), label_studio.url, screenshots / name))
        people[-1].log_in(name, password)
        people[-1].page.goto(f"{label_studio.url}/projects/{project.id}/data")
    for ui in people:
        ui.label_all_tasks()

    served: list[int] = []

    def label(count: int, *, blank: bool) -> list[tuple[int, list[str]]]:
        """They take turns with so many tasks: each task and what was filled in before it was labeled."""
        seen = []
        for turn in range(count):
            ui = people[turn % 2]
            task = ui.task_shown()
            if not blank:
                ui.page.locator(".lsf-choices input:checked").first.wait_for()
            ui.shot(f"task-{task}")
            seen.append((task, checked(ui)))
            served.append(task)
            if blank:
                ui.submit(right[task])
            else:
                ui.confirm()
        return seen

    assert label(8, blank=True) == [(task, []) for task in picks]
    # Suggestions for all others, while both have a control task before them.
    backend(label_studio, data, "suggest", project.id)
    assert label(4, blank=True) == [(task, []) for task in control[:4]]
    open_now = [ui.task_shown() for ui in people]
    assert open_now == control[4:6]
    for task in control[6:]:
        client.annotate(task, [choice(right[task])])
    backend(label_studio, data, "suggest", project.id, "--review")
    assert label(2, blank=True) == [(task, []) for task in control[4:6]]

    version = project.now.model_version
    rows: list[dict[str, Any]] = client.http.json("GET", "/api/predictions/", params={"project": project.id})
    rows = [row for row in rows if row["model_version"] == version and row["result"]]
    rows.sort(key=lambda row: (row["score"], row["task"]))
    assert {row["task"] for row in rows} == set(right) - set(picks) - set(control)
    filled = [(row["task"], row["result"][0]["value"]["choices"]) for row in rows]
    assert label(6, blank=False) == filled[:6]
    assert len(set(served)) == len(served)
    for task, chosen in filled[:6]:
        (made,) = client.annotations(task)
        (region,) = made["result"]
        assert (region["value"]["choices"], region["origin"]) == (chosen, "prediction")

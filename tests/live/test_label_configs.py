"""A project for each label config that Label Studio shows, selected from on a real server."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from live_studio import LiveProject, LiveStudio
from shell import Shell
from shown_configs import SHOWN, Shown

from usl_backend.demo.dataset import write_images

MakeProject = Callable[..., LiveProject]
FOLDER = "pics"
TASKS = 6
PUBLISHED = ("index", "list of pictures", "Repeater", "custom interface, but data_key says what to read")
"""Kinds whose queue is published; for the others it would be the same again."""


@pytest.fixture(scope="module")
def folder(label_studio: LiveStudio) -> str:
    """Pictures a0.png, b0.png, a1.png, ... below Label Studio's local files."""
    target = label_studio.documents_root / FOLDER
    target.mkdir(exist_ok=True)
    written = iter(write_images(target))
    for number in range(TASKS):
        for letter in "ab":
            next(written).rename(target / f"{letter}{number}.png")
    return FOLDER


def filled(value: Any, number: int) -> Any:
    """The data of a task, or what it shows: the case's, with real addresses and the task's number."""
    text = json.dumps(value).replace("{n}", str(number))
    return json.loads(
        text.replace('"/a', f'"/data/local-files/?d={FOLDER}/a').replace(
            '"/b', f'"/data/local-files/?d={FOLDER}/b'
        )
    )


@pytest.mark.parametrize("case", SHOWN, ids=lambda case: case.kind)
def test_select__what_annotators_see_is_what_is_embedded(
    case: Shown, folder: str, shell: Shell, make_project: MakeProject
) -> None:
    tasks = [filled(case.data, number) for number in range(TASKS)]
    project = make_project(label_config=case.config, data=tasks)
    chosen = ["--data-key", case.data_key] if case.data_key else []
    told = shell(
        "select",
        project.id,
        "--budget",
        2,
        "--json",
        *chosen,
        *([] if case.kind in PUBLISHED else ["--dry-run"]),
    )
    assert told.code == 0, told.err
    run = told.json
    shown = {task: filled(case.shown, number) for number, task in enumerate(project.tasks)}
    instances = shell.store.files(run["id"]).read_instances()
    assert {one.id: list(one.sources) for one in instances} == shown
    pool = run["summary"]["pool"]
    assert (pool["readable"], pool.get("several", 0)) == (TASKS, TASKS * (len(case.shown) > 1))
    assert (run["summary"]["warnings"], run["summary"]["skipped"]["count"]) == ([], 0)
    assert project.now.model_version == (run["summary"]["model_version"] or "")


def test_select__one_broken_picture_of_several_is_left_out_alone(
    folder: str, shell: Shell, make_project: MakeProject
) -> None:
    case = next(case for case in SHOWN if case.kind == "valueList")
    tasks = [filled(case.data, number) for number in range(TASKS)]
    tasks[3]["pages"][0] = f"/data/local-files/?d={folder}/none.png"
    tasks[4]["pages"] = [f"/data/local-files/?d={folder}/none.png"] * 2
    project = make_project(label_config=case.config, data=tasks)
    told = shell("select", project.id, "--budget", 2)
    assert told.code == 0, told.err
    assert f"{TASKS} tasks show several images or texts; the row of each is their mean" in told.out
    said = f"the first is task {project.tasks[3]}: 1 of 2 images left out, the first is number 1: "
    assert said in told.out
    (run,) = shell.store.list()
    pool, _ = shell.store.files(run.id).read_pool()
    assert list(pool.incomplete) == [project.tasks[3]]
    assert list(pool.skipped) == [project.tasks[4]]
    exported = shell.data / "export"
    assert shell("export", project.id, "--output", exported, "--format", "jsonl").code == 0
    rows = [json.loads(line) for line in (exported / "unlabeled.jsonl").read_text().splitlines()]
    assert {row["task"]: row["sources"] for row in rows}[project.tasks[3]] == tasks[3]["pages"]

"""The control set on a real Label Studio: served right behind the picks, told apart in the export."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

from live_studio import LiveProject, choice
from shell import Shell, local

from usl_backend.demo import dataset
from usl_backend.studio.client import StudioClient


def test_control__is_served_behind_the_picks_and_named_in_the_export(
    shell: Shell,
    make_project: Callable[..., LiveProject],
    pictures: list[str],
    second_annotator: StudioClient,
    tmp_path: Path,
) -> None:
    project = make_project(data=[local(name) for name in pictures[:60]])
    told = shell("select", project.id, "--budget", 20, "--control", 15, "--reserve", 3)
    assert told.code == 0, told.err
    assert ", 15 in the control set and 3 in reserve" in told.out
    run = shell.store.latest(project.id)
    assert run is not None
    entries = shell.store.files(run.id).read_published().queue.places
    drawn = [entry.instance for entry in entries if entry.control]
    behind = [entry.instance for entry in entries if entry.role == "control"]
    assert len(drawn) == 15
    assert 0 < len(behind) < 15
    ranked = [entry.instance for entry in entries]
    assert project.model_versions() == {run.summary.model_version: len(ranked)}

    served = project.serve([project.client, second_annotator], 20 + len(behind) + 1)
    assert served == ranked[: len(served)]

    told = shell("export", project.id, "--output", tmp_path / "split", "--format", "csv", "--json")
    assert told.code == 0, told.err
    manifest = json.loads((tmp_path / "split" / "manifest.json").read_text("utf-8"))
    assert manifest["control_set"] == drawn
    with (tmp_path / "split" / "labeled.csv").open(newline="") as stream:
        roles = {int(row["task"]): row["role"] for row in csv.DictReader(stream)}
    assert [task for task in ranked if roles.get(task) == "control"] == behind


def test_report__measures_the_picks_on_the_labeled_control_set(
    shell: Shell, make_project: Callable[..., LiveProject], pictures: list[str], tmp_path: Path
) -> None:
    project = make_project(data=[local(name) for name in pictures[:120]])
    truth = dict(zip(project.tasks, dataset.load().labels[:120].tolist(), strict=True))
    told = shell("select", project.id, "--budget", 20, "--control", 40, "--reserve", 0)
    assert told.code == 0, told.err
    run = shell.store.latest(project.id)
    assert run is not None
    told = shell("report", run.id)
    assert "too few of the 40 tasks in the control set are labeled for a check" in told.out

    entries = shell.store.files(run.id).read_published().queue.places
    for entry in entries:
        # three kinds of clothes: for the upper body, for the feet, and the rest
        kind = {0: "cat", 2: "cat", 4: "cat", 6: "cat", 5: "dog", 7: "dog", 9: "dog"}.get(
            truth[entry.instance], "owl"
        )
        project.client.annotate(entry.instance, [choice(kind)])
    told = shell("report", run.id, "-o", tmp_path / "report.html", "--json")
    assert told.code == 0, told.err
    labels = told.json["labels"]
    assert labels["picks"] == 20
    assert labels["controls"] == sum(entry.role == "control" for entry in entries) >= 20
    assert labels["low"] < labels["accuracy"] < labels["high"]
    # shoes, bags and shirts are easily told apart; a third would be chance
    assert labels["accuracy"] > 0.6
    page = (tmp_path / "report.html").read_text("utf-8")
    assert (
        f"A nearest-neighbor classifier on 20 labeled picks is right for {100 * labels['accuracy']:.0f} %"
        in page
    )

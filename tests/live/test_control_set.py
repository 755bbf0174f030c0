"""The control set on a real Label Studio: served right behind the picks, told apart in the export."""

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from live_studio import LiveProject, choice
from shell import Shell, local

from usl_backend.demo import dataset
from usl_backend.jobs import Jobs
from usl_backend.settings import HostSettings
from usl_backend.sinks.standing import standing
from usl_backend.studio.client import StudioClient
from usl_backend.studio.preannotations import predictions
from usl_backend.web import create_app


def test_control__is_served_behind_the_picks_and_named_in_the_export(
    shell: Shell,
    make_project: Callable[..., LiveProject],
    pictures: list[str],
    second_annotator: StudioClient,
    tmp_path: Path,
) -> None:
    project = make_project(data=[local(name) for name in pictures[:60]])
    told = shell("select", project.id, "--budget", 20, "--control", 20, "--reserve", 3)
    assert told.code == 0, told.err
    assert ", 20 in the control set and 3 in reserve" in told.out
    run = shell.store.latest(project.id)
    assert run is not None
    entries = shell.store.files(run.id).read_published().queue.places
    drawn = [entry.instance for entry in entries if entry.control]
    behind = [entry.instance for entry in entries if entry.role == "control"]
    assert len(drawn) == 20
    assert 0 < len(behind) < 20
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
    assert "0 of the 40 tasks in the control set count as labeled, 20 more needed; 0 picks are" in told.out

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
    assert labels["controls"] == 40, "drawn picks count"
    assert labels["low"] < labels["accuracy"] < labels["high"]
    # shoes, bags and shirts are easily told apart; a third would be chance
    assert labels["accuracy"] > 0.6
    page = (tmp_path / "report.html").read_text("utf-8")
    assert (
        f"A nearest-neighbor classifier on 20 labeled picks is right for {100 * labels['accuracy']:.0f} %"
        in page
    )


def test_control__after_a_run_is_queued_before_the_reserve_and_grows(
    shell: Shell,
    make_project: Callable[..., LiveProject],
    pictures: list[str],
    second_annotator: StudioClient,
) -> None:
    project = make_project(data=[local(name) for name in pictures[:60]])
    annotators = [project.client, second_annotator]
    told = shell("control", project.id)
    assert told.code == 1
    assert f"project {project.id} has no published queue of usl-backend" in told.err
    # A pre-annotation far behind the queue goes on being shown where it is drawn.
    project.predict(project.tasks[:30], version="other", label="dog")
    told = shell("select", project.id, "--budget", 10, "--reserve", 20, "--json")
    assert told.code == 0, told.err
    run, version = told.json["id"], told.json["summary"]["model_version"]
    before = [entry["task"] for entry in told.json["queue"]]
    files = shell.store.files(run)

    for tasks, words in (
        (19, "nothing can be measured on a control set of fewer than 20"),
        (61, f"tasks is 61 but run {run} has only 60 tasks to draw from; lower tasks to 60 or less"),
    ):
        told = shell("control", project.id, "--tasks", tasks)
        assert told.code == 1
        assert words in told.err
    dry = shell("control", project.id, "--tasks", 24, "--dry-run", "--json")
    assert dry.code == 0, dry.err
    assert not files.read_published().queue.control_set

    told = shell("control", project.id, "--tasks", 24, "--json")
    assert told.code == 0, told.err
    assert told.json["new"] == dry.json["new"]
    assert (told.json["size"], told.json["labeled"], len(told.json["new"])) == (24, 0, 24)
    queue = files.read_published().queue
    behind = queue.of_role("control")
    spares = queue.of_role("reserve")
    assert sorted(queue.control_set) == sorted(told.json["new"])
    assert told.json["picks"] == 24 - len(behind)
    assert set(behind) & set(before[10:]), "spares are drawn too"
    stored = {p.task: p for p in predictions(project.client, project.id) if p.model_version == version}
    ranks = [
        task for task in sorted(stored, key=lambda task: stored[task].score or 0.0) if task in queue.instances
    ]
    assert ranks[:10] == before[:10]
    assert ranks[10 : 10 + len(behind)] == list(behind)
    assert standing(project.client, project.now, store=shell.store, serve=True).kind == "in force"
    assert ranks[10 + len(behind) :] == list(spares)
    assert len(stored) == sum(p.model_version == version for p in predictions(project.client, project.id))
    assert all(bool(p.result) == (task in project.tasks[:30]) for task, p in stored.items())
    run_now = shell.store.get(run)
    assert (run_now.summary.control, run_now.summary.reserve) == (24, len(spares))

    # Once more changes nothing; a larger set keeps the smaller one.
    told = shell("control", project.id, "--tasks", 24, "--json")
    assert (told.json["new"], told.json["queued"]) == ([], 0)
    served = project.serve(annotators, 10 + len(behind) // 2)
    assert served == ranks[: len(served)]
    told = shell("control", project.id, "--tasks", 30)
    assert told.code == 0, told.err
    assert f"run {run}: 30 tasks in the control set, 6 of them new;" in told.out
    grown = files.read_published().queue
    assert set(grown.control_set) > set(queue.control_set)
    left = len(grown.of_role("control")) - len(behind) // 2
    rest = project.serve(annotators, left + 1)
    assert rest[:left] == [task for task in grown.of_role("control") if task not in served]
    assert rest[left] == grown.of_role("reserve")[0]

    told = shell("reset", project.id)
    assert told.code == 0, told.err
    assert set(project.model_versions()) == {"other"}
    told = shell("control", project.id)
    assert told.code == 1
    assert f"project {project.id} has no published queue of usl-backend" in told.err


def test_accuracy__from_control_labels_to_the_next_round(
    shell: Shell, make_project: Callable[..., LiveProject], pictures: list[str], tmp_path: Path
) -> None:
    """Picks, then a control set after the run, then accuracy, an export with suggestions, and the next round."""
    project = make_project(data=[local(name) for name in pictures[:200]])
    truth = dict(zip(project.tasks, dataset.load().labels[:200].tolist(), strict=True))

    def label(tasks: Iterable[int]) -> None:
        for task in tasks:
            kind = {0: "cat", 2: "cat", 4: "cat", 6: "cat", 5: "dog", 7: "dog", 9: "dog"}.get(
                truth[task], "owl"
            )
            project.client.annotate(task, [choice(kind)])

    told = shell("select", project.id, "--budget", 24, "--reserve", 0, "--json")
    assert told.code == 0, told.err
    first = told.json["id"]
    files = shell.store.files(first)
    label(entry["task"] for entry in told.json["queue"])
    told = shell("accuracy", project.id, "--target", 0.4)
    assert told.code == 0, told.err
    assert f"run {first}: no figure: there is no control set; `usl-backend control {project.id}" in told.out
    assert "50 labeled control tasks tell the accuracy to about ±11 points" in told.out
    told = shell("suggest", project.id)
    assert told.code == 0, told.err
    assert shell("control", project.id, "--tasks", 60).code == 0
    queue = files.read_published().queue
    version = project.now.model_version
    stored = {p.task: p for p in predictions(project.client, project.id) if p.model_version == version}
    drawn = queue.of_role("control")
    assert not any(stored[task].result for task in drawn), (
        "a label that was only confirmed would measure nothing"
    )
    open_tasks = sorted(set(stored) - set(queue.of_role("pick")), key=lambda task: stored[task].score or 0.0)
    assert open_tasks[: len(drawn)] == list(drawn)
    assert all(stored[task].result for task in open_tasks[len(drawn) :])
    label(queue.of_role("control"))

    told = shell("accuracy", project.id, "--target", 0.4, "--json")
    assert told.code == 0, told.err
    found = told.json
    assert (found["run"], found["labels"], found["drawn"]) == (first, 24, 60)
    assert found["controls"] == len(queue.of_role("control"))
    assert found["right"]["low"] > 0.4, "three kinds of clothes are told apart"
    assert (found["reached"], found["verdict"], found["would_buy"]) == (True, "reached", [])
    told = shell("accuracy", first, "--target", 0.99)
    assert "target 99 %: not yet: " in told.out
    assert shell("report", first, "-o", tmp_path / "report.html").code == 0
    assert "of the suggestions are right, by" in (tmp_path / "report.html").read_text("utf-8")

    told = shell("export", project.id, "--format", "eman", "--suggested")
    assert told.code == 1
    assert "eman cannot hold suggested labels" in told.err
    told = shell(
        "export", project.id, "--format", "csv", "--output", tmp_path / "split", "--suggested",
        "--min-confidence", 0.2, "--check", "--json",
    )  # fmt: skip
    assert told.code == 0, told.err
    how = told.json["suggested"]
    assert how["confidence"] == "chance of being right"
    with (tmp_path / "split" / "suggested.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert 0 < len(rows) == how["rows"] <= 200 - len(queue)
    assert all(float(row["confidence"]) >= 0.2 for row in rows)
    assert not {int(row["task"]) for row in rows} & set(queue.instances)

    # The same over HTTP.
    host = HostSettings.load({}, environ=shell.environment)
    site = create_app(host, Jobs(shell.store, host)).test_client()
    answer = site.get(f"/usl/api/projects/{project.id}/accuracy?target=0.4")
    assert {**answer.json, "read_at": 0} == {**found, "read_at": 0}
    answer = site.get(f"/usl/api/projects/{project.id}/accuracy?target=4")
    assert (answer.status_code, answer.json["error"]["type"]) == (400, "InputError")
    with (
        site.get(f"/usl/api/runs/{first}/export?format=csv&suggested=true&min_confidence=0.2") as answer,
        zipfile.ZipFile(io.BytesIO(answer.data)) as archive,
    ):
        assert json.loads(archive.read("manifest.json"))["suggested"] == how
        assert len(archive.read("suggested.csv").splitlines()) == how["rows"] + 1

    told = shell("select", project.id, "--budget", 10, "--reserve", 5, "--next")
    assert told.code == 0, told.err
    assert "next round by least-sure-half (chosen among the least sure half of the tasks): " in told.out
    second = shell.store.latest(project.id)
    assert second is not None
    after = shell.store.files(second.id).read_published().queue
    assert set(after.control_set) == set(queue.control_set), "the control set is handed on"
    assert not set(after.of_role("pick")) & set(queue.instances)
    served = project.serve([project.client], 10)
    assert served == list(after.of_role("pick")), "labeled control tasks are not served again"
    told = shell("accuracy", project.id, "--json")
    assert told.code == 0, told.err
    assert told.json["run"] == second.id
    assert told.json["labels"] > 24 - 60 * 24 / 200

"""Round trip on a real Label Studio: select, label by the truth with noise, export in every format, load each."""

import hashlib
import io
import json
import resource
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import pytest
from flask.testing import FlaskClient
from live_studio import LiveProject, LiveStudio
from shell import FOLDER, Shell, local

from usl_backend.demo.dataset import load, write_images
from usl_backend.demo.project import fill
from usl_backend.exports import FORMATS, read_manifest
from usl_backend.jobs import Jobs
from usl_backend.settings import HostSettings
from usl_backend.studio.client import StudioClient
from usl_backend.web import create_app

MakeProject = Callable[..., LiveProject]

CLASSES = (*load().classes, "nobody chose")
CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="choice" toName="image">'
    + "".join(f"<Choice value={quoteattr(name)}/>" for name in CLASSES)
    + "</Choices></View>"
)


def answer(label: str) -> list[dict[str, Any]]:
    value = {"choices": [label]}
    return [{"from_name": "choice", "to_name": "image", "type": "choices", "value": value}]


@pytest.fixture
def labeled(
    shell: Shell, make_project: MakeProject, pictures: list[str], second_annotator: StudioClient
) -> tuple[LiveProject, dict[int, str], dict[str, set[int]]]:
    """A project with a run and noisy labels; the labels that have to come out, and the tasks of each kind of noise."""
    project = make_project(label_config=CONFIG, data=[local(name) for name in pictures[:50]])
    told = shell("select", project.id, "--budget", 14, "--reserve", 3)
    assert told.code == 0, told.err
    told = shell("export", project.id, "--output", shell.data / "early")
    assert told.code == 0, told.err
    assert "0 labeled and 50 unlabeled" in told.out
    assert "nothing is labeled yet" in told.out
    run = shell.store.latest(project.id)
    assert run is not None
    picks = [e.instance for e in shell.store.files(run.id).read_published().queue.places if e.role == "pick"]
    (outside,) = project.add_tasks([local(pictures[60])])
    place = {task: row for row, task in enumerate(project.tasks)} | {outside: 60}
    truth = {task: load().classes[load().labels[place[task]]] for task in place}
    first, second = project.client, second_annotator
    for task in [*picks[:8], outside]:
        first.annotate(task, answer(truth[task]))
    tie, corrected, skipped, rescued, changed, empty = picks[8:14]
    first.annotate(tie, answer(CLASSES[0]))
    second.annotate(tie, answer(CLASSES[1]))
    first.annotate(corrected, answer(CLASSES[1] if truth[corrected] == CLASSES[0] else CLASSES[0]))
    kept = second.annotate(corrected, answer(truth[corrected]))
    first.http.json("PATCH", f"/api/annotations/{kept}/", body={"ground_truth": True})
    first.annotate(skipped, [], was_cancelled=True)
    first.annotate(rescued, [], was_cancelled=True)
    second.annotate(rescued, answer(truth[rescued]))
    old = first.annotate(changed, answer(CLASSES[1] if truth[changed] == CLASSES[0] else CLASSES[0]))
    first.http.json("PATCH", f"/api/annotations/{old}/", body={"result": answer(truth[changed])})
    first.annotate(empty, [])
    right = {task: truth[task] for task in [*picks[:8], outside, corrected, rescued, changed]}
    return project, right, {"tie": {tie}, "skipped": {skipped}, "empty": {empty}, "outside": {outside}}


def test_export__every_format_holds_the_labels(
    labeled: tuple[LiveProject, dict[int, str], dict[str, set[int]]],
    shell: Shell,
    label_studio: LiveStudio,
    pictures: list[str],
    tmp_path: Path,
) -> None:
    project, right, noise = labeled
    tasks = (*project.tasks, *noise["outside"])
    folder = label_studio.documents_root / FOLDER
    names = [*pictures[:50], pictures[60]]
    digest = {
        task: hashlib.sha256((folder / name).read_bytes()).digest()
        for task, name in zip(tasks, names, strict=True)
    }
    assert len(set(digest.values())) == 51
    rest = set(tasks) - set(right) - noise["tie"]
    for name, entry in FORMATS.items():
        if name == "semilearn-text":
            continue  # is for texts
        told = shell(
            "export",
            project.id,
            "--format",
            name,
            "--media",
            "link",
            "--check",
            "-o",
            tmp_path / name,
            "--json",
        )
        assert told.code == 0, (name, told.err)
        assert told.json["checked"] is True
        counts = told.json["counts"]
        assert (counts["labeled"], counts["unlabeled"], counts["conflicts"]) == (12, 38, 1)
        assert (counts["skipped"], counts["empty"], counts["cancelled"], counts["ground_truth"]) == (
            1,
            1,
            2,
            1,
        )
        manifest = read_manifest(tmp_path / name)
        contents = entry.read(tmp_path / name, manifest)
        seen = {
            hashlib.sha256((tmp_path / name / path).read_bytes()).digest(): label
            for path, label in contents.labeled
        }
        assert seen == {digest[task]: (label,) for task, label in right.items()}, name
        left = {hashlib.sha256((tmp_path / name / path).read_bytes()).digest() for path in contents.unlabeled}
        assert left == {digest[task] for task in rest}, name
        assert (manifest["media"]["copied"], manifest["media"]["missing"]) == (0, {})
        assert manifest["contents"]["per_class"]["nobody chose"] == 0
        assert manifest["conflicts"] == [{"task": min(noise["tie"]), "labels": [[CLASSES[0]], [CLASSES[1]]]}]
        told = shell("export", tmp_path / name, "--check")
        assert told.code == 0, told.err
        assert f"{name}, 12 labeled and 38 unlabeled rows, ok" in told.out


def served(shell: Shell) -> FlaskClient:
    """The backend's own HTTP interface over the shell's runs."""
    host = HostSettings.load(environ=shell.environment)
    return create_app(host, Jobs(shell.store, host)).test_client()


KINDS = """<View><Image name="image" value="$image"/><Text name="text" value="$text"/>
<Choices name="nested" toName="text" allowNested="true">
  <Choice value="animal"><Choice value="cat"/><Choice value="dog"/></Choice><Choice value="plant"/></Choices>
<Choices name="own" toName="text" value="$options"/>
<Choices name="several" toName="text" choice="multiple"><Choice value="a"/><Choice value="b"/></Choices>
<Taxonomy name="tree" toName="text"><Choice value="north"><Choice value="sea"/></Choice></Taxonomy>
<RectangleLabels name="boxes" toName="image"><Label value="car"/></RectangleLabels></View>"""


def region(name: str, kind: str, value: list[Any]) -> dict[str, Any]:
    return {"from_name": name, "to_name": "text", "type": kind, "value": {kind: value}}


def test_export__every_kind_of_label(
    shell: Shell, make_project: MakeProject, pictures: list[str], tmp_path: Path
) -> None:
    """One project with all of them; a second run later, so that the picks of the first are outside its pool."""
    data = [
        {**local(name), "text": f"text {row}", "options": [{"value": "zebra"}, {"value": "ant"}]}
        for row, name in enumerate(pictures[:30])
    ]
    project = make_project(label_config=KINDS, data=data)
    told = shell("select", project.id, "--budget", 4, "--data-key", "image")
    assert told.code == 0, told.err
    assert "there are several Choices (nested, own, several), of which --control chooses one" in told.err
    first = shell.store.latest(project.id)
    assert first is not None
    picks = list(shell.store.files(first.id).read_published().queue.of_role("pick"))
    box = region("boxes", "rectanglelabels", ["car"]) | {"to_name": "image", "id": "b1"}
    box["value"] |= {"x": 1.5, "y": 2, "width": 30.25, "height": 4, "rotation": 0}
    given = [
        region("nested", "choices", [["animal", "cat"]]),
        region("own", "choices", ["zebra"]),
        region("several", "choices", ["b", "a"]),
        region("tree", "taxonomy", [["north", "sea"]]),
        box,
    ]
    project.client.annotate(picks[0], given)
    told = shell("select", project.id, "--budget", 3, "--data-key", "image")
    assert told.code == 0, told.err

    def rows(control: str, name: str = "jsonl") -> list[dict[str, Any]]:
        directory = tmp_path / f"{control}-{name}"
        told = shell("export", project.id, "--control", control, "--format", name, "-o", directory, "--check")
        assert (told.code, "no longer has" in told.out) == (0, False), told.err
        lines = (directory / "labeled.jsonl").read_text("utf-8").splitlines() if name == "jsonl" else []
        return [json.loads(line) for line in lines]

    (nested,), (own,), (several,), (tree,) = (rows(one) for one in ("nested", "own", "several", "tree"))
    assert (nested["label"], own["label"], tree["label"]) == ("animal/cat", "zebra", "north/sea")
    assert (several["label"], several["labels"]) == (None, ["a", "b"])
    assert (nested["task"], nested["role"], nested["rank"], nested["run"]) == (picks[0], "pick", 0, first.id)
    (held,), (there,) = nested["annotations"], project.client.annotations(picks[0])
    assert (held["id"], held["result"]) == (there["id"], there["result"])
    assert len(held["result"]) == 5
    classes = {one: read_manifest(tmp_path / f"{one}-jsonl")["classes"] for one in ("nested", "own", "tree")}
    assert classes == {
        "nested": ["animal", "animal/cat", "animal/dog", "plant"],
        "own": ["zebra"],
        "tree": ["north", "north/sea"],
    }
    for name in ("csv", "huggingface"):
        rows("several", name)
        assert read_manifest(tmp_path / f"several-{name}")["contents"]["per_class"] == {"a": 1, "b": 1}
    told = shell("export", project.id, "--control", "several", "--format", "npy", "-o", tmp_path / "npy")
    assert (told.code, (tmp_path / "npy").exists()) == (1, False)
    assert f"format npy holds one class per task, but task {picks[0]} has 2 (a, b)" in told.err
    found = {check["name"]: check for check in shell("doctor", project.id, "--json").json}
    assert "json, jsonl, csv, huggingface" in found["export"]["detail"]


def test_export__http_answers_what_the_shell_writes(
    labeled: tuple[LiveProject, dict[int, str], dict[str, set[int]]],
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project, right, _ = labeled
    run = shell.store.latest(project.id)
    assert run is not None
    client, address = served(shell), f"/usl/api/runs/{run.id}/export"
    with (
        client.get(f"{address}?format=jsonl") as answer,
        zipfile.ZipFile(io.BytesIO(answer.data)) as archive,
    ):
        rows = [json.loads(line) for line in archive.read("labeled.jsonl").splitlines()]
        counts = json.loads(archive.read("manifest.json"))["counts"]
    assert {row["task"]: row["label"] for row in rows} == right
    assert (counts["labeled"], counts["conflicts"], counts["skipped"]) == (12, 1, 1)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for query, said in (
        ("format=parquet", 'format is "parquet"; choose one of json'),
        ("format=names&media=none", "use --media link or --media copy"),
        ("media=link", 'media is "link"; give copy or none'),
        ("control=color", "control is 'color', but the Choices of the label config are: choice"),
    ):
        answer = client.get(f"{address}?{query}")
        assert (answer.status_code, answer.json["error"]["type"]) in {
            (400, "ExportError"),
            (400, "InputError"),
        }
        assert said in answer.json["error"]["message"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        answer = client.get(f"{address}?format=json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (
        "the archive cannot be written (File too large); free disk space" in answer.json["error"]["message"]
    )
    assert list(temporary.iterdir()) == []


def test_export__two_runs_odd_names_and_a_class_that_is_no_more(
    shell: Shell, make_project: MakeProject, label_studio: LiveStudio, pictures: list[str], tmp_path: Path
) -> None:
    """Every run of a project can be exported; the newest is, unless another is named. Nothing odd breaks a file."""
    folder = label_studio.documents_root / FOLDER
    odd = ["comma, blank.png", "line\nbreak.png", "ünï 空 'q\".png"]
    for name, picture in zip(odd, pictures, strict=False):
        (folder / name).write_bytes((folder / picture).read_bytes())
    project = make_project(label_config=CONFIG, data=[local(quote(name)) for name in [*odd, *pictures[3:30]]])
    told = shell("select", project.id, "--budget", 6, "--reserve", 0)
    assert told.code == 0, told.err
    first = shell.store.latest(project.id)
    assert first is not None
    with (  # nothing is labeled yet
        served(shell).get(f"/usl/api/runs/{first.id}/export?format=csv") as early,
        zipfile.ZipFile(io.BytesIO(early.data)) as archive,
    ):
        assert json.loads(archive.read("manifest.json"))["contents"]["labeled"] == 0
        assert len(archive.read("labeled.csv").splitlines()) == 1
    for task in project.tasks[:4]:
        project.client.annotate(task, answer_of(project.tasks.index(task)))
    project.client.annotate(project.tasks[4], answer("class of last year"))
    told = shell("select", project.id, "--budget", 5, "--reserve", 0)
    assert told.code == 0, told.err
    second = shell.store.latest(project.id)
    assert second is not None
    for target, run in ((project.id, second), (first.id, first)):
        for name in ("csv", "eman", "huggingface"):
            out = tmp_path / f"{run.id}-{name}"
            told = shell("export", target, "--format", name, "--output", out, "--check")
            assert told.code == 0, (name, told.err)
            assert (
                "1 tasks have the class 'class of last year', which the label config no longer has"
                in told.out
            )
            manifest = read_manifest(out)
            assert (manifest["run"], manifest["retired_classes"]) == (run.id, {"class of last year": 1})
            assert manifest["classes"] == [*CLASSES, "class of last year"]
            assert (manifest["contents"]["labeled"], manifest["media"]["missing"]) == (5, {})
            queue = shell.store.files(run.id).read_published().queue.places
            ranks = {row["task"]: row["rank"] for row in manifest["rows"] if row.get("run") == run.id}
            assert ranks == {entry.instance: entry.rank for entry in queue}


def answer_of(row: int) -> list[dict[str, Any]]:
    """What the truth says about a bundled picture."""
    return answer(load().classes[load().labels[row]])


def test_export__files_over_http_and_deleted_tasks(
    shell: Shell, make_project: MakeProject, personal_token: str, tmp_path: Path
) -> None:
    """Where Label Studio's disk is not ours, files are fetched; tasks that were deleted are named and left out."""
    project = make_project(label_config=CONFIG)
    names = write_images(tmp_path / "pictures")[:12]
    place = fill(project.client, project.id, names)
    told = shell("select", project.id, "--budget", 4, "--reserve", 2)
    assert told.code == 0, told.err
    right = {task: load().classes[load().labels[place[task]]] for task in list(place)[:6]}
    for task, label in right.items():
        project.client.annotate(task, answer(label))
    gone = [task for task, row in place.items() if row in (0, 11)]
    for task in gone:
        project.client.http.request("DELETE", f"/api/tasks/{task}/").close()
    told = shell(
        "export", project.id, "--format", "huggingface", "--output", tmp_path / "hf", "--json", "--check",
        LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT="", LABEL_STUDIO_API_KEY=personal_token,
    )  # fmt: skip
    assert told.code == 0, told.err
    manifest = read_manifest(tmp_path / "hf")
    assert (manifest["contents"]["labeled"], manifest["contents"]["unlabeled"]) == (5, 5)
    assert (manifest["media"]["copied"], manifest["media"]["hard_links"]) == (10, 0)
    assert manifest["deleted"] == sorted(gone)
    files, labels = zip(*FORMATS["huggingface"].read(tmp_path / "hf", manifest).labeled, strict=True)
    assert [(tmp_path / "hf" / file).read_bytes() for file in files] == [
        names[place[task]].read_bytes() for task in sorted(right) if task not in gone
    ]
    assert labels == tuple((right[task],) for task in sorted(right) if task not in gone)


def test_export__damage_and_refusals(
    labeled: tuple[LiveProject, dict[int, str], dict[str, set[int]]], shell: Shell, tmp_path: Path
) -> None:
    project, _, _ = labeled
    (tmp_path / "file").write_text("")
    told = shell("export", project.id, "--output", tmp_path / "file" / "below")
    assert told.code == 1
    assert "below cannot be written (" in told.err
    told = shell("export", project.id, "--output", tmp_path / "names", "--format", "names", "--media", "none")
    assert told.code == 1
    assert "use --media link or --media copy" in told.err
    told = shell("export", tmp_path, "--check")
    assert told.code == 1
    assert "is not an export of usl-backend" in told.err
    assert shell("export", project.id, "--format", "parquet").code == 2
    told = shell(
        "export", project.id, "--output", tmp_path / "ok", "--format", "mmpretrain", "--media", "copy"
    )
    assert told.code == 0, told.err
    next((tmp_path / "ok" / "media").iterdir()).unlink()
    told = shell("export", tmp_path / "ok", "--check", "--json")
    assert told.code == 1
    assert "is missing" in told.err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    assert json.loads((shell.data / "early" / "manifest.json").read_text())["counts"]["labeled"] == 0


def test_evaluate__labeled_project(
    shell: Shell, make_project: MakeProject, pictures: list[str], tmp_path: Path
) -> None:
    project = make_project(label_config=CONFIG, data=[local(name) for name in pictures[:60]])
    for row, task in enumerate(project.tasks):
        project.client.annotate(task, answer(load().classes[load().labels[row]]), was_cancelled=row == 7)
    told = shell("evaluate", project.id, "--budgets", "10,20", "--seeds", 2, "--methods", "usl", "--json")
    assert told.code == 0, told.err
    assert (told.json["rows"], told.json["budgets"]) == (59, [10, 20])
    assert list(told.json["methods"]) == ["usl", "random"]
    best = max(max(row) for row in told.json["methods"]["usl"]["accuracy"])
    assert 0.4 < best <= 1.0
    empty = make_project(label_config=CONFIG, data=[local(pictures[0])])
    told = shell("evaluate", empty.id)
    assert told.code == 1
    assert f"no task of project {empty.id} has a class" in told.err

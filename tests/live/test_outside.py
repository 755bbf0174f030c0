"""The chosen of a folder become tasks of a real project, and nothing else does."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from live_studio import LiveProject
from moving_pictures import GREY, pdf
from shell import Shell

from usl_backend.demo.dataset import write_images
from usl_backend.errors import StudioError
from usl_backend.studio.client import StudioClient

MakeProject = Callable[..., LiveProject]
TEXTS = """<View><Text name="text" value="$text"/>
<Choices name="choice" toName="text"><Choice value="cat"/><Choice value="dog"/></Choices></View>"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred real pictures in two folders."""
    folder = tmp_path_factory.mktemp("outside") / "photos"
    folder.mkdir()
    for place, path in enumerate(write_images(folder)):
        if place >= 100:
            path.unlink()
        else:
            below = folder / ("odd" if place % 2 else "even")
            below.mkdir(exist_ok=True)
            path.rename(below / path.name)
    return folder


def served(project: LiveProject, annotators: list[StudioClient], count: int) -> list[int]:
    """Ranks that annotators in turn meet."""
    tasks = project.serve(annotators, count)
    data = {task.id: task.data for task in project.client.tasks(project.id, only_unlabeled=False)}
    return [data[task]["usl_rank"] for task in tasks]


def test_import__only_the_chosen_become_tasks_and_come_in_order(
    shell: Shell,
    photos: Path,
    make_project: MakeProject,
    client: StudioClient,
    second_annotator: StudioClient,
    tmp_path: Path,
) -> None:
    project = make_project(5)  # tasks of somebody else
    told = shell(
        "select", photos, "--budget", 8, "--reserve", 3, "--control", 20, "--import-to", project.id, "--json"
    )
    assert told.code == 0, told.err
    queue = told.json["queue"]
    tasks = {task.id: task.data for task in client.tasks(project.id, only_unlabeled=False)}
    ours = {task: data for task, data in tasks.items() if task not in project.tasks}
    assert set(project.tasks) < set(tasks)
    assert sorted(ours) == sorted(entry["studio_task"] for entry in queue)
    for entry in queue:
        data = ours[entry["studio_task"]]
        assert (data["usl_rank"], data["usl_role"], data["usl_run"]) == (
            entry["rank"],
            entry["role"],
            "photos-1",
        )
        assert data["usl_source"] == str(photos / data["usl_id"])
        shown = client.http.request("GET", data["image"]).content
        assert shown == Path(data["usl_source"]).read_bytes()  # annotators see the very picture
    assert served(project, [client, second_annotator], 8) == list(range(8))

    # the labels come back to the folder: every picture is a row, and only the labeled ones have one
    exported = shell("export", "photos-1", "-o", tmp_path / "out", "--media", "copy", "--check")
    assert exported.code == 0, exported.err
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    labeled = [row for row in manifest["rows"] if row["part"] == "labeled"]
    assert len(manifest["rows"]) == 100
    assert [row["id"] for row in sorted(labeled, key=lambda row: row["rank"])] == [
        ours[entry["studio_task"]]["usl_id"] for entry in queue[:8]
    ]
    assert (tmp_path / "out" / labeled[0]["file"]).read_bytes() == Path(labeled[0]["source"]).read_bytes()

    # taken back: what nobody labeled goes, what somebody labeled stays and is named
    taken = shell("reset", "photos-1", "--json")
    assert taken.code == 0, taken.err
    left = {task.id for task in client.tasks(project.id, only_unlabeled=False)}
    assert left == {*project.tasks, *(entry["studio_task"] for entry in queue[:8])}
    assert "8 tasks have annotations" in str(taken.json["left"])
    assert project.now.model_version in (None, "")
    names = [
        row["file"] for row in client.http.json("GET", f"/api/projects/{project.id}/file-uploads?all=true")
    ]
    assert len(names) == 8


def test_import__repeated_makes_nothing_twice(
    shell: Shell, photos: Path, make_project: MakeProject, client: StudioClient
) -> None:
    project = make_project(0)
    for number in (1, 2):
        told = shell("select", photos, "--budget", 6, "--reserve", 2, "--import-to", project.id, "--json")
        assert told.code == 0, told.err
        data = [task.data for task in client.tasks(project.id, only_unlabeled=False)]
        assert sorted(one["usl_rank"] for one in data) == list(range(8))
        assert {one["usl_run"] for one in data} == {f"photos-{number}"}
    # a larger budget takes the tasks that are there and adds the others, ranked anew
    told = shell("select", photos, "--budget", 9, "--reserve", 2, "--import-to", project.id, "--json").json
    tasks = {task.id: task.data for task in client.tasks(project.id, only_unlabeled=False)}
    assert {tasks[entry["studio_task"]]["usl_rank"] for entry in told["queue"]} == set(range(11))
    assert served(project, [client], 3) == [0, 1, 2]


def test_import__interrupted_goes_on_where_it_stopped(
    shell: Shell,
    photos: Path,
    make_project: MakeProject,
    client: StudioClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from usl_backend.studio import imports

    project = make_project(0)
    batches = imports.TASKS_PER_CALL
    monkeypatch.setattr(imports, "TASKS_PER_CALL", 3)
    send = imports.Uploads.send
    sent: list[int] = []

    def failing(self: imports.Uploads, files: list[imports.Upload]) -> list[str]:
        sent.append(len(files))
        if len(sent) == 2:
            send(self, files[:1])  # one file of the batch is there already when the connection breaks
            raise StudioError("Label Studio went away")
        return send(self, files)

    monkeypatch.setattr(imports.Uploads, "send", failing)
    broken = shell("select", photos, "--budget", 6, "--reserve", 2, "--import-to", project.id)
    assert broken.code == 1
    assert "Label Studio went away" in broken.err
    assert len(list(client.tasks(project.id))) == 3
    monkeypatch.setattr(imports.Uploads, "send", send)
    monkeypatch.setattr(imports, "TASKS_PER_CALL", batches)
    told = shell("resume", "photos-1", "--json")
    assert told.code == 0, told.err
    data = [task.data for task in client.tasks(project.id)]
    assert sorted(one["usl_rank"] for one in data) == list(range(8))
    assert len(client.http.json("GET", f"/api/projects/{project.id}/file-uploads?all=true")) == 8


def test_import__what_cannot_be_imported_is_refused_before_anything_is_made(
    shell: Shell, photos: Path, make_project: MakeProject, client: StudioClient
) -> None:
    texts = make_project(0, TEXTS)
    told = shell("select", photos, "--budget", 3, "--import-to", texts.id)
    assert told.code == 1
    assert 'shows Text "text", but each row of the pool is one image' in told.err
    images = make_project(0)
    told = shell("select", photos, "--budget", 3, "--import-to", images.id, "--import-as", "url")
    assert told.code == 1
    assert "is a local file without a URL; use --import-as upload" in told.err
    assert not list(client.tasks(images.id))
    told = shell("select", photos, "--budget", 3, "--import-to", images.id, "--import-as", "local-files")
    assert "is not under Label Studio's local-files root" in told.err


def test_import__texts_stand_in_their_tasks(shell: Shell, make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(0, TEXTS)
    lines = [
        f'n{row},"{"the cat sat on mat" if row % 2 else "stocks fell again on"} number {row}"'
        for row in range(30)
    ]
    (tmp_path / "t.csv").write_text(
        "id,text\n" + "\n".join([*lines, "n30,", f'n31,"{"long words " * 90_000}"'])
    )
    told = shell(
        "select", tmp_path / "t.csv", "--budget", 4, "--reserve", 1, "--import-to", project.id, "--json"
    )
    assert told.code == 0, told.err
    assert told.json["summary"]["skipped"]["first"] == [{"task": 30, "reason": '"text" is empty'}]
    assert told.json["summary"]["pool"]["readable"] == 31  # the megabyte among them
    data = sorted((task.data for task in project.client.tasks(project.id)), key=lambda one: one["usl_rank"])
    texts = dict(line.split(",", 1) for line in lines)
    assert [one["text"] for one in data if one["usl_id"] != "n31"] == [
        texts[one["usl_id"]].strip('"') for one in data if one["usl_id"] != "n31"
    ]


def test_import__pdfs_are_uploaded_whole_where_a_pdf_tag_shows_them(
    shell: Shell, photos: Path, make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project(
        0,
        label_config='<View><Pdf name="p" value="$paper"/><Choices name="c" toName="p"><Choice value="a"/>'
        '<Choice value="b"/></Choices></View>',
    )
    folder = tmp_path / "papers"
    folder.mkdir()
    for row in range(12):
        (folder / f"{row}.pdf").write_bytes(pdf([(GREY, f"words number {row}")]))
    told = shell("select", folder, "--budget", 3, "--reserve", 0, "--import-to", project.id)
    assert told.code == 0, told.err
    tasks = list(project.client.tasks(project.id, only_unlabeled=False))
    assert len(tasks) == 3
    for task in tasks:
        shown = project.client.http.request("GET", task.data["paper"]).content
        assert shown == Path(task.data["usl_source"]).read_bytes()

    (folder / "photo.png").write_bytes(next(photos.glob("even/*.png")).read_bytes())
    refused = shell("select", folder, "--budget", 13, "--reserve", 0, "--import-to", project.id)
    assert refused.code == 1
    assert "photo.png is no pdf, but the project shows files by Pdf 'p'; choose a project with" in refused.err
    assert len(list(project.client.tasks(project.id, only_unlabeled=False))) == 3


def test_import__pdfs_chosen_by_their_texts_are_shown_by_their_first_page(
    shell: Shell, make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project(0)
    folder = tmp_path / "papers"
    folder.mkdir()
    for row in range(12):
        (folder / f"{row}.pdf").write_bytes(pdf([(GREY, f"words number {row}")]))
    told = shell(
        "select",
        folder,
        "--data-key",
        "text:path",
        "--budget",
        3,
        "--reserve",
        0,
        "--import-to",
        project.id,
        "--json",
    )
    assert told.code == 0, told.err
    for task in project.client.tasks(project.id, only_unlabeled=False):
        shown = project.client.http.request("GET", task.data["image"]).content
        assert shown[:4] == b"\x89PNG"
        assert Path(task.data["usl_source"]).parent == folder
    project.serve([project.client], 1)
    out = tmp_path / "out"
    exported = shell("export", told.json["id"], "-o", out, "--format", "jsonl", "--media", "copy", "--check")
    assert exported.code == 0, exported.err
    (row,) = map(json.loads, (out / "labeled.jsonl").read_text().splitlines())
    assert (out / row["file"]).read_bytes()[:5] == b"%PDF-"


def test_import__file_names_that_are_no_utf8(shell: Shell, tmp_path: Path, make_project: MakeProject) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for place, path in enumerate(write_images(folder)):
        if place >= 12:
            path.unlink()
        else:
            path.rename(os.fsdecode(os.fsencode(folder) + b"/\xef%d.png" % place))
    project = make_project(data=[])
    ask = ("select", folder, "--method", "random", "--budget", 3, "--reserve", 0, "--import-to", project.id)
    assert shell(*ask).code == 0
    # Label Studio would answer 500 whenever it lists a project that has such a name as it is.
    data = [task.data for task in project.client.tasks(project.id, only_unlabeled=False)]
    assert [(one["usl_id"][:7], one["usl_source"].startswith(f"{folder}/\\udcef")) for one in data] == [
        ("\\udcef" + one["usl_id"][6], True) for one in data
    ]
    assert shell("reset", "photos-1").code == 0
